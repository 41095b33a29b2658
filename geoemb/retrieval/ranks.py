"""Exact ranking metrics of an embedded graph: mean rank and mean average precision.

A source u ranks all other nodes by their distance from it; its targets are the nodes v of its edges
(u, v): in a closure, its ancestors. Both metrics follow [nickel2017poincare] §4.1:

  rank(u, v) = 1 + #{n : n nearer to u than v} + ½ #{n : as near as v},
    n over the nodes that are neither u nor one of its known targets; mean over edges
  AP(u) = 1/m Σᵢ i / (rank(u, vᵢ) + i − 1),
    v₁ … v_m the targets of u by distance; mean over sources

where rank(u, vᵢ) + i − 1 is the place of vᵢ among all nodes, other targets included. Without ties
AP is the usual average precision; nodes at equal distances count half, so that a collapsed table
scores like a random one, whatever the order of its rows.

Distances are not computed, but counted: `Manifold.query` and `key` turn a block of them, up to a
monotone function, into one matrix product. It cancels where points are near each other and far from
the origin, so each score carries a bound of its rounding error, and those few nodes whose
interval overlaps a target's are compared by `Manifold.dist`. Everything is float64, and no array is
larger than a block.
"""

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from geoemb import numerics
from geoemb.manifolds import base
from geoemb.retrieval import intervals
from geoemb.typing import ArrayLike

_HOST_BLOCK = 16  # sources at a time and thread, at most; more do not make it faster
_HOST_SCORES = 1 << 22  # 32 MB of scores a thread, at most
# Multiplications per matrix product. For so few OpenBLAS starts no threads of its own, which
# would spin between products and take the cores from ours (measured: three to six times slower).
_HOST_PRODUCT = 1 << 18
_DEVICE_SCORES = 1 << 25
_OVERLAPS = 1 << 20  # compared at a time and thread


class Ranks(NamedTuple):
  """How well the distances of a table rank the edges of a graph."""

  mean_rank: float  # over edges; 1 is perfect
  map: float  # mean average precision, over sources
  n_edges: int
  n_sources: int


