"""Files that are there in full or not at all, and those that are damaged."""

import contextlib
import gzip
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable
from typing import IO

# What reading a damaged file raises. The last of a zip file's: it seems to have a password, or a
# method of compression that there is not.
DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)
DAMAGED_ZIP = (EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)


def replace(path: str | os.PathLike, write: Callable[[IO[bytes]], None]) -> None:
  """Writes a file beside `path` and moves it there once it is safely on disk.

  Of several writers at a time the last one wins, with all of its file.
  """
  path = os.fspath(path)
  scratch = f"{path}.{secrets.token_hex(4)}.tmp"
  try:
    with open(scratch, "xb") as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    os.replace(scratch, path)
  except BaseException:
    with contextlib.suppress(OSError):
      os.unlink(scratch)
    raise


def write_gzip(path: str | os.PathLike, data: bytes) -> None:
  """Writes a gzip file without name or time stamp, so that equal data are equal files."""

  def write(raw: IO[bytes]) -> None:
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as file:
      file.write(data)

  replace(path, write)
