"""Vectors for keys that a store does not have, from their characters.

    oov.lookup(words, ["dog", "doggg"])

Magnitude's rule [patel2018magnitude]: the vector of an unknown key points along

    0.3 r + 0.7 s

where r is the direction of the mean of random vectors that the key's n-grams of 1 to 6 characters
determine, and s that of the mean of the at most three known keys that resemble it most. Those are
what it becomes when runs of a letter are cut to two or to one, or that in lower case; else, case
aside, those that share the most n-grams of 6 characters, or of 5 to 6 and so on down to 3 to 6
until there are three. Ties go to the same first and the same last letter (for keys of up to 6
letters, and only to keys no longer), then to the shorter, then to the earlier row. The same key
has the same vector everywhere.

Unlike the authors' code this strips no English prefixes and suffixes, its n-grams hold punctuation
too, and its random numbers are others. Theirs are tables of unit vectors; here the length is the
mean of the lengths of the known keys, of all vectors if there are none.

In hyperbolic geometries the vectors are tangents at the origin, log of the points and exp of the
result; on the sphere they are the points, as in the paper. Others have no such rule.
"""

import re
from collections.abc import Callable, Sequence

import jax
import numpy as np

from geoemb.tables import text_hash
from geoemb.tables.store import GRAMS, Store

_RANDOM, _KNOWN = 0.3, 0.7
_SHORT = 6  # letters up to which the first and the last count
_FLAT, _HYPERBOLIC = ("euclidean", "sphere"), ("poincare", "lorentz", "klein", "stereographic")
_BLOCK = 256  # keys whose n-grams are drawn at a time


def lookup(store: Store, keys: Sequence[str]) -> np.ndarray:
  """Points of keys, [b, point]: the store's, and by the rule where it has none.

  Raises:
    ValueError: the manifold has no such rule, or the store was written without n-grams.
  """
  rows = store.rows(keys)
  known = rows >= 0
  out = np.empty((len(rows), *store.point), store.table.dtype)
  out[known] = store.table[rows[known]]
  if not known.all():
    out[~known] = vectors(store, [keys[i] for i in np.flatnonzero(~known)])
  return out


def vectors(store: Store, keys: Sequence[str]) -> np.ndarray:
  """Points by the rule, [b, d] in the store's dtype, whether or not the store has the keys."""
  if store.manifold not in _FLAT + _HYPERBOLIC:
    known = ", ".join(_FLAT + _HYPERBOLIC)
    raise ValueError(f"{store.manifold} has no rule for unknown keys; those that have: {known}")
  similar = [resembling(store, key) for key in keys]
  owner = np.repeat(np.arange(len(keys)), list(map(len, similar)))
  rows = np.concatenate([[], *similar]).astype(np.int64)
  tangents = _log0(store, store.table[rows])
  count = np.bincount(owner, minlength=len(keys))
  total = np.zeros((len(keys), *store.point))
  np.add.at(total, owner, tangents)
  length = np.bincount(owner, np.linalg.norm(tangents, axis=-1), minlength=len(keys))
  length = np.divide(length, count, out=np.full(len(keys), np.nan), where=count > 0)
  if not count.all():
    length[count == 0] = _mean_length(store)
  mixed = _unit(_RANDOM * directions(keys, store.point[0]) + _KNOWN * _unit(total))
  return _exp0(store, length[:, None] * mixed).astype(store.table.dtype)


def directions(keys: Sequence[str], dim: int) -> np.ndarray:
  """Directions of the means of random vectors of keys' n-grams, [b, dim] float64."""
  out = np.empty((len(keys), dim))
  for i in range(0, len(keys), _BLOCK):
    some = [_shrunk(key, 2) for key in keys[i : i + _BLOCK]]
    x, owner = text_hash.ngrams(some, 1, GRAMS[1])
    seeds, which = np.unique(x, return_inverse=True)
    counts = np.zeros((len(some), len(seeds)))
    np.add.at(counts, (owner, which), 1)
    out[i : i + _BLOCK] = counts @ text_hash.uniform(seeds, dim)
  return _unit(out)


