import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csgraph

from geoemb import manifolds
from geoemb.analysis import hyperbolicity
from geoemb.data import tree


def hops(edges, n):
  dense = np.zeros((n, n))
  dense[tuple(np.asarray(edges).T)] = 1
  return csgraph.shortest_path(dense, directed=False)


def brute(d, base=None):
  """The definition, over all quadruples or those with the base."""
  most = 0
  for four in itertools.combinations(range(len(d)), 4):
    if base is None or base in four:
      i, j, k, m = four
      sums = sorted([d[i, j] + d[k, m], d[i, k] + d[j, m], d[i, m] + d[j, k]])
      most = max(most, (sums[2] - sums[1]) / 2)
  return most


def test_based_is_the_definition():
  rng = np.random.default_rng(0)
  for n in (12, 13):
    x = rng.standard_normal((n, 3))
    d = np.linalg.norm(x[:, None] - x, axis=-1)
    with jax.enable_x64(True):
      for base in (0, 5):
        found = hyperbolicity.based(jnp.asarray(d), base)
        np.testing.assert_allclose(found, brute(d, base), rtol=1e-12)
        assert brute(d) <= 2 * found + 1e-12
      np.testing.assert_allclose(hyperbolicity.relative(jnp.asarray(d)),
                                 2 * brute(d, 0) / d.max(), rtol=1e-12)  # fmt: skip


def test_trees_have_none_and_cycles_a_quarter():
  graph = tree.balanced(3, 3)
  direct = [(u, v) for u, v in graph.edges if v == (u - 1) // 3]
  assert len(direct) == len(graph.names) - 1
  assert hyperbolicity.based(jnp.asarray(hops(direct, len(graph.names)))) == 0
  cycle = [(i, (i + 1) % 24) for i in range(24)]
  assert hyperbolicity.based(jnp.asarray(hops(cycle, 24))) == 6


def test_points_at_one_place_are_a_tree():
  assert hyperbolicity.relative(jnp.zeros((5, 5))) == 0


def test_planes():
  """The hyperbolic plane's δ is log 2, whatever the radius; the flat plane's grows with it."""
  key = jax.random.key(0)
  angle = 2 * np.pi * np.random.default_rng(0).random(200)
  circle = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=1), jnp.float32)
  far = hyperbolicity.sampled(key, manifolds.make("lorentz"), np.sinh(9.0) * circle, n=20_000)
  assert far.shape == (20_480,)
  assert np.log(2) - 0.01 < far.max() < np.log(2) + 1e-3
  flat = hyperbolicity.sampled(key, manifolds.make("euclidean"), 9 * circle, n=20_000)
  assert flat.max() > 4
