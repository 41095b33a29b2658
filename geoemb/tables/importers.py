"""Stores from the files of others, block by block: a file need not fit into memory.

    importers.word2vec_text("glove.6B.100d.txt.gz", "glove.vectors")

Each function writes a store that replaces `target` only when all of `source` was read. A fault of
the source is a ValueError of one line, with the number of its line or vector.
"""

import codecs
import contextlib
import gzip
import itertools
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from geoemb.data import files
from geoemb.tables import embedding, sections
from geoemb.tables.store import Curvature, Writer, write

_NUMBERS = 1 << 18  # of a block; as Python's numbers, which text becomes, 20 MB
_READ = 1 << 20  # bytes at a time
_LONGEST = 1 << 16  # bytes of a key of the binary format


def word2vec_text(
  source: str | os.PathLike,
  target: str | os.PathLike,
  manifold: str = "euclidean",
  c: Curvature = 1.0,
  *,
  dtype: np.dtype | str = np.float32,
  **options: Any,
) -> None:
  """From lines "key x1 … xd", plain or gzip: word2vec's with a line "n d" before, or GloVe's.

  Keys may have blanks in them, but not that of the first line where no "n d" stands before. A byte
  order mark is skipped. `options` are those of `Writer`.
  """
  with _open(source) as file:
    lines = enumerate(file, 1)
    first = next(lines, (0, b""))[1].removeprefix(codecs.BOM_UTF8)
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
      n, d = map(int, fields)
      skipped = 1
    else:
      n, d, skipped = None, len(fields) - 1, 0
      lines = itertools.chain([(1, first)], lines)
    if d < 1:
      raise ValueError(
        f"{source}, line 1: expected a key and numbers, or two counts, got {first!r}"
      )
    where = lambda row: f"{source}, line {row + skipped + 1}"
    rows, wide, widest = 0, 0, None
    with Writer(target, manifold, c, dtype=dtype, where=where, **options) as out:
      for block in _blocks(_nonblank(source, lines), max(1, _NUMBERS // d)):
        keys, fields = [], []
        for number, line in block:
          key, *numbers = line.rsplit(None, d)
          if len(numbers) != d:
            raise ValueError(
              f"{source}, line {number}: expected a key and {d} numbers, got {len(line.split())} "
              "fields"
            )
          keys.append(_decode(key, f"{source}, line {number}"))
          fields += numbers
          if surplus := _surplus(key):
            wide += 1
            widest = widest or (number, d + surplus)
        out.add(keys, _numbers(fields, source, block[0][0], d).reshape(-1, d))
        rows += len(block)
      if 2 * wide > rows:  # keys may end in a number, but most of them do where d is too small
        number, found = widest
        raise ValueError(
          f"{source}, line {number}: expected a key and {d} numbers, got {found} numbers"
        )
      if n is not None and n != rows:
        raise ValueError(f"{source}: its first line promises {n} vectors, it has {rows}")


def word2vec_binary(
  source: str | os.PathLike,
  target: str | os.PathLike,
  manifold: str = "euclidean",
  c: Curvature = 1.0,
  *,
  dtype: np.dtype | str = np.float32,
  **options: Any,
) -> None:
  """From word2vec's binary format, plain or gzip: "n d", then n times a key, a blank, d float32.

  `options` are those of `Writer`.
  """
  where = lambda row: f"{source}, vector {row + 1}"
  with _open(source) as file:
    first = file.readline(_LONGEST)
    fields = first.split()
    if len(fields) != 2 or not all(f.isdigit() and int(f) for f in fields):
      raise ValueError(f"{source}: expected its first line to be two counts, got {first[:40]!r}")
    n, d = map(int, fields)
    buffer = b""
    with Writer(target, manifold, c, dtype=dtype, where=where, **options) as out:
      for start in range(0, n, max(1, _NUMBERS // d)):
        keys, parts = [], []
        at = 0
        for row in range(start, min(n, start + max(1, _NUMBERS // d))):
          while (blank := buffer.find(b" ", at)) < 0 or len(buffer) < blank + 1 + 4 * d:
            if blank < 0 and len(buffer) - at > _LONGEST:
              raise ValueError(f"{where(row)}: no blank ends the key")
            if not (more := file.read(_READ)):
              raise ValueError(f"{where(row)}: the file ends here, {n} vectors are promised")
            buffer, at = buffer[at:] + more, 0
          keys.append(_decode(buffer[at:blank].lstrip(b"\n"), where(row)))
          at = blank + 1 + 4 * d
          parts.append(buffer[blank + 1 : at])
        buffer = buffer[at:]
        out.add(keys, np.frombuffer(b"".join(parts), "<f4").reshape(-1, d))
      if (buffer + file.read(2)).strip(b"\n"):
        raise ValueError(f"{source}: {n} vectors are promised, and more follows them")


def run(source: str | os.PathLike, target: str | os.PathLike, **options: Any) -> None:
  """From a run's folder or its embedding.npz; that is read into memory. Options of `Writer`."""
  points = embedding.Embedding.load(source)
  write(target, points.names, points.table, points.manifold, points.c, **options)


def safetensors(
  source: str | os.PathLike,
  target: str | os.PathLike,
  keys: Sequence[str],
  manifold: str = "euclidean",
  c: Curvature = 1.0,
  *,
  tensor: str | None = None,
  **options: Any,
) -> None:
  """From a tensor [n, point] of a file of safetensors, which is mapped into memory.

  The format is eight bytes of length, a description in JSON of that length, and the data.

  Args:
    source: the file.
    target: the store.
    keys: n of them; the format has no place for them.
    manifold: a name for `manifolds.make`.
    c: its curvature.
    tensor: its name; needed if there are several.
    **options: those of `Writer`.
  """
  with open(source, "rb") as file:
    size = os.fstat(file.fileno()).st_size
    try:
      (length,) = struct.unpack("<Q", file.read(8))
      if length > size - 8:
        raise ValueError(f"its description of {length} bytes is longer than the file")
      found = json.loads(file.read(length))
      found.pop("__metadata__", None)
      name = tensor or (next(iter(found)) if len(found) == 1 else "")
      if name not in found:
        raise ValueError(f"expected the name of one of its tensors {sorted(found)}, got {tensor!r}")
      dtype = sections.dtype_of(_SAFETENSORS.get(found[name]["dtype"], found[name]["dtype"]))
      shape, (begin, end) = tuple(found[name]["shape"]), found[name]["data_offsets"]
      if not shape or not all(type(i) is int and i >= 0 for i in (*shape, begin, end)):
        raise ValueError(f"the tensor {name!r} has the shape {shape} and the place {begin}:{end}")
      if end - begin != math.prod(shape) * dtype.itemsize or 8 + length + end > size:
        raise ValueError(f"the tensor {name!r} is cut short")
    except (struct.error, AttributeError, KeyError, TypeError, ValueError) as error:
      raise ValueError(f"{source} cannot be read as safetensors: {error}") from error
  data = np.memmap(source, np.uint8, "r", 8 + length + begin, (end - begin,))
  write(target, keys, data.view(dtype).reshape(shape), manifold, c, **options)


_SAFETENSORS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@contextlib.contextmanager
def _open(source: str | os.PathLike) -> Iterator[IO[bytes]]:
  with open(source, "rb") as file:
    compressed = file.read(2) == b"\x1f\x8b"
  try:
    with (gzip.open if compressed else open)(source, "rb") as file:
      yield file
  except files.DAMAGED_GZIP as error:
    raise ValueError(f"{source} is damaged: {error}") from error


def _surplus(key: bytes) -> int:
  """How many numbers other than counts a key of several words ends with."""
  words = reversed(key.split()[1:])
  return sum(1 for _ in itertools.takewhile(_is_fraction, words))


def _is_fraction(word: bytes) -> bool:
  try:
    return not word.isdigit() and math.isfinite(float(word))
  except ValueError:
    return False


def _nonblank(
  source: str | os.PathLike, lines: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, bytes]]:
  """Numbered lines; blank ones are errors, but for those that end the file."""
  blank, number = 0, 0
  try:
    for number, line in lines:
      if not line.strip():
        blank = blank or number
      elif blank:
        raise ValueError(f"{source}, line {blank}: expected a key and numbers, got a blank line")
      else:
        yield number, line
  except files.DAMAGED_GZIP as error:
    raise ValueError(f"{source}, after line {number}: {error}") from error


def _blocks(items: Iterable, size: int) -> Iterator[list]:
  items = iter(items)
  while block := list(itertools.islice(items, size)):
    yield block


def _numbers(fields: list[bytes], source: str | os.PathLike, first: int, d: int) -> np.ndarray:
  try:
    return np.array(list(map(float, fields)))
  except ValueError:
    for i, field in enumerate(fields):
      try:
        float(field)
      except ValueError:
        where = f"{source}, line {first + i // d}"
        raise ValueError(f"{where}: expected a number, got {field[:40]!r}") from None
    raise


def _decode(key: bytes, where: str) -> str:
  try:
    return key.decode()
  except UnicodeDecodeError as error:
    raise ValueError(f"{where}: the key {key[:40]!r} is no UTF-8") from error
