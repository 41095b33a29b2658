"""Closures, cycles and tables of hierarchies against slow, obvious versions of them."""

import numpy as np
import pytest
from absl.testing import parameterized

from geoemb.data import hierarchy


def reachable(edges, n):
  """{(u, v)}: v ≠ u can be reached from u; by squaring the boolean adjacency matrix."""
  reach = np.zeros((n, n), bool)
  if len(edges):
    reach[edges[:, 0], edges[:, 1]] = True
  for _ in range(n.bit_length()):
    reach |= reach @ reach
  np.fill_diagonal(reach, False)
  return np.argwhere(reach)


def random_edges(seed, n, m, *, cyclic):
  rng = np.random.default_rng(seed)
  edges = rng.integers(0, n, (m, 2))
  return edges if cyclic else rng.permutation(n)[np.sort(edges[edges[:, 0] != edges[:, 1]], axis=1)]


class CloseTest(parameterized.TestCase):
  @parameterized.product(seed=[*range(4)], size=[(1, 0), (5, 3), (30, 40), (60, 400)])
  def test_closure_is_reachability(self, seed, size):
    n, m = size
    edges = random_edges(seed, n, m, cyclic=False)
    closed = hierarchy.close(edges, n)
    np.testing.assert_array_equal(closed, reachable(edges, n).reshape(-1, 2))
    assert closed.dtype == np.int32
    np.testing.assert_array_equal(hierarchy.close(closed, n), closed)

  @parameterized.product(seed=[*range(4)], size=[(5, 4), (30, 30), (60, 200)])
  def test_cyclic_closure_is_reachability_without_self_edges(self, seed, size):
    n, m = size
    edges = random_edges(seed, n, m, cyclic=True)
    closed = hierarchy.close(edges, n, cyclic=True)
    np.testing.assert_array_equal(closed, reachable(edges, n))

  @parameterized.product(seed=[*range(3)])
  def test_parts_do_not_change_the_closure(self, seed):
    edges = random_edges(seed, 60, 400, cyclic=False)
    whole = hierarchy.close(edges, 60)
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(hierarchy, "_PART", 7)
      np.testing.assert_array_equal(hierarchy.close(edges, 60), whole)
      reduced = hierarchy.reduce(whole, 60)
    np.testing.assert_array_equal(reduced, hierarchy.reduce(whole, 60))

  @parameterized.product(seed=[*range(4)])
  def test_reduction_is_the_least_that_closes_to_the_same(self, seed):
    closed = hierarchy.close(random_edges(seed, 30, 60, cyclic=False), 30)
    reduced = hierarchy.reduce(closed, 30)
    np.testing.assert_array_equal(hierarchy.close(reduced, 30), closed)
    for i in range(len(reduced)):
      assert len(hierarchy.close(np.delete(reduced, i, axis=0), 30)) < len(closed)

  def test_deep_chain_is_refused_before_memory_is_used(self):
    n = 100_000
    chain = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    with pytest.raises(ValueError, match="at least 1000405 edges, more than 1000000"):
      hierarchy.close(chain, n, max_edges=1_000_000)

  def test_deep_chain_closes(self):
    n = 1500
    chain = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    np.testing.assert_array_equal(hierarchy.close(chain, n), np.argwhere(np.tri(n, k=-1).T))

  def test_large_flat_closure_is_refused(self):
    leaves = np.stack([np.arange(1000), np.full(1000, 1000)], axis=1)
    above = np.stack([np.full(50, 1000), np.arange(1001, 1051)], axis=1)
    with pytest.raises(ValueError, match="more than 50000"):
      hierarchy.close(np.concatenate([leaves, above]), 1051, max_edges=50_000)

  def test_cycle_is_refused_by_name(self):
    edges = np.array([[3, 4], [0, 1], [2, 0], [1, 2]])
    with pytest.raises(hierarchy.CycleError, match="cycle: a -> b -> c -> a$") as caught:
      hierarchy.close(edges, 5, names="abcde")
    assert caught.value.cycle == (0, 1, 2)
    with pytest.raises(hierarchy.CycleError, match="cycle: 1 -> 1$"):
      hierarchy.close(np.array([[1, 1]]), 2)

  @parameterized.product(seed=[*range(5)])
  def test_found_cycle_is_one(self, seed):
    edges = random_edges(seed, 50, 60, cyclic=True)
    edges = edges[edges[:, 0] != edges[:, 1]]
    cycle = hierarchy.find_cycle(edges, 50)
    steps = set(map(tuple, edges.tolist()))
    assert len(set(cycle)) == len(cycle) > 1
    assert all(step in steps for step in zip(cycle, cycle[1:] + cycle[:1]))
    assert hierarchy.find_cycle(random_edges(seed, 50, 60, cyclic=False), 50) is None

  def test_long_cycle_is_shown_in_one_line(self):
    shown = hierarchy.show_cycle(range(1000))
    assert shown == "0 -> 1 -> 2 -> 3 -> 4 -> (991 more) -> 996 -> 997 -> 998 -> 999 -> 0"


class TablesTest(parameterized.TestCase):
  def test_csr_and_ancestors_hold_the_edges(self):
    edges = np.unique(random_edges(0, 20, 60, cyclic=False), axis=0)
    shuffled = np.random.default_rng(1).permutation(np.concatenate([edges, edges[:5]]))
    offsets, targets = hierarchy.csr(shuffled, 20)
    table = hierarchy.ancestors(shuffled, 20)
    assert targets.dtype == table.dtype == np.int32
    assert table.shape[1] == np.bincount(edges[:, 0]).max()
    for u in range(20):
      expected = edges[edges[:, 0] == u, 1]
      np.testing.assert_array_equal(targets[offsets[u] : offsets[u + 1]], expected)
      np.testing.assert_array_equal(table[u, : len(expected)], expected)
      assert np.all(table[u, len(expected) :] == 20)

  def test_no_edges(self):
    none = np.zeros((0, 2), np.int32)
    assert hierarchy.close(none, 3).shape == (0, 2)
    np.testing.assert_array_equal(hierarchy.ancestors(none, 3), [[3], [3], [3]])
    assert hierarchy.find_cycle(none, 3) is None

  def test_too_wide_a_table_is_refused(self):
    edges = np.stack([np.zeros(999, int), np.arange(1, 1000)], axis=1)
    with pytest.raises(ValueError, match="1000 nodes x 999 .the targets of node 0. x 4 bytes"):
      hierarchy.ancestors(edges, 1000, max_bytes=3_000_000)

  def test_induced_keeps_what_is_inside(self):
    graph = hierarchy.Hierarchy(
      np.array([[0, 1], [0, 3], [2, 3]]), ("a", "b", "c", "d"), np.array([1.0, 2.0, 3.0])
    )
    part = hierarchy.induced(graph, np.array([True, False, True, True]))
    assert part.names == ("a", "c", "d")
    np.testing.assert_array_equal(part.edges, [[0, 2], [1, 2]])
    np.testing.assert_array_equal(part.weights, [2.0, 3.0])

  @parameterized.parameters(
    dict(edges=[[0, 5]], match=r"ids must be in \[0, n = 5\), got 0 to 5"),
    dict(edges=[[-1, 2]], match="got -1 to 2"),
    dict(edges=[0, 1], match=r"edges must be integers \[m, 2\], got int64 \[2\]"),
    dict(edges=[[0.5, 1]], match="got float64"),
  )
  def test_bad_edges_are_refused(self, edges, match):
    with pytest.raises(ValueError, match=match):
      hierarchy.csr(np.array(edges), 5)
