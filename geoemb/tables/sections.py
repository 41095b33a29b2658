"""Arrays by name in one file that is mapped into memory, not read.

A file is 64 bytes of head, the arrays, each at a multiple of 64 bytes, and a description in JSON:

    0   8 bytes   the format and its version, GEOEMBS1
    8   u64       where the description begins
    16  u64       its length; the file ends with it
    24  u32       its CRC-32
    28  u32       the CRC-32 of the bytes before

All numbers are little-endian. The description has what the writer wants to say, `about`, and for
every array its dtype, place, length and CRC-32. Opening checks the head, the description and the
length of the file and takes as long for any size; `verify` reads all of it. A writer builds a file
beside the one it replaces and moves it there when all of it is on the disk, so that a reader has
the old one or the new one; those who have the old one open keep it.
"""

import contextlib
import json
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

_MAGIC = b"GEOEMBS1"
_HEAD = struct.Struct("<8sQQI")
_ALIGN = 64
_CHUNK = 1 << 24  # bytes at a time that `verify` reads
_DTYPES = {
  name: np.dtype(getattr(ml_dtypes, name, name))
  for name in ("uint8", "uint32", "uint64", "int64", "float16", "bfloat16", "float32", "float64")
}


class Writer:
  """Writes a file array by array, each in as many parts as one likes.

  A context: it replaces `path` when it ends without an exception, and otherwise leaves it alone.
  """

  def __init__(self, path: str | os.PathLike):
    self._path = os.fspath(path)
    self._scratch = f"{self._path}.{secrets.token_hex(4)}.tmp"
    self._sections: dict[str, dict[str, Any]] = {}
    self._about: Mapping[str, Any] = {}

  def __enter__(self) -> "Writer":
    self._file = open(self._scratch, "xb")  # noqa: SIM115 (closed in __exit__)
    self._file.write(bytes(_ALIGN))
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      if kind is None:
        self._finish()
      self._file.close()
      if kind is None:
        os.replace(self._scratch, self._path)
    finally:
      self._file.close()
      with contextlib.suppress(OSError):
        os.unlink(self._scratch)

  def begin(self, name: str, dtype: np.dtype | str) -> None:
    """The parts that follow belong to the array `name`."""
    self._pad()
    self._now = {"dtype": _name(dtype), "offset": self._file.tell(), "size": 0, "crc32": 0}
    self._sections[name] = self._now

  def add(self, part: np.ndarray) -> None:
    """The next elements of the array, [...], which is flat in the file."""
    part = np.ascontiguousarray(part, _DTYPES[self._now["dtype"]])
    data = part.reshape(-1).view(np.uint8)
    self._file.write(data)
    self._now["crc32"] = zlib.crc32(data, self._now["crc32"])
    self._now["size"] += part.size

  def describe(self, about: Mapping[str, Any]) -> None:
    """What readers find in `about`: names, numbers, lists."""
    self._about = about

  def _pad(self) -> None:
    self._file.write(bytes(-self._file.tell() % _ALIGN))

  def _finish(self) -> None:
    self._pad()
    offset = self._file.tell()
    text = json.dumps({"about": self._about, "arrays": self._sections}, allow_nan=False).encode()
    self._file.write(text)
    head = _HEAD.pack(_MAGIC, offset, len(text), zlib.crc32(text))
    self._file.seek(0)
    self._file.write(head + _seal(head))
    self._file.flush()
    os.fsync(self._file.fileno())


class Reader:
  """A file's arrays, [size] each, read-only views of the mapped file.

  Attributes:
    path: the file.
    about: what the writer said.
    arrays: by name.
  """

  def __init__(self, path: str | os.PathLike, kind: str = "store of vectors"):
    """Opens a file; its data are not read.

    Args:
      path: the file.
      kind: what messages call it.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is of another kind, cut short, or its head or description was changed.
    """
    self.path = os.fspath(path)
    with open(self.path, "rb") as file:
      size = os.fstat(file.fileno()).st_size
      head = file.read(_HEAD.size + 4)
      if not head.startswith(_MAGIC):
        raise ValueError(f"{self.path} is no {kind}: it begins with {head[:8]!r}")
      if head[_HEAD.size :] != _seal(head[: _HEAD.size]):
        raise ValueError(f"{self.path} is damaged: the checksum of its head is wrong")
      _, offset, length, crc = _HEAD.unpack_from(head)
      if size != offset + length:
        raise ValueError(f"{self.path} is cut short: {size:,} bytes of {offset + length:,}")
      self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    text = self._map[offset:]
    if zlib.crc32(text) != crc:
      raise ValueError(f"{self.path} is damaged: the checksum of its description is wrong")
    try:
      description = json.loads(text)
      self.about, self._sections = description["about"], description["arrays"]
      self.arrays = {
        name: np.frombuffer(self._map, np.uint8, s["size"] * _DTYPES[s["dtype"]].itemsize,
                            s["offset"]).view(_DTYPES[s["dtype"]])
        for name, s in self._sections.items()
      }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(f"{self.path} has a description that does not fit it: {error}") from error

  def verify(self, *names: str) -> None:
    """Reads the arrays of these names, all by default, and compares their checksums.

    Raises:
      ValueError: an array is not what was written.
    """
    for name in names or self.arrays:
      data, crc = self.arrays[name].view(np.uint8), 0
      for i in range(0, len(data), _CHUNK):
        crc = zlib.crc32(data[i : i + _CHUNK], crc)
      if crc != self._sections[name]["crc32"]:
        raise ValueError(f"{self.path} is damaged: the checksum of its {name} is wrong")


def dtype_of(name: np.dtype | str) -> np.dtype:
  """The dtype of that name, bfloat16 included."""
  return _DTYPES[_name(name)]


def _name(dtype: np.dtype | str) -> str:
  name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
  if name not in _DTYPES:
    raise ValueError(f"the dtype must be one of {', '.join(_DTYPES)}, got {name}")
  return name


def _seal(head: bytes) -> bytes:
  """The checksum that follows a head."""
  return struct.pack("<I", zlib.crc32(head))
