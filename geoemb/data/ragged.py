"""Rows of different lengths as fixed shapes, so that little is padding and few programs compile."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from geoemb.typing import ArrayLike

LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class Ragged(NamedTuple):
  """n bags of vectors; those of bag i are vectors[start[i] : start[i + 1]]."""

  vectors: np.ndarray  # [t, d]
  start: np.ndarray  # [n + 1] int64, ascending from 0


class Packed(NamedTuple):
  """A batch of rows that lie one after another in lines of one length."""

  rows: np.ndarray  # [k] which, int64
  place: np.ndarray  # [k] where each begins in the flattened batch, of `size` times `length`
  size: int  # lines
  length: int


class Group(NamedTuple):
  """Rows that share a shape."""

  rows: np.ndarray  # [≤ size] which, int64
  length: int  # what they are padded to
  size: int  # rows in a batch of this length, of which the last may have fewer


def groups(sizes: ArrayLike, budget: int) -> Iterator[Group]:
  """Batches of rows by length, shortest first.

  A row is padded to the next of LENGTHS, above them to the next power of two. All batches of a
  length have as many rows as fit the budget; where there are few rows, fewer.

  Args:
    sizes: [n] lengths of the rows.
    budget: elements in a batch, padding included; it has at least one row.
  """
  sizes = np.asarray(sizes, np.int64)
  if not len(sizes):
    return
  top = int(sizes.max())
  lengths = [*LENGTHS, *(1 << i for i in range(11, max(top, 1).bit_length() + 1))]
  bucket = np.searchsorted(lengths, sizes)
  for i in np.unique(bucket):
    rows = np.flatnonzero(bucket == i)
    size = max(1, budget // lengths[i])
    while size > 8 and size >= 2 * len(rows):
      size = (size + 1) // 2
    for first in range(0, len(rows), size):
      yield Group(rows[first : first + size], lengths[i], size)


def pad(rows: Sequence[np.ndarray], group: Group) -> tuple[np.ndarray, np.ndarray]:
  """The rows of a group, [size, length, …], zeros for what is not there, and where it is, bool."""
  out = np.zeros((group.size, group.length, *rows[0].shape[1:]), rows[0].dtype)
  mask = np.zeros((group.size, group.length), bool)
  for values, here, row in zip(out, mask, rows):
    values[: len(row)], here[: len(row)] = row, True
  return out, mask


def packed(sizes: ArrayLike, budget: int, *, longest: int | None = None) -> Iterator[Packed]:
  """Batches of rows, several of them in a line, so that next to nothing is padding.

  A line is some one of LENGTHS, above them a power of two: twice as long as its longest row where
  that is short, as long as it where it is long, since attention costs by the length of lines. Long
  rows come first, and shorter ones fill what they leave. All batches of a length have as many lines
  as fit the budget; only the last ones may have a half, a quarter, and so on, of them.

  Args:
    sizes: [n] lengths of the rows; one of length 0 has a place like one of 1.
    budget: elements in a batch, padding included; it has at least one line.
    longest: the largest size there can be.
  """
  sizes = np.maximum(np.asarray(sizes, np.int64), 1)
  left = {int(n): list(np.flatnonzero(sizes == n)[::-1]) for n in np.unique(sizes)}
  there = sum(1 << n for n in left)  # a bit for every size of which there are rows left

  def take(most: int) -> int:
    """A row of the largest size that is at most so much, or −1."""
    nonlocal there
    n = (there & ((2 << most) - 1)).bit_length() - 1
    if n < 0:
      return -1
    row = left[n].pop()
    there ^= (not left[n]) << n
    return row

  while there:
    top = there.bit_length() - 1
    length = _line(top, longest)
    lines, rows, place = max(1, budget // length), [], []
    for line in range(lines):
      free = length
      while free and (row := take(free)) >= 0:
        rows.append(row)
        place.append((line + 1) * length - free)
        free -= int(sizes[row])
    used = place[-1] // length + 1
    while lines // 2 >= used:
      lines = (lines + 1) // 2
    yield Packed(np.array(rows), np.array(place), lines, length)


def _line(size: int, longest: int | None) -> int:
  """How long a line is whose longest row has this size."""
  roomy = max(32, 2 * size if size <= 32 else 3 * size // 2 if size <= 64 else size)
  found = next((n for n in LENGTHS if n >= roomy), 1 << (roomy - 1).bit_length())
  return found if longest is None else min(found, longest)


def batches(bags: Ragged, budget: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """(which bags [≤ b], vectors [b, t, d], mask [b, t]) of at most `budget` vectors."""
  check(bags)
  for group in groups(np.diff(bags.start), budget):
    yield (
      group.rows,
      *pad([bags.vectors[bags.start[i] : bags.start[i + 1]] for i in group.rows], group),
    )


def check(bags: Ragged) -> None:
  """Raises ValueError unless `start` cuts the vectors into bags that are not empty, all finite."""
  start = np.asarray(bags.start)
  if bags.vectors.ndim != 2 or len(start) < 2 or start[0] != 0 or start[-1] != len(bags.vectors):
    raise ValueError(
      f"start must go from 0 to the number of vectors, got {start[[0, -1]] if len(start) else []} "
      f"for vectors of shape {bags.vectors.shape}"
    )
  if (np.diff(start) < 1).any():
    raise ValueError(f"every bag must have a vector, bag {np.argmin(np.diff(start))} has none")
  if not all(np.isfinite(bags.vectors[i : i + 65536]).all() for i in range(0, start[-1], 65536)):
    raise ValueError("vectors must be finite")
