"""Balanced trees against their closed forms."""

import numpy as np
import pytest
from absl.testing import parameterized

from geoemb.data import tree


class TreeTest(parameterized.TestCase):
  @parameterized.parameters((3, 3), (2, 0), (1, 6), (5, 2), (2, 8))
  def test_counts_are_in_closed_form(self, branching, depth):
    graph = tree.balanced(branching, depth)
    assert len(graph.names) == len(set(graph.names)) == sum(branching**k for k in range(depth + 1))
    assert len(graph.edges) == sum(k * branching**k for k in range(depth + 1))

  def test_names_are_the_way_down(self):
    graph = tree.balanced(3, 3)
    assert graph.names[:5] == ("root", "root.0", "root.1", "root.2", "root.0.0")
    for u, v in graph.edges:
      assert graph.names[u].startswith(graph.names[v] + ".")
    np.testing.assert_array_equal(np.unique(graph.edges[:, 0]), np.arange(1, 40))

  def test_bad_sizes_are_refused(self):
    with pytest.raises(ValueError, match="got 0 and 2"):
      tree.balanced(0, 2)
