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


class Group(NamedTuple):
  """Rows that share a shape."""

  rows: np.ndarray  # [≤ size] which, int64
  length: int  # what they are padded to
  size: int  # rows in a batch of this length, of which the last may have fewer


def groups(sizes: ArrayLike, budget: int, *, longest: int | None = None) -> Iterator[Group]:
  """Batches of rows by length, shortest first.

  A row is padded to the next of LENGTHS, above them to the next power of two, but not beyond
  `longest`. All batches of a length have as many rows as fit the budget; where there are few rows,
  fewer.

  Args:
    sizes: [n] lengths of the rows.
    budget: elements in a batch, padding included; it has at least one row.
    longest: the largest size there can be.
  """
  sizes = np.asarray(sizes, np.int64)
  if not len(sizes):
    return
  top = int(sizes.max())
  lengths = [*LENGTHS, *(1 << i for i in range(11, max(top, 1).bit_length() + 1))]
  if longest is not None:
    lengths = [n for n in lengths if n < longest] + [longest]
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