def resembling(store: Store, key: str, k: int = 3) -> np.ndarray:
  """The rows of the at most k keys that resemble a key most, first those that do most, [≤ k]."""
  if store.grams is None:
    raise ValueError(f"{store.path} was written without n-grams (grams=False)")
  forms = dict.fromkeys([_shrunk(key, 2), _shrunk(key, 1)])
  forms = dict.fromkeys([*forms, *(form.lower() for form in forms)])
  forms.pop(key, None)
  equal = store.rows(list(forms)) if forms else np.zeros(0, np.int64)
  if (equal >= 0).any():
    return equal[equal >= 0][:k]
  key = _shrunk(key, 2).lower()
  found = np.zeros(0, np.int64)
  for least in range(GRAMS[1], GRAMS[0] - 1, -1):
    found = _sharing(store, key, least, k)
    if len(found) == k:
      break
  return found


def _sharing(store: Store, key: str, least: int, k: int) -> np.ndarray:
  """The rows of the at most k keys that share the most n-grams from `least` characters on."""
  hashes, bounds, owners = store.grams
  wanted = np.unique(text_hash.ngrams([key], least, GRAMS[1])[0])
  at = np.searchsorted(hashes, wanted)
  at = at[at < len(hashes)][hashes[at[at < len(hashes)]] == wanted[at < len(hashes)]]
  if not len(at):
    return np.zeros(0, np.int64)
  rows, count = np.unique(
    np.concatenate([owners[bounds[i] : bounds[i + 1]] for i in at]), return_counts=True
  )
  if len(rows) > k:  # all that may be among the first k
    enough = count >= np.partition(count, -k)[-k]
    rows, count = rows[enough], count[enough]
  names = [name.lower() for name in store.keys(rows)]

  def order(i: int) -> tuple:
    name = names[i]
    ends = len(key) <= _SHORT and len(name) <= len(key)
    first, last = ends and name[0] == key[0], ends and name[-1] == key[-1]
    return -count[i], not first, not last, len(name), rows[i]

  return rows[sorted(range(len(rows)), key=order)[:k]].astype(np.int64)


def _shrunk(key: str, most: int) -> str:
  """A key whose runs of a letter are cut to so many."""
  return re.sub(rf"(.)\1{{{most},}}", r"\1" * most, key, flags=re.DOTALL)


def _unit(x: np.ndarray) -> np.ndarray:
  """Directions; zeros where there is none."""
  norm = np.linalg.norm(x, axis=-1, keepdims=True)
  return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)


def _mean_length(store: Store) -> float:
  """Mean length of the tangents at the origin to some thousand points, evenly among all."""
  some = store.table[:: max(1, len(store) // 1024)]
  return float(np.linalg.norm(_log0(store, some), axis=-1).mean())


def _log0(store: Store, x: np.ndarray) -> np.ndarray:
  """Tangents at the origin to points [n, d], float64; the points themselves in flat space."""
  return _apply(_LOG0, store, x.astype(np.float64))


def _exp0(store: Store, v: np.ndarray) -> np.ndarray:
  """The inverse of `_log0`."""
  return _apply(_EXP0, store, v)


_LOG0, _EXP0 = jax.jit(lambda m, x: m.log0(x)), jax.jit(lambda m, v: m.exp0(v))


def _apply(f: Callable, store: Store, x: np.ndarray) -> np.ndarray:
  """A function of points, compiled for few numbers of them."""
  n = len(x)
  if store.manifold in _FLAT or not n:
    return x
  more = (1 << (n - 1).bit_length()) - n
  with jax.enable_x64(True):
    return np.asarray(f(store.geometry, np.concatenate([x, np.repeat(x[:1], more, axis=0)])))[:n]
