"""Bounds on the dimension that relevance judgments need, and their density: float64, on the host.

Judgments are relevant [m, n] bool. Dimension is the least d for which vectors of d numbers, queries
and documents, rank by inner product all relevant above all irrelevant documents, for every query:
the "row-order-preserving rank" of [weller2025limit], between sign-rank(2R − 1) − 1 and the
sign-rank itself.
"""

import collections
import math
from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from geoemb.typing import ArrayLike


def forster(relevant: ArrayLike) -> float:
  """Lower bound √(mn)/‖2R − 1‖ on the sign-rank [forster2002linear]: less 1, on the dimension.

  Near 1 where nearly all documents are irrelevant; √n for a Hadamard matrix.
  """
  signs = np.where(_checked(relevant), 1.0, -1.0)
  gram = signs @ signs.T if signs.shape[0] < signs.shape[1] else signs.T @ signs
  return math.sqrt(signs.size / float(np.linalg.eigvalsh(gram)[-1]))


def by_margin(relevant: ArrayLike, margin: float) -> float:
  """Lower bound log N/log(1 + 1/γ) on the dimension of unit vectors that rank by gaps of 2γ.

  N is the largest number of different relevant sets of one size. [weller2025limit] has C(n, k) and
  γ = 0.1; the argument is that queries of different sets are 2γ apart, and balls of radius γ around
  them lie in one of radius 1 + γ.

  Args:
    relevant: [m, n].
    margin: γ in (0, 1].
  """
  if not 0 < margin <= 1:
    raise ValueError(f"margin must be in (0, 1], got {margin}")
  rows = np.unique(_checked(relevant), axis=0)
  sizes = collections.Counter(rows.sum(axis=1).tolist())
  return math.log(max(sizes.values())) / math.log1p(1 / margin)


def radon(relevant: ArrayLike, *, tries: int = 100_000) -> int:
  """Lower bound s − 1 on the dimension from s documents that the queries part in every way.

  By Radon's theorem any d + 2 points of ℝ^d fall into two parts whose hulls meet, and then no
  vector scores all of one part above the other. So if for each of the 2^(s−1) − 1 ways of parting s
  documents in two a query has all of one part, and none of the other, relevant, d + 2 > s.
  With all k-subsets of enough documents among the relevant sets it is 2k, which is exact.

  Args:
    relevant: [m, n].
    tries: sets of documents to look at. The search goes depth first, most judged documents first;
      what it has found is a bound wherever it ends, and it ends where `arcs` says it may.
  """
  rows = np.unique(_checked(relevant), axis=0)
  columns = np.ascontiguousarray(rows[:, np.argsort(-rows.sum(axis=0), kind="stable")].T)
  most, best, left = arcs(rows).dim + 1, 1, tries

  def extend(size: int, trace: np.ndarray, begin: int) -> None:
    nonlocal best, left
    for j in range(begin, len(columns)):
      if best >= most or not left:
        return
      left -= 1
      longer = 2 * trace + columns[j]
      if _all_parted(longer, size + 1):
        best = max(best, size + 1)
        extend(size + 1, longer, j + 1)

  extend(0, np.zeros(len(rows), np.int64), 0)
  return max(1, best - 1)


def _all_parted(trace: np.ndarray, size: int) -> bool:
  """Whether every way of parting `size` documents in two is among the traces, read as bits."""
  ways = 1 << (size - 1)
  if ways - 1 > len(trace):
    return False
  found = np.zeros(2 * ways, bool)
  found[trace] = True
  return bool((found | found[::-1])[1:ways].all())  # a part or its complement


class Arcs(NamedTuple):
  """Documents around a circle, so that every query's relevant ones form few arcs."""

  dim: int  # twice the most arcs a query has: an upper bound on the dimension
  order: np.ndarray  # [n] the document at each place


def arcs(relevant: ArrayLike) -> Arcs:
  """Upper bound on the dimension from sign changes [alon1985geometrical]: 2r for at most r arcs.

  `cyclic_polytope` has the vectors. It is at most twice the most relevant documents that a query
  has, in any order; the order here is the better of the given one and a spectral one, which puts
  documents with common queries near each other.
  """
  rows = _checked(relevant)
  orders = [np.arange(rows.shape[1]), _spectral_order(rows)]
  return min((Arcs(2 * _most_arcs(rows[:, order]), order) for order in orders), key=lambda a: a.dim)


def _most_arcs(rows: np.ndarray) -> int:
  begins = rows & ~np.roll(rows, 1, axis=1)
  return max(1, int(begins.sum(axis=1).max()))


def _spectral_order(rows: np.ndarray) -> np.ndarray:
  """Component by component, by the second eigenvector of the Laplacian of common queries."""
  counts = scipy.sparse.csr_matrix(rows, dtype=np.float64)
  common = (counts.T @ counts).tocsr()
  parts, part = scipy.sparse.csgraph.connected_components(common, directed=False)
  order = []
  for p in range(parts):
    ids = np.flatnonzero(part == p)
    weights = common[ids][:, ids].toarray()
    np.fill_diagonal(weights, 0)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    second = np.linalg.eigh(laplacian)[1][:, min(1, len(ids) - 1)]
    order.append(ids[np.argsort(second, kind="stable")])
  return np.concatenate(order)


class Density(NamedTuple):
  """How much the relevant sets of queries overlap, Table 2 of [weller2025limit]."""

  graph: float  # share of pairs of queries with a relevant document in common
  strength: float  # mean over queries of the summed Jaccard indices with the others


def density(relevant: ArrayLike | scipy.sparse.spmatrix) -> Density:
  """Density of the graph of queries that share documents, and its mean strength.

  The text of [weller2025limit] defines the first on the graph of documents; only queries as nodes
  reproduce its figures.

  Args:
    relevant: [m, n], a sparse matrix where that is large.
  """
  a = scipy.sparse.csr_matrix(relevant, dtype=np.float64)
  m = a.shape[0]
  common = (a @ a.T).tocoo()
  off = common.row != common.col
  size = np.asarray(a.sum(axis=1)).ravel()
  both = common.data[off]
  union = size[common.row[off]] + size[common.col[off]] - both
  return Density(len(both) / max(1, m * (m - 1)), float(np.sum(both / union)) / max(1, m))


def _checked(relevant: ArrayLike) -> np.ndarray:
  rows = np.asarray(relevant, bool)
  if rows.ndim != 2 or not rows.size:
    raise ValueError(f"relevant must be [queries, documents], both at least 1, got {rows.shape}")
  return rows
