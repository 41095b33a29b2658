import numpy as np
import pytest

from geoemb.data import hierarchy, tree, wordnet
from geoemb.graphs import caps


def rank_of_ancestors(polar, edges):
  """Mean rank of the edges, by distances typed from the textbook.

  cosh d = cosh r cosh s − sinh r sinh s cos θ in hyperbolic space.
  """
  x, r = polar.direction, polar.radius
  cosine = np.clip(x @ x.T, -1, 1)
  d = np.cosh(r)[:, None] * np.cosh(r) - np.sinh(r)[:, None] * np.sinh(r) * cosine
  np.fill_diagonal(d, np.inf)
  known = np.zeros(d.shape, bool)
  known[edges[:, 0], edges[:, 1]] = True
  others = np.where(known, np.inf, d)
  u, v = edges.T
  return np.mean(1 + np.sum(others[u] < d[u, v][:, None], axis=1))


@pytest.mark.parametrize("dim, branching", [(2, 4), (3, 7), (5, 12)])
def test_a_tree_is_ranked_almost_rightly_without_training(dim, branching):
  graph = tree.balanced(branching, 3)  # 85 to 1885 nodes
  n = len(graph.names)
  polar = caps.place(graph.edges, n, dim, seed=1)
  np.testing.assert_allclose(np.linalg.norm(polar.direction, axis=1), 1, rtol=1e-12)
  assert polar.radius[0] == 0
  direct = hierarchy.reduce(graph.edges, n)
  assert np.all(polar.radius[direct[:, 0]] > polar.radius[direct[:, 1]])
  assert rank_of_ancestors(polar, graph.edges) < 1.5
  shuffled = caps.Polar(np.roll(polar.direction, 7, axis=0), polar.radius)
  assert rank_of_ancestors(shuffled, graph.edges) > 5


def test_no_node_is_in_the_cap_of_its_sibling():
  """The cap 2e^(−r/2) of each node lies in its parent's, and over no sibling."""
  graph = tree.balanced(3, 4)
  n = len(graph.names)
  polar = caps.place(graph.edges, n, 3)
  theta = 2 * np.exp(-polar.radius / 2)
  angle = np.arccos(np.clip(polar.direction @ polar.direction.T, -1, 1))
  for u, v in hierarchy.reduce(graph.edges, n):
    if v:  # the root's cap is everything
      assert angle[u, v] + theta[u] < 1.01 * theta[v]
  parent = np.full(n, -1)
  parent[1:] = (np.arange(1, n) - 1) // 3
  some = [(u, w) for u in range(4, n) for w in range(u) if parent[u] == parent[w]]
  assert len(some) > 100
  assert all(angle[u, w] > max(theta[u], theta[w]) for u, w in some)


def test_mammals_are_ranked_as_training_would():
  """WordNet's mammals, in the plane and untrained; [nickel2017poincare]'s code trains d = 5."""
  graph = wordnet.load("mammal")
  polar = caps.place(graph.edges, len(graph.names), 2)
  assert rank_of_ancestors(polar, graph.edges) < 2


def test_a_node_reaches_all_of_its_descendants():
  """Two far branches share a leaf: its second parent moves over both of its children."""
  #    0 → 1 → {3 … 8}, 0 → 2 → {9 … 14}, and 15 below both 3 and 9
  edges = [(1, 0), (2, 0)] + [(i, 1) for i in range(3, 9)] + [(i, 2) for i in range(9, 15)]
  edges += [(15, 3), (15, 9), (16, 9), (17, 3)]
  closed = hierarchy.close(np.array(edges), 18)
  alone = hierarchy.close(np.array([e for e in edges if e != (15, 9)]), 18)
  both, tree_only = (caps.place(e, 18, 3, seed=4) for e in (closed, alone))
  out = both.radius < tree_only.radius - 1e-9
  assert list(np.flatnonzero(out)) == [2, 9]  # those above the second way, and no others
  mean = both.direction[15] + both.direction[16]
  np.testing.assert_allclose(both.direction[9], mean / np.linalg.norm(mean), atol=1e-12)


def test_placing_is_repeatable_and_differs_by_seed():
  graph = tree.balanced(3, 3)
  a, b, c = (caps.place(graph.edges, len(graph.names), 4, seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(a.direction, b.direction)
  assert np.max(np.abs(a.direction - c.direction)) > 0.1
  np.testing.assert_allclose(a.radius, c.radius)  # sizes have no chance in them


@pytest.mark.parametrize(
  "edges, n",
  [
    (np.zeros((0, 2), np.int32), 3),  # no edge at all
    (np.array([[1, 0], [3, 2]]), 6),  # a forest, with nodes of no edge
    (hierarchy.close(np.array([[0, 1], [1, 2], [2, 0], [3, 0]]), 4, cyclic=True), 4),  # a cycle
    (np.array([[1, 0], [2, 1], [3, 2], [3, 1]]), 4),  # not closed
    (hierarchy.close(np.stack([np.arange(1, 1200), np.arange(1199)], axis=1), 1200), 1200),  # chain
    (np.stack([np.arange(1, 3000), np.zeros(2999, int)], axis=1), 3000),  # a star
  ],
  ids=["empty", "forest", "cycle", "open", "chain", "star"],
)  # fmt: skip
def test_any_graph_has_a_placement(edges, n):
  polar = caps.place(edges, n, 2)
  assert np.all(np.isfinite(polar.direction))
  assert np.all(np.isfinite(polar.radius))
  assert np.all(polar.radius >= 0)
  np.testing.assert_allclose(np.linalg.norm(polar.direction, axis=1), 1, rtol=1e-9)


def test_one_dimension_is_refused():
  with pytest.raises(ValueError, match="^caps need at least 2 dimensions, got 1$"):
    caps.place(np.array([[1, 0]]), 2, 1)
