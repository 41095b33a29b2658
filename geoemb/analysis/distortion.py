"""How well distances in a manifold are those of a graph.

Source: [sala2018tradeoffs] §2 and [gu2019mixed] §4 for the measures.
"""

from typing import NamedTuple

import jax
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from geoemb.manifolds import Manifold
from geoemb.typing import ArrayLike

_PAIRS = 1 << 20  # distances at a time


class Distortion(NamedTuple):
  """Of the ratios ρ = d_embedded/d_graph over pairs of nodes that a path joins."""

  average: float  # mean |ρ − 1|
  squared: float  # mean |ρ² − 1|, which [gu2019mixed] train
  worst: float  # max ρ/min ρ, at least 1; infinite where two nodes coincide
  scale: float  # by which distances are to be multiplied for the least Σ (ρ − 1)²
  pairs: int


def graph(
  m: Manifold,
  table: ArrayLike,
  edges: ArrayLike,
  *,
  weights: ArrayLike | None = None,
  sources: ArrayLike | None = None,
) -> Distortion:
  """Distortion of an embedded graph whose edges have no direction.

  Shortest paths and distances are worked out for a block of sources at a time, in float64 where jax
  has it.

  Args:
    m: the manifold.
    table: [n, point] where the nodes are.
    edges: [e, 2] ids.
    weights: [e] lengths > 0 of the edges; 1 by default.
    sources: ids of the nodes whose distances to all others count; all by default.

  Raises:
    ValueError: ids outside the table, lengths that are not positive, or no two joined nodes.
  """
  table, edges = np.asarray(table), np.asarray(edges)
  n = len(table)
  if edges.size and not (0 <= edges.min() and edges.max() < n):
    raise ValueError(f"edges must have ids from 0 to {n - 1}, got {edges.min()} to {edges.max()}")
  length = np.ones(len(edges)) if weights is None else np.asarray(weights, np.float64)
  if not np.all(length > 0):
    raise ValueError(f"weights must be positive, got {length.min()}")
  sources = np.arange(n) if sources is None else np.asarray(sources)
  # Of several edges between two nodes the shortest counts; a sparse matrix would add them.
  ends = np.sort(edges, axis=1).reshape(-1, 2)
  order = np.lexsort((length, *ends.T))
  ends, shortest = np.unique(ends[order], axis=0, return_index=True)
  paths = sparse.csr_array((length[order][shortest], tuple(ends.T)), shape=(n, n))

  size = max(1, _PAIRS // max(1, n))
  dist = jax.jit(lambda x, y: m.dist(x[:, None], y))
  sums, low, high = np.zeros(5), np.inf, 0.0
  for i in range(0, len(sources), size):
    some = sources[i : i + size]
    d = csgraph.dijkstra(paths, directed=False, indices=some, unweighted=weights is None)
    d[np.arange(len(some)), some] = np.inf
    asked = np.resize(some, size)  # as many in every call, so that it is compiled once
    near = np.asarray(dist(table[asked], table), np.float64)[: len(some)]
    joined = np.isfinite(d)
    ratio = near[joined] / d[joined]
    sums += [
      ratio.size, np.abs(ratio - 1).sum(), np.abs(ratio**2 - 1).sum(), ratio.sum(),
      (ratio**2).sum(),
    ]  # fmt: skip
    low, high = min(low, ratio.min(initial=np.inf)), max(high, ratio.max(initial=0.0))
  count, first, second, ones, squares = sums
  if not count:
    raise ValueError("no two nodes are joined by a path")
  return Distortion(
    average=first / count,
    squared=second / count,
    worst=high / low if low > 0 else np.inf,
    scale=ones / squares if squares > 0 else np.inf,
    pairs=int(count),
  )
