"""Conditions on the attributes of rows, and the rows that meet them.

    columns = {"section": section, "size": size, "tags": tags}
    where = filters.And((filters.OneOf("section", (3, 5)), filters.Range("size", high=500)))
    allow = filters.mask(where, columns)   # [n] bool, for any search

A column is [n] numbers, or [n, w] uint64 words of bits: a set of small numbers for each row.
"""

import operator
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Equal(NamedTuple):
  """The value is this one."""

  column: str
  value: float


class Range(NamedTuple):
  """low ≤ value ≤ high; a missing end is open."""

  column: str
  low: float | None = None
  high: float | None = None


class OneOf(NamedTuple):
  """The value is one of these."""

  column: str
  values: tuple[float, ...]


class Contains(NamedTuple):
  """The row's set has all of these members."""

  column: str
  members: tuple[int, ...]


class And(NamedTuple):
  """All of the conditions hold."""

  parts: tuple["Filter", ...]


Filter = Equal | Range | OneOf | Contains | And


def mask(where: Filter, columns: Mapping[str, np.ndarray]) -> np.ndarray:
  """The rows that meet a condition, [n] bool.

  Raises:
    ValueError: there is no such column, it has not the kind that the condition is for, or a
      condition is none of this module's.
  """
  if isinstance(where, And):
    if not where.parts:
      raise ValueError("And needs at least one condition")
    found = mask(where.parts[0], columns)
    for part in where.parts[1:]:
      found = found & mask(part, columns)
    return found
  if not isinstance(where, Filter):
    raise ValueError(f"expected a condition of geoemb.retrieval.filters, got {where!r:.60}")
  if where.column not in columns:
    raise ValueError(f"columns are {', '.join(columns) or 'none'}; got {where.column!r}")
  column = np.asarray(columns[where.column])
  if (column.ndim == 2) != isinstance(where, Contains):
    kind = "a set for each row" if column.ndim == 2 else "a number for each row"
    raise ValueError(f"{where.column!r} has {kind}, which {type(where).__name__} is not for")
  if isinstance(where, Equal):
    return column == where.value
  if isinstance(where, OneOf):
    return np.isin(column, where.values)
  if isinstance(where, Contains):
    return _contains(column, where)
  found = np.ones(len(column), bool)
  if where.low is not None:
    found &= column >= where.low
  if where.high is not None:
    found &= column <= where.high
  return found


def pack(sets: list[tuple[int, ...]], size: int) -> np.ndarray:
  """Sets of numbers below `size` as words of bits, [n, ⌈size / 64⌉] uint64."""
  words = np.zeros((len(sets), -(-size // 64)), np.uint64)
  for word, members in zip(words, sets):
    for member in map(operator.index, members):  # a shift of numpy's int32 ends at 32 bits
      if not 0 <= member < size:
        raise ValueError(f"members must lie between 0 and {size - 1}, got {member}")
      word[member // 64] |= np.uint64(1 << member % 64)
  return words


def _contains(column: np.ndarray, where: Contains) -> np.ndarray:
  """Tests only the words that have a bit to be tested."""
  if column.dtype != np.uint64:
    raise ValueError(f"{where.column!r} must be words of uint64, got {column.dtype}")
  (wanted,) = pack([where.members], 64 * column.shape[1])
  at = np.flatnonzero(wanted)
  return ((column[:, at] & wanted[at]) == wanted[at]).all(axis=1)