def reconstruction(
  m: base.Manifold,
  table: ArrayLike,
  edges: ArrayLike,
  *,
  sources: ArrayLike | None = None,
  queries: ArrayLike | None = None,
  block: int | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> Ranks:
  """Mean rank and MAP of the edges that a table was trained on, [nickel2017poincare] §4.1.

  Args:
    m: geometry of the table.
    table: [n, point] embedded nodes.
    edges: [e, 2] ids (u, v): u should find v. Self edges and repetitions count nothing.
    sources: ids; only their edges are ranked (a subset gives a cheap training curve).
    queries: [n, point] where node u stands when it is the source; the table itself by default.
      Translational models rank from u + r.
    block: sources at a time; bounds the memory to 8 · block · n bytes per thread.
    progress: called with (sources done, sources in all).

  Raises:
    ValueError: no edge to rank, an id outside the table, or a table that is not finite.
  """
  ranked, ranks = edge_ranks(
    m, table, edges, sources=sources, queries=queries, block=block, progress=progress
  )
  return _summary(ranked, ranks)


def link_prediction(
  m: base.Manifold,
  table: ArrayLike,
  test_edges: ArrayLike,
  known_edges: ArrayLike,
  *,
  queries: ArrayLike | None = None,
  block: int | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> Ranks:
  """Filtered mean rank and MAP of held-out edges, [nickel2017poincare] §4.1.

  A test edge (u, v) is ranked among the nodes n for which (u, n) is neither a known nor a test
  edge; MAP is over the sources of test edges, with known edges left out of their rankings.

  Args:
    m: geometry of the table.
    table: [n, point] embedded nodes.
    test_edges: [e, 2] ids (u, v) that are ranked.
    known_edges: [k, 2] all other true edges: training and validation. Test edges may be among them.
    queries: as in `reconstruction`.
    block: as in `reconstruction`.
    progress: as in `reconstruction`.
  """
  ranked, ranks = edge_ranks(
    m, table, test_edges, known=known_edges, queries=queries, block=block, progress=progress
  )
  return _summary(ranked, ranks)


def edge_ranks(
  m: base.Manifold,
  table: ArrayLike,
  edges: ArrayLike,
  *,
  known: ArrayLike | None = None,
  sources: ArrayLike | None = None,
  queries: ArrayLike | None = None,
  block: int | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """The edges that count, sorted, [e, 2], and the rank of each, [e] float64; see `reconstruction`.

  Args:
    m: geometry of the table.
    table: [n, point] embedded nodes.
    edges: [e, 2] ids (u, v): u should find v.
    known: [k, 2] further true edges; their nodes v are left out of the rankings of u.
    sources: as in `reconstruction`.
    queries: as in `reconstruction`.
    block: as in `reconstruction`.
    progress: as in `reconstruction`.
  """
  table = np.asarray(table, np.float64)
  queries = table if queries is None else np.asarray(queries, np.float64)
  if queries.shape != table.shape:
    raise ValueError(f"queries must have the table's shape {table.shape}, got {queries.shape}")
  if not (np.isfinite(table).all() and np.isfinite(queries).all()):
    bad = np.flatnonzero(~(np.isfinite(table) & np.isfinite(queries)).all(axis=-1))
    raise ValueError(f"a table must be finite to rank it, got {len(bad)} bad rows, first {bad[0]}")
  n = len(table)
  edges = _unique(edges, n)
  hidden = edges if known is None else _unique(np.concatenate([edges, _unique(known, n)]), n)
  if sources is not None:
    edges = edges[np.isin(edges[:, 0], np.asarray(sources))]
  if not len(edges):
    raise ValueError("there is no edge to rank")

  scores = _scores(m, table, queries)
  targets, hidden = _rows(edges, n), _rows(hidden, n)
  us = np.unique(edges[:, 0])
  ranks = np.ones(len(edges))
  tell = _teller(progress, len(us))
  if _has_accelerator():  # what is left has overlaps
    us = _count_on_device(scores, targets, hidden, us, ranks, block, tell)
  _count_on_host(scores, targets, hidden, us, ranks, block, tell)
  return edges, ranks


def _teller(progress, total):
  """tell(k) for k further sources: tells `progress`, or without one the log, once a minute."""
  done, logged = 0, time.monotonic()

  def tell(k):
    nonlocal done, logged
    done += k
    if progress is not None:
      progress(done, total)
    elif time.monotonic() > logged + 60:
      logged = time.monotonic()
      logging.info("ranked %d of %d sources", done, total)

  return tell


class _Targets(NamedTuple):
  """Rows of ids: those of u are ids[start[u] : start[u + 1]]."""

  start: np.ndarray  # [n + 1]
  ids: np.ndarray  # [e]


class _Scores(NamedTuple):
  """What ranks the rows of a table."""

  at: intervals.Intervals  # of queries and table
  point: np.ndarray  # [n] ids of the table's distinct rows: equal points tie without a distance
  nodes: np.ndarray  # [n] 0 … n − 1


def _scores(m, table, queries):
  point = np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)
  return _Scores(intervals.make(m, queries, table), point, np.arange(len(table)))


def _count_on_host(scores, targets, hidden, us, ranks, block, tell):
  """Adds to the ranks of the edges of `us` what lies before them, on all cores.

  Numpy, not XLA: it runs on as many cores as there are threads here, also where XLA was
  told to use one, and a scan of a row for the few nodes that matter is several times faster.
  """
  block = block or max(1, min(_HOST_BLOCK, _HOST_SCORES // len(scores.nodes)))
  local = threading.local()

  def count(start):
    if not hasattr(local, "low"):
      local.low = np.empty((block, len(scores.nodes)))
    part = us[start : start + block]
    overlaps, waiting = [], 0
    for u, row in zip(part, _low(scores, part, local.low)):
      waiting += _count_row(scores, targets, hidden, u, row, ranks, overlaps)
      if waiting > _OVERLAPS or (waiting and u == part[-1]):
        _compare(scores, targets, *map(np.concatenate, zip(*overlaps)), ranks)
        overlaps, waiting = [], 0
    return len(part)

  with concurrent.futures.ThreadPoolExecutor(_cores()) as pool:
    for size in pool.map(count, range(0, len(us), block)):
      tell(size)


def _low(scores, u, out):
  """Lower ends of the scores of the queries u, [len(u), n]: a view of `out`."""
  query, out = scores.at.query[u], out[: len(u)]
  step = max(64, _HOST_PRODUCT // query.size)
  for start in range(0, out.shape[1], step):
    part = slice(start, start + step)
    np.matmul(query, scores.at.key[:, part], out=out[:, part])
  return out


def _count_row(scores, targets, hidden, u, row, ranks, overlaps):
  """Counts for one source from its row of `_low`; returns how many overlaps it puts off."""
  first, last = targets.start[u], targets.start[u + 1]
  v = targets.ids[first:last]
  v_low = row[v]
  v_high = v_low + scores.at.reach[u] * scores.at.size[v]
  row[hidden.ids[hidden.start[u] : hidden.start[u + 1]]] = np.inf
  row[u] = np.inf
  within = row <= v_high.max()
  if np.count_nonzero(within) < len(row) // 8:  # a trained table: a handful
    near = np.flatnonzero(within)
    low, high = row[near], row[near] + scores.at.reach[u] * scores.at.size[near]
  else:
    near, low, high = slice(None), row, row + scores.at.reach[u] * scores.at.size
  # First all of `high`, then all of `low`: each fits a cache that both do not.
  nearer = [np.count_nonzero(high < a) for a in v_low]
  reached = [np.count_nonzero(low <= b) for b in v_high]
  ranks[first:last] += nearer
  waiting = 0
  for i in np.flatnonzero(np.greater(reached, nearer)):
    nodes = scores.nodes[near][(low <= v_high[i]) & (high >= v_low[i])]
    same = scores.point[nodes] == scores.point[v[i]]
    ranks[first + i] += np.count_nonzero(same) / 2
    nodes = nodes[~same]
    if len(nodes):
      overlaps.append((np.full(len(nodes), first + i), np.full(len(nodes), u), nodes))
      waiting += len(nodes)
  return waiting


def _compare(scores, targets, edge, u, node, ranks):
  """Adds nodes whose scores overlap that of an edge's target to its rank, by their distances."""
  edges, index = np.unique(edge, return_index=True)
  d_target = scores.at.dist(u[index], targets.ids[edges])[np.searchsorted(edges, edge)]
  d = scores.at.dist(u, node)
  np.add.at(ranks, edge, (d < d_target) + 0.5 * (d == d_target))


def _count_on_device(scores, targets, hidden, us, ranks, block, tell):
  """The same counts by XLA, for accelerators; returns sources with overlaps, not counted yet."""
  block = min(len(us), block or max(1, _DEVICE_SCORES // len(scores.nodes)))
  left = []
  us = us[np.argsort(np.diff(targets.start)[us], kind="stable")]  # so that little is padding
  with jax.enable_x64(True):
    arrays = jax.device_put((scores.at.query, scores.at.key, scores.at.reach, scores.at.size))
    for start in range(0, len(us), block):
      part = us[start : start + block]
      u = np.pad(part, (0, block - len(part)), mode="edge")
      v, edge = _padded(targets, u)
      nearer, reached = map(np.asarray, _counts(arrays, u, v, _padded(hidden, u)[0]))
      clear = (nearer == reached).all(axis=1)
      clear[len(part) :] = False
      counted = (v < len(scores.nodes)) & clear[:, None]
      ranks[edge[counted]] += nearer[counted]
      left.append(part[~clear[: len(part)]])
      tell(len(part) - len(left[-1]))
  return np.concatenate(left)


@jax.jit
def _counts(arrays, u, v, hidden):
  """Nodes whose scores lie wholly below that of target v, and those not wholly above it, [b, p]."""
  query, key, reach, size = arrays
  low = numerics.matmul(query[u], key)
  rows = jnp.arange(len(u))[:, None]
  v_low = low.at[rows, v].get(mode="fill", fill_value=-jnp.inf)
  v_high = v_low + reach[u, None] * size.at[v].get(mode="fill", fill_value=0)
  low = low.at[rows, hidden].set(jnp.inf, mode="drop").at[rows, u[:, None]].set(jnp.inf)
  high = low + reach[u, None] * size
  count = lambda ends: ((high < ends[0][:, None]).sum(1), (low <= ends[1][:, None]).sum(1))
  nearer, reached = jax.lax.map(count, (v_low.T, v_high.T))
  return nearer.T, reached.T


def _padded(rows, u):
  """Ids of the rows u and their places in `rows.ids`, [b, p]; n, which no node has, for padding.

  p is a power of two: few shapes, few compilations.
  """
  size = rows.start[u + 1] - rows.start[u]
  column = np.arange(1 << int(size.max() - 1).bit_length())
  place = np.minimum(rows.start[u, None] + column, len(rows.ids) - 1)
  return np.where(column < size[:, None], rows.ids[place], len(rows.start) - 1), place


def _summary(edges, ranks):
  order = np.lexsort((ranks, edges[:, 0]))
  _, first, size = np.unique(edges[:, 0], return_index=True, return_counts=True)
  i = 1 + np.arange(len(edges)) - np.repeat(first, size)
  precision = i / (ranks[order] + i - 1)
  ap = np.add.reduceat(precision, first) / size
  return Ranks(float(ranks.mean()), float(ap.mean()), len(edges), len(size))


def _unique(edges, n):
  """Edges sorted by (u, v), each once, without self edges, [e, 2]."""
  edges = np.asarray(edges)
  if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
    raise ValueError(f"edges must be [e, 2] integer ids, got {edges.dtype} {edges.shape}")
  if len(edges) and not (edges.min() >= 0 and edges.max() < n):
    raise ValueError(f"ids must be in [0, {n}), the rows of the table, got {edges.max()}")
  keys = np.unique(edges[:, 0].astype(np.int64) * n + edges[:, 1])
  edges = np.stack(np.divmod(keys, n), axis=1)
  return edges[edges[:, 0] != edges[:, 1]]


def _rows(edges, n):
  start = np.searchsorted(edges[:, 0], np.arange(n + 1))
  return _Targets(start, np.ascontiguousarray(edges[:, 1]))


def _has_accelerator():
  return jax.default_backend() != "cpu"


def _cores():
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
