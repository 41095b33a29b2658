"""Files that are there in full or not at all."""

import contextlib
import gzip
import os
from collections.abc import Callable
from typing import IO


def replace(path: str | os.PathLike, write: Callable[[IO[bytes]], None]) -> None:
  """Writes a file beside `path` and moves it there once it is safely on disk."""
  path = os.fspath(path)
  try:
    with open(path + ".tmp", "wb") as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.unlink(path + ".tmp")
    raise


def write_gzip(path: str | os.PathLike, data: bytes) -> None:
  """Writes a gzip file without name or time stamp, so that equal data are equal files."""

  def write(raw: IO[bytes]) -> None:
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as file:
      file.write(data)

  replace(path, write)
