"""Rows of keys, by a hash table of two flat arrays that stays on disk.

    data, bounds = text_hash.encode(keys)
    starts, rows = key_index.build(data, bounds)
    index = key_index.KeyIndex(data, bounds, starts, rows)
    index.row("dog"); index.rows(["dog", "cat"])

The bytes of a key, read as a number with the first byte the lowest, modulo the number of buckets
are its bucket; bucket i has the rows starts[i] to starts[i + 1] of `rows`, ascending. There are as
many buckets as keys, up to a prime, so that a key meets about one other. Python takes such a
remainder at once; for many keys it is a sum of bytes times powers of 256.
"""

from collections.abc import Sequence

import numpy as np

from geoemb.tables import text_hash

_BLOCK = 1 << 16  # keys at a time; each takes some 30 bytes of scratch per byte of its own
_NEAR, _POWERS = 16, 64  # of 64 powers none is less than 16 from 0; digits differ by less
_LONGEST = 1 << 24  # bytes of a key whose sum of bytes × powers below 2³² has 64 bits


class KeyIndex:
  """The rows of n different keys."""

  def __init__(self, data: np.ndarray, bounds: np.ndarray, starts: np.ndarray, rows: np.ndarray):
    """Views of a built index.

    Args:
      data: [bytes] uint8, the keys in UTF-8 one after another.
      bounds: [n + 1] int64, where each begins and ends.
      starts: [buckets + 1] uint32.
      rows: [n] uint32.

    Raises:
      ValueError: they do not fit each other.
    """
    if not len(bounds) == len(rows) + 1 == int(starts[-1]) + 1 or bounds[-1] != len(data):
      raise ValueError(f"an index of {len(rows)} keys does not go with {len(bounds) - 1} keys")
    self._data, self._bounds, self._starts, self._rows = data, bounds, starts, rows
    # Views whose items are Python's numbers, which costs less one by one.
    self._one = tuple(map(memoryview, (data, bounds, starts, rows)))
    self._buckets = len(starts) - 1

  def __len__(self) -> int:
    return len(self._rows)

  def row(self, key: str) -> int:
    """The row of a key, −1 if it has none."""
    wanted = text_hash.encode_one(key)
    data, bounds, starts, rows = self._one
    bucket = int.from_bytes(wanted, "little") % self._buckets
    for row in rows[starts[bucket] : starts[bucket + 1]]:
      if data[bounds[row] : bounds[row + 1]] == wanted:
        return row
    return -1

  def rows(self, keys: Sequence[str]) -> np.ndarray:
    """The rows of keys, [b] int64, −1 for those that have none."""
    return self._find(*text_hash.encode(keys))

  def duplicate(self) -> tuple[int, int] | None:
    """The first two rows of a key that has several, None if all keys differ."""
    for i in range(0, len(self), _BLOCK):
      bounds = self._bounds[i : i + _BLOCK + 1]
      first = self._find(self._data, bounds)
      again = np.flatnonzero(first != np.arange(i, i + len(first)))
      if len(again):
        return int(first[again[0]]), i + int(again[0])
    return None

  def _find(self, data: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """The first rows of keys data[bounds[i] : bounds[i + 1]], [b] int64."""
    bucket = _bucket(data, bounds, self._buckets)
    at, end = self._starts[bucket].astype(np.int64), self._starts[bucket + 1]
    found, left = np.full(len(bucket), -1, np.int64), np.arange(len(bucket))
    while True:  # once for every key of the fullest bucket
      left = left[at[left] < end[left]]
      if not len(left):
        return found
      row = self._rows[at[left]].astype(np.int64)
      same = _equal((self._data, self._bounds, row), (data, bounds, left))
      found[left[same]] = row[same]
      left = left[~same]
      at[left] += 1


def build(data: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The starts [buckets + 1] and rows [n], both uint32, of the n keys that `KeyIndex` takes."""
  n = len(bounds) - 1
  buckets = _prime(max(n, 1))
  bucket = _bucket(data, bounds, buckets)
  starts = np.zeros(buckets + 1, np.uint32)
  np.cumsum(np.bincount(bucket, minlength=buckets), out=starts[1:])
  return starts, np.argsort(bucket, kind="stable").astype(np.uint32)


def _bucket(data: np.ndarray, bounds: np.ndarray, buckets: int) -> np.ndarray:
  """The buckets of keys, [n] int64."""
  out = np.empty(len(bounds) - 1, np.int64)
  longest = int(np.diff(bounds).max(initial=1))
  if longest > _LONGEST:
    raise ValueError(f"a key must have at most {_LONGEST:,} bytes, got {longest:,}")
  powers = np.empty(longest, np.uint64)
  power = 1 % buckets
  for i in range(longest):
    powers[i] = power
    power = power * 256 % buckets
  for i in range(0, len(out), _BLOCK):
    at = bounds[i : i + _BLOCK + 1]
    place = np.arange(at[0], at[-1]) - np.repeat(at[:-1], np.diff(at))
    terms = powers[place] * data[at[0] : at[-1]]
    out[i : i + _BLOCK] = np.add.reduceat(terms, at[:-1] - at[0]) % np.uint64(buckets)
  return out


def _prime(n: int) -> int:
  """The least prime from n on modulo which no low power of 256 is near 0.

  They are −1, 1, −1, … modulo 257, and −3 is one modulo 65539: keys of digits would meet.
  """
  n = max(n, 7)
  near = max(1, min(_NEAR, n // 1024))
  while any(n % i == 0 for i in range(2, int(n**0.5) + 1)) or any(
    min(x, n - x) <= near for x in (pow(256, i, n) for i in range(1, min(_POWERS, n // 8)))
  ):
    n += 1
  return n


def _equal(mine, theirs) -> np.ndarray:
  """Which strings of two lists are equal one by one, [m] bool.

  Args:
    mine: the bytes of strings, the bounds of each, and the indices [m] of those to compare.
    theirs: the same.
  """
  starts, lengths = [], []
  for _, bounds, at in (mine, theirs):
    starts.append(bounds[at])
    lengths.append(bounds[at + 1] - bounds[at])
  same = lengths[0] == lengths[1]
  if not same.any():
    return same
  length = lengths[0][same]
  begin = np.cumsum(length) - length
  within = np.arange(length.sum()) - np.repeat(begin, length)
  a, b = (
    data[np.repeat(s[same], length) + within] for (data, *_), s in zip((mine, theirs), starts)
  )
  same[same] = np.logical_and.reduceat(a == b, begin)
  return same
