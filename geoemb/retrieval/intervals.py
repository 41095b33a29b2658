"""Intervals that hold the order of distances, by one matrix product.

`Manifold.query` and `key` turn distances, up to a monotone function, into inner products. These
cancel where points are near each other and far from the origin, so each comes with a bound of its
rounding error: points whose intervals overlap are to be compared by `Manifold.dist`, few in
practice. Everything is float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geoemb.manifolds import base

_PAIRS = 1 << 14  # distances per call; a fixed number, so that the call is compiled once


class Intervals(NamedTuple):
  """A monotone function of distance lies between low and high.

  low(u, n) = query[u] · key[:, n] and high(u, n) = low(u, n) + reach[u] size[n].
  """

  query: np.ndarray  # [q, k + 1]
  key: np.ndarray  # [k + 1, n]
  reach: np.ndarray  # [q]
  size: np.ndarray  # [n]
  dist: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of queries u [p] and rows v [p], [p]


def make(m: base.Manifold, queries: np.ndarray, table: np.ndarray) -> Intervals:
  """Intervals of the distances of queries [q, point] from a table [n, point].

  Args:
    m: a geometry of vectors whose module has `query` and `key`.
    queries: float64.
    table: float64.

  Raises:
    ValueError: points lie so far out that their features overflow float64.
  """
  with jax.enable_x64(True):
    m = jax.tree.map(lambda c: jnp.asarray(c, jnp.float64), m)
    points = jnp.asarray(queries), jnp.asarray(table)
    query, key = map(np.array, _features(m, *points))
  if not (np.isfinite(query).all() and np.isfinite(key).all()):
    raise ValueError("the table lies too far out: its scores overflow float64")
  scale = np.abs(key).max(axis=0)
  scale[scale == 0] = 1
  query, key = query * scale, key / scale
  # A dot product of k terms errs by less than k/2 eps Σ |qᵢ kᵢ|, and a feature by a few eps.
  error = (key.shape[1] + 16) * np.finfo(np.float64).eps * np.abs(query).sum(axis=1)
  size = np.abs(key).max(axis=1)

  def dist(u, v):
    out = np.empty(len(u))
    with jax.enable_x64(True):  # a setting of the calling thread
      for start in range(0, len(u), _PAIRS):
        part = slice(start, start + _PAIRS)
        pad = (0, _PAIRS - len(u[part]))
        d = _distances(m, *points, np.pad(u[part], pad), np.pad(v[part], pad))
        out[part] = np.asarray(d)[: len(u[part])]
    return out

  return Intervals(
    query=np.concatenate([query, -error[:, None]], axis=1),
    key=np.ascontiguousarray(np.concatenate([key, size[:, None]], axis=1).T),
    reach=2 * error,
    size=size,
    dist=dist,
  )


@jax.jit
def _features(m, queries, table):
  return m.query(queries), m.key(table)


@jax.jit
def _distances(m, queries, table, u, v):
  return m.dist(queries[u], table[v])
