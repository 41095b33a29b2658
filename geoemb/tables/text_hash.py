"""Strings as bytes, 64-bit hashes of their n-grams, and random numbers from those.

They are the same on every machine, since indexes on disk have them. Code points b_1 … b_m have the
hash mix(Σ_i (b_i + 1) R^(m−i)), modulo 2⁶⁴. Equal hashes are no proof of equal strings. `mix` is
the last step of SplitMix64 [steele2014fast], a bijection.
"""

from collections.abc import Sequence

import numpy as np

MARK = "\uf000"  # stands before and after a key when its n-grams are taken [patel2018magnitude]

_R = 0x5851F42D4C957F2D  # odd, so that no power of it loses bits
_GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64's step, 2⁶⁴ / φ made odd
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def encode(keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Strings in UTF-8 one after another, [bytes] uint8, and where each begins and ends, [n + 1].

  Raises:
    ValueError: a key is no string, is empty, or has no UTF-8.
  """
  try:
    encoded = list(map(str.encode, keys))
  except (TypeError, UnicodeEncodeError):
    for key in keys:
      encode_one(key)
    raise
  bounds = np.zeros(len(encoded) + 1, np.int64)
  np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=bounds[1:])
  if len(encoded) and not np.all(np.diff(bounds)):
    raise ValueError("a key must not be empty")
  return np.frombuffer(b"".join(encoded), np.uint8), bounds


def encode_one(key: str) -> bytes:
  """The UTF-8 of a key; see `encode`."""
  if not isinstance(key, str):
    raise ValueError(f"a key must be a string, got {key!r}")
  if not key:
    raise ValueError("a key must not be empty")
  try:
    return key.encode()
  except UnicodeEncodeError as error:
    raise ValueError(f"a key must have a form in UTF-8, got {key!r}") from error


def mix(x: np.ndarray) -> np.ndarray:
  """Numbers whose every bit depends on every bit of x's, [...] uint64."""
  for shift, factor in _MIX:
    x = (x ^ (x >> shift)) * factor
  return x ^ (x >> 31)


def ngrams(keys: Sequence[str], least: int, most: int) -> tuple[np.ndarray, np.ndarray]:
  """Hashes of all runs of `least` to `most` characters of keys between marks.

  Returns:
    Hashes [m] uint64, and the index in `keys` of each, [m] int64, which ascends among equal hashes.
  """
  marked = [f"{MARK}{key}{MARK}" for key in keys]
  letters = np.frombuffer("".join(marked).encode("utf-32-le"), "<u4").astype(np.uint64) + 1
  lengths = np.fromiter(map(len, marked), np.int64, len(marked))
  owner = np.repeat(np.arange(len(marked)), lengths)
  room = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(letters))  # letters from here on
  x, found, owners = np.zeros(len(letters), np.uint64), [], []
  for size in range(1, most + 1):
    x = x[: len(letters) - size + 1] * _R + letters[size - 1 :]
    if size >= least:
      whole = room[: len(x)] >= size
      found.append(mix(x[whole]))
      owners.append(owner[: len(x)][whole])
  return np.concatenate(found), np.concatenate(owners)


def uniform(seeds: np.ndarray, dim: int) -> np.ndarray:
  """Numbers in [−1, 1) that the seeds determine, [..., dim] float64."""
  steps = np.arange(1, dim + 1, dtype=np.uint64) * _GOLDEN
  return (mix(seeds[..., None] + steps) >> 11) * 2.0**-52 - 1
