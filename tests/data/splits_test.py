"""The link prediction split: what may be held out, what stays, and that it never changes."""

import hashlib

import numpy as np
import pytest
from absl.testing import parameterized

from geoemb.data import hierarchy, splits, tree, wordnet


def digest(edges):
  return hashlib.sha256(np.ascontiguousarray(edges, "<i4").tobytes()).hexdigest()[:16]


def check(graph, split):
  """What the rule promises, in the plainest terms."""
  train, valid, test = split
  np.testing.assert_array_equal(
    hierarchy.unique(np.concatenate(split), len(graph.names)), graph.edges
  )
  assert len(train) + len(valid) + len(test) == len(graph.edges)  # so the parts are disjoint
  np.testing.assert_array_equal(np.unique(train), np.unique(graph.edges))  # every node
  u, v = graph.edges.T.astype(np.int64)
  back = set((v << 32 | u).tolist())
  one_way = graph.edges[[key not in back for key in (u << 32 | v).tolist()]]
  held_out = np.concatenate([valid, test])
  assert set(held_out[:, 0].tolist()) <= set(one_way[:, 1].tolist())  # no leaf is a child
  assert set(held_out[:, 1].tolist()) <= set(one_way[:, 0].tolist())  # no root is a parent


class LinkPredictionTest(parameterized.TestCase):
  # Golden digests: of the test edges, by this module with numpy 2.3; published tables rest on them.
  @parameterized.parameters(
    ("noun", (717_725, 12_758, 12_758), "71c0f9546b4fde08"),
    ("mammal", (6_324, 108, 108), "39db1538f20b300c"),
    ("verb", (34_213, 433, 433), "8f3bad35fabd9d94"),
  )
  def test_published_splits(self, subset, counts, expected):
    graph = wordnet.load(subset)
    split = splits.link_prediction(graph)
    assert tuple(map(len, split)) == counts
    assert digest(split.test) == expected
    check(graph, split)

  @parameterized.parameters((0.5, 0.5), (0.0, 0.2), (0.3, 0.0), (0.0, 0.0))
  def test_shares_are_of_the_eligible_edges(self, valid, test):
    graph = tree.balanced(3, 4)
    count = splits.eligible(graph.edges, len(graph.names)).sum()
    assert count == 9 * 1 + 27 * 2
    split = splits.link_prediction(graph, seed=3, valid=valid, test=test)
    assert len(split.valid) == int(valid * count) and len(split.test) == int(test * count)
    check(graph, split)

  def test_seed_decides_and_order_of_edges_does_not(self):
    graph = tree.balanced(2, 6)
    shuffled = graph._replace(edges=np.random.default_rng(0).permutation(graph.edges))
    first, again, other = (
      splits.link_prediction(g, seed=seed) for g, seed in ((graph, 0), (shuffled, 0), (graph, 1))
    )
    for a, b in zip(first, again):
      np.testing.assert_array_equal(a, b)
    assert digest(first.test) != digest(other.test)

  def test_several_roots_and_a_cycle(self):
    direct = np.array([[0, 1], [1, 0], [2, 0], [3, 2], [4, 3], [3, 5], [5, 6]])
    graph = hierarchy.Hierarchy(hierarchy.close(direct, 7, cyclic=True), tuple("abcdefg"))
    held_out = graph.edges[splits.eligible(graph.edges, 7)]
    np.testing.assert_array_equal(held_out, [[3, 2], [3, 5]])
    check(graph, splits.link_prediction(graph, valid=0.5, test=0.5))

  def test_what_is_not_closed_is_refused(self):
    chain = hierarchy.Hierarchy(np.array([[0, 1], [1, 2], [2, 3], [3, 4]]), tuple("abcde"))
    with pytest.raises(ValueError, match="needs a closure"):
      splits.link_prediction(chain, valid=0.5, test=0.5)

  @parameterized.parameters((0.6, 0.6), (-0.1, 0.5), (1.0, 0.0), (float("nan"), 0.1))
  def test_bad_shares_are_refused(self, valid, test):
    with pytest.raises(ValueError, match="sum to at most 1"):
      splits.link_prediction(tree.balanced(), valid=valid, test=test)
