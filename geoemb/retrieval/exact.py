"""Exact nearest neighbours, in blocks: every query meets every row of a table.

    hits = exact.search(queries, table, 10, by="cosine")
    hits = exact.search(queries, table, 10, by=manifolds.make("lorentz"))
    hits = exact.search(queries, boxes, 10, by=lambda q, b: containment(q[:, None], b[None]))

Inner products and cosines are matrix products of blocks in float32 (float64 where both sides are),
whatever the table is held in: float16, bfloat16, float8 and int8 rows are widened block by block.
Distances are float64: points whose distances are not told apart by a matrix product are compared by
`Manifold.dist`, see `intervals`.

A function scores whatever else there is, such as boxes: it is compiled for one shape of blocks.

Only a block of scores is held: of each, few can beat the best so far.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.manifolds import base
from geoemb.retrieval import intervals
from geoemb.typing import Array, ArrayLike

_SCORES = 1 << 23  # scores at a time on the host: 32 MB of float32
_ROWS = 1 << 12  # rows of the table in a block
_DEVICE_SCORES = 1 << 25
_PENDING = 1 << 20  # pairs whose distances are computed together


class Hits(NamedTuple):
  """The best rows of a table for each of b queries, best first; equal scores by row."""

  scores: np.ndarray  # [b, k]; larger is better: a distance is negated. −inf where there is no row
  ids: np.ndarray  # [b, k] int64; −1 where there is no row


def search(
  queries: ArrayLike,
  table: ArrayLike,
  k: int,
  *,
  by: str | base.Manifold | Callable[[Array, Array], Array] = "dot",
  allow: ArrayLike | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> Hits:
  """The k best of n rows for each of b queries.

  Args:
    queries: [b, point]; where a function scores, [b, …].
    table: [n, point]; a memory-mapped one is read block by block. Where a function scores, [n, …].
    k: how many; of fewer rows all are returned, and the rest is filled.
    by: "dot", "cosine", a manifold for its distance, or a traceable function of queries [b, …] and
      rows [r, …] that returns scores [b, r], larger for better.
    allow: [n] bool, the rows that count, or None for all of them.
    progress: called with (rows done, rows in all).

  Raises:
    ValueError: shapes do not agree, k is not positive, something is not finite, an inner product
      overflows, or by="cosine" and a vector is zero.
  """
  queries, table, allow = _checked(queries, table, k, by, allow)
  narrow = not isinstance(by, base.Manifold)
  if isinstance(by, str):
    narrow = not queries.dtype == table.dtype == np.float64
  best = Best(len(queries), min(k, len(table)), np.float32 if narrow else np.float64)
  if not len(queries):
    return best.hits(k)
  if isinstance(by, str):
    queries = _widened(queries, None, best.scores.dtype, by == "cosine", "query")
    score = _on_device if jax.default_backend() != "cpu" else _on_host
    score(queries, table, by == "cosine", allow, best, progress)
  elif isinstance(by, base.Manifold):
    _by_distance(by, queries.astype(np.float64), table, allow, best, progress)
  else:
    _by_function(by, queries, table, allow, best, progress)
  return best.hits(k)


class Best:
  """The best so far: a row of descending scores for each query, equal ones by id."""

  def __init__(self, b: int, k: int, dtype: type):
    self.scores = np.full((b, k), -np.inf, dtype)
    self.ids = np.full((b, k), -1, np.int64)

  @property
  def worst(self) -> np.ndarray:
    """What a further row has to beat, [b]: rows come in ascending order."""
    return self.scores[:, -1]

  @property
  def open(self) -> np.ndarray:
    """Who takes any row, of score −inf too, [b] bool: fewer than k were found."""
    return self.ids[:, -1] < 0

  def add(self, row: np.ndarray, score: np.ndarray, index: np.ndarray) -> None:
    """Merges pairs of a query `row` and a table's `index`, [p] each."""
    touched, at = np.unique(row, return_inverse=True)
    k = self.scores.shape[1]
    rows = np.concatenate([np.repeat(np.arange(len(touched)), k), at])
    scores = np.concatenate([self.scores[touched].ravel(), score])
    ids = np.concatenate([self.ids[touched].ravel(), index])
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -scores, rows))
    first = np.searchsorted(rows[order], np.arange(len(touched)))
    order = order[first[:, None] + np.arange(k)]
    self.scores[touched], self.ids[touched] = scores[order], ids[order]

  def hits(self, k: int) -> Hits:
    """Filled up to k."""
    pad = ((0, 0), (0, k - self.scores.shape[1]))
    return Hits(
      np.pad(self.scores, pad, constant_values=-np.inf), np.pad(self.ids, pad, constant_values=-1)
    )


