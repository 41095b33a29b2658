"""Our split of a closure for link prediction.

[nickel2017poincare] §4.1 holds out edges of the closure at random, never one that involves the root
or a leaf, since those are trivial or impossible to predict; it gives no shares, and the authors'
repository has no script for it. This is our rule, complete:

  1. A root is a node without ancestors, a leaf one without descendants. Nodes of one cycle do not
     count as each other's ancestors or descendants, and edges among them are not eligible.
  2. An edge (u, v) of the closure is eligible if u is not a leaf and v is not a root. (Then u is no
     root and v no leaf either.) Direct edges are as eligible as others.
  3. The eligible edges, sorted by (u, v), are put in the order of
     numpy.random.Generator(numpy.random.PCG64(seed)).permutation(count).
  4. The first ⌊test · count⌋ are the test edges, the next ⌊valid · count⌋ the validation edges.
     All others are for training, with all that are not eligible.

Every node that is in the closure is in a training edge: all but roots keep their edges to roots.
Published tables use seed 0 and a tenth each:

    subset    eligible     train    valid     test
    noun       127,583   717,725   12,758   12,758
    mammal       1,084     6,324      108      108
"""

from typing import NamedTuple

import numpy as np

from geoemb.data import hierarchy

SEED = 0


class Split(NamedTuple):
  """Disjoint parts of a closure, each [m, 2] int32 and sorted by (u, v)."""

  train: np.ndarray
  valid: np.ndarray
  test: np.ndarray


def link_prediction(
  graph: hierarchy.Hierarchy, *, seed: int = SEED, valid: float = 0.1, test: float = 0.1
) -> Split:
  """The closure `graph` in three parts, by the rule of this module.

  Args:
    graph: a closure, such as `wordnet.load` returns.
    seed: of the permutation.
    valid: share of the eligible edges, in [0, 1).
    test: share of the eligible edges, in [0, 1).

  Raises:
    ValueError: the shares do not fit, or `graph` is not a closure and a node would lose all edges.
  """
  if not (0 <= valid < 1 and 0 <= test < 1 and valid + test <= 1):
    raise ValueError(
      f"valid and test must be in [0, 1) and sum to at most 1, got {valid} and {test}"
    )
  n = len(graph.names)
  edges = hierarchy.unique(graph.edges, n)
  candidates = np.flatnonzero(eligible(edges, n))
  order = np.random.Generator(np.random.PCG64(seed)).permutation(len(candidates))
  n_test, n_valid = int(test * len(candidates)), int(valid * len(candidates))
  part = np.zeros(len(edges), np.int8)
  part[candidates[order[:n_test]]] = 2
  part[candidates[order[n_test : n_test + n_valid]]] = 1
  split = Split(*(edges[part == i] for i in range(3)))
  lost = np.zeros(n, bool)
  lost[edges] = True
  lost[split.train] = False
  if lost.any():
    raise ValueError("the split needs a closure (hierarchy.close); these edges are not closed")
  return split


def eligible(edges: np.ndarray, n: int) -> np.ndarray:
  """Which of the edges (sorted by (u, v)) may be held out, [m] bool: step 2 of the rule."""
  u, v = edges.T.astype(np.int64)
  keys, back = u * n + v, v * n + u
  one_way = keys[np.searchsorted(keys, back) % max(1, len(keys))] != back
  has_descendants, has_ancestors = np.zeros((2, n), bool)
  has_descendants[v[one_way]] = True
  has_ancestors[u[one_way]] = True
  return one_way & has_descendants[u] & has_ancestors[v]