def _checked(queries, table, k, by, allow):
  queries, table = np.asarray(queries), np.asarray(table)
  if isinstance(by, str | base.Manifold):
    if isinstance(by, str) and by not in ("dot", "cosine"):
      raise ValueError(f'by must be "dot", "cosine", a manifold or a function, got {by!r}')
    ndim = 2 if isinstance(by, str) else 1 + by.point_ndim
    if table.ndim != ndim or queries.ndim != ndim or queries.shape[1:] != table.shape[1:]:
      raise ValueError(
        "queries and table must be rows of points of one shape, "
        f"got {queries.shape} and {table.shape}"
      )
  if k < 1 or not len(table):
    raise ValueError(f"k and the number of rows must be positive, got {k} and {len(table)}")
  if not np.isfinite(queries).all():
    bad = np.flatnonzero(~np.isfinite(queries.reshape(len(queries), -1)).all(axis=1))
    raise ValueError(f"queries must be finite, got {len(bad)} bad ones, the first is row {bad[0]}")
  if allow is not None:
    allow = np.asarray(allow)
    if allow.dtype != bool or allow.shape != (len(table),):
      raise ValueError(f"allow must be [{len(table)}] bool, got {allow.dtype} {allow.shape}")
  return queries, table, allow


def _blocks(table, rows, allow):
  """(first row, block, its ids) of the rows that count; blocks without any are not read."""
  for start in range(0, len(table), rows):
    if allow is None:
      block = table[start : start + rows]
      yield start, block, start + np.arange(len(block))
      continue
    ids = start + np.flatnonzero(allow[start : start + rows])
    if len(ids):
      yield start, table[ids], ids


def _widened(block, ids, dtype, of_unit, what="row"):
  if not of_unit:
    return block.astype(dtype, copy=False)
  block = block if block.dtype == np.float64 else block.astype(dtype, copy=False)
  return unit(block, what, ids).astype(dtype, copy=False)


def unit(x: np.ndarray, what: str = "row", ids: np.ndarray | None = None) -> np.ndarray:
  """The directions of vectors [n, d], float32 or float64, of any finite size.

  Args:
    x: the vectors.
    what: what a message calls them.
    ids: [n] their numbers in it, if not 0 … n − 1.

  Raises:
    ValueError: a vector is zero.
  """
  with np.errstate(over="ignore", under="ignore"):
    norm = np.linalg.norm(x, axis=1, keepdims=True)
  info = np.finfo(norm.dtype)
  odd = np.flatnonzero(~((norm > info.tiny**0.5 / info.eps) & (norm < np.inf)))
  if len(odd):  # the squares of some lose digits below the range, or are beyond it
    top = np.abs(x[odd]).max(axis=1, keepdims=True)
    if not top.all():
      at = odd[np.argmin(top)]
      at = at if ids is None else ids[at]
      raise ValueError(f"a zero vector has no cosine with any: {what} {at}")
    x = x.copy()
    x[odd] /= top
    norm[odd] = np.linalg.norm(x[odd], axis=1, keepdims=True)
  return x / norm


def _refuse(ids, block):
  bad = np.flatnonzero(~np.isfinite(block.reshape(len(block), -1).astype(np.float64)).all(axis=1))
  if len(bad):
    raise ValueError(f"the table must be finite, row {ids[bad[0]]} is not")


def _overflow(dtype):
  return ValueError(f"inner products of these vectors overflow {dtype}: scale them down")


def _on_host(queries, table, of_unit, allow, best, progress):
  b = len(queries)
  rows = max(1, min(_ROWS, len(table)))
  part = max(1, min(b, _SCORES // rows))
  out = np.empty((part, rows), queries.dtype)
  for start, block, ids in _blocks(table, rows, allow):
    block = _widened(block, ids, queries.dtype, of_unit)
    for first in range(0, b, part):
      some = slice(first, min(first + part, b))
      with np.errstate(over="ignore", invalid="ignore"):
        scores = np.matmul(queries[some], block.T, out=out[: some.stop - first, : len(block)])
      top = scores.max(axis=1)
      if not np.isfinite(top).all():
        _refuse(ids, block)
        raise _overflow(queries.dtype)
      near = np.flatnonzero(top > best.worst[some])
      if len(near):
        _take(scores[near], first + near, ids, best)
    if progress is not None:
      progress(min(start + rows, len(table)), len(table))


def _take(scores, at, ids, best):
  """Merges what beats the worst of the best; [p, rows] scores of the queries `at`."""
  k = best.scores.shape[1]
  better = (scores > best.worst[at][:, None]) | best.open[at][:, None]
  if np.count_nonzero(better) > 8 * k * len(at):  # at first nearly all; its own k best are enough
    better &= scores >= np.partition(scores, -k, axis=1)[:, -k, None]
  row, column = np.nonzero(better)
  best.add(at[row], scores[row, column], ids[column])


def _on_device(queries, table, of_unit, allow, best, progress):
  b, k = best.scores.shape
  rows = int(np.clip(_DEVICE_SCORES // b, k, len(table)))
  queries = jax.device_put(queries)
  held = jax.device_put((best.scores, best.ids.astype(np.int32), True))
  for start, block, ids in _blocks(table, rows, allow):
    block = _widened(block, ids, queries.dtype, of_unit)
    _refuse(ids, block)
    pad = rows - len(block)
    block, ids = np.pad(block, ((0, pad), (0, 0))), np.pad(ids, (0, pad), constant_values=-1)
    held = _merge(queries, block, ids.astype(np.int32), held)
    if progress is not None:
      progress(min(start + rows, len(table)), len(table))
  best.scores[:], best.ids[:], finite = map(np.asarray, held)
  if not finite:
    raise _overflow(queries.dtype)


@jax.jit
def _merge(queries, block, ids, held):
  """The best of the held [b, k] and of a block; equal scores keep the order of their rows.

  The third of what is held says whether all inner products were finite.
  """
  k = held[0].shape[1]
  scores = numerics.dots(queries, block)
  finite = held[2] & jnp.isfinite(scores).all()
  scores = jnp.where(ids >= 0, scores, -jnp.inf)
  top, at = jax.lax.top_k(scores, k)
  scores = jnp.concatenate([held[0], top], axis=1)
  ids = jnp.concatenate([held[1], ids[at]], axis=1)
  top, at = jax.lax.top_k(scores, k)
  return top, jnp.take_along_axis(ids, at, axis=1), finite


def _by_distance(m, queries, table, allow, best, progress):
  """Keeps what may be among the k nearest by its interval; distances decide."""
  b, k = best.scores.shape
  ends = _ends if hasattr(m.ops, "query") else _distances
  rows = min(len(table), _ROWS if ends is _ends else max(k, _PENDING // b))
  part = max(1, min(b, _SCORES // rows // 4))
  bound = np.full((b, k), np.inf)  # the least upper ends
  for start, block, ids in _blocks(table, rows, allow):
    block, n = _widened(block, ids, np.float64, of_unit=False), len(block)
    _refuse(ids, block)
    block = np.concatenate([block, np.repeat(block[:1], rows - n, axis=0)])  # one shape for all
    between, dist = ends(m, queries, block)
    for first in range(0, b, part):
      some = slice(first, min(first + part, b))
      low, high = (a[:, :n] for a in between(some))
      least = np.partition(high, min(k, n) - 1, axis=1)[:, :k]
      bound[some] = np.partition(np.concatenate([bound[some], least], 1), k - 1, axis=1)[:, :k]
      row, column = np.nonzero(low <= bound[some].max(axis=1)[:, None])
      for i in range(0, len(row), _PENDING):
        u, v = first + row[i : i + _PENDING], column[i : i + _PENDING]
        best.add(u, -dist(u, v), ids[v])
    if progress is not None:
      progress(min(start + rows, len(table)), len(table))


def _by_function(score, queries, table, allow, best, progress):
  b, k = best.scores.shape
  rows = min(len(table), max(k, _PENDING // b))
  score = jax.jit(score)
  for start, block, ids in _blocks(table, rows, allow):
    _refuse(ids, block)
    n = len(block)
    block = np.concatenate([block, np.repeat(block[:1], rows - n, axis=0)])  # one shape for all
    scores = np.asarray(score(queries, block))
    if scores.shape != (b, rows):
      raise ValueError(f"the function must return scores [{b}, {rows}], got {scores.shape}")
    if np.isnan(scores).any():
      raise ValueError(f"the function's scores are NaN, of rows from {start} on")
    _take(scores[:, :n], np.arange(b), ids, best)
    if progress is not None:
      progress(min(start + rows, len(table)), len(table))


def _ends(m, queries, block):
  """Both ends of the intervals of some queries, and distances of pairs."""
  made = intervals.make(m, queries, block)

  def between(some):
    low = made.query[some] @ made.key
    return low, low + made.reach[some, None] * made.size

  return between, made.dist


def _distances(m, queries, block):
  """The same of geometries that have no such product: distances, which are both ends."""
  with jax.enable_x64(True):
    m = jax.tree.map(lambda c: jnp.asarray(c, jnp.float64), m)
    d = np.asarray(_all_distances(m, queries, block))
  return lambda some: (d[some], d[some]), lambda u, v: d[u, v]


@jax.jit
def _all_distances(m, queries, block):
  return m.dist(queries[:, None], block[None])
