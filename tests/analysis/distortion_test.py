import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csgraph

from geoemb import manifolds
from geoemb.analysis import distortion

EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [3, 4], [4, 3], [5, 6]])


@pytest.mark.parametrize("weighted", [False, True])
def test_the_definitions_over_all_pairs(weighted, monkeypatch):
  monkeypatch.setattr(distortion, "_PAIRS", 14)  # two sources at a time
  rng = np.random.default_rng(0)
  weights = rng.uniform(0.5, 2, len(EDGES)) if weighted else None
  with jax.enable_x64(True):
    m = manifolds.make("lorentz", 0.7)
    x = m.random(jax.random.key(0), (7,), 3, scale=1.0, dtype=jnp.float64)
    found = distortion.graph(m, x, EDGES, weights=weights)
    near = np.asarray(m.dist(x[:, None], x))
  dense = np.full((7, 7), np.inf)
  for (u, v), w in zip(EDGES, weights if weighted else np.ones(len(EDGES))):
    dense[u, v] = dense[v, u] = min(dense[u, v], w)
  paths = csgraph.shortest_path(np.where(np.isfinite(dense), dense, 0))
  np.fill_diagonal(paths, np.inf)
  ratio = (near / paths)[np.isfinite(paths)]
  assert found.pairs == len(ratio) == 22
  np.testing.assert_allclose(found.average, np.abs(ratio - 1).mean())
  np.testing.assert_allclose(found.squared, np.abs(ratio**2 - 1).mean())
  np.testing.assert_allclose(found.worst, ratio.max() / ratio.min())
  a = np.linspace(0.5, 1.5, 5) * found.scale
  assert np.argmin([np.sum((s * ratio - 1) ** 2) for s in a]) == 2
  one = distortion.graph(m, np.asarray(x, np.float32), EDGES, weights=weights, sources=[5])
  assert one.pairs == 1
  np.testing.assert_allclose(one.average, abs(near[5, 6] / paths[5, 6] - 1), rtol=1e-5)


def test_a_path_on_a_line_has_none():
  m = manifolds.make("euclidean")
  x = np.arange(6.0, dtype=np.float32)[:, None]
  found = distortion.graph(m, 3 * x, np.stack([np.arange(5), np.arange(1, 6)], 1))
  np.testing.assert_allclose(found, (2, 8, 1, 1 / 3, 30), rtol=1e-6)


def test_mistakes():
  m, x = manifolds.make("euclidean"), np.zeros((3, 2), np.float32)
  with pytest.raises(ValueError, match="ids from 0 to 2, got 0 to 3"):
    distortion.graph(m, x, [[0, 3]])
  with pytest.raises(ValueError, match="weights must be positive, got -1"):
    distortion.graph(m, x, [[0, 1]], weights=[-1])
  with pytest.raises(ValueError, match="no two nodes are joined"):
    distortion.graph(m, x, np.zeros((0, 2), int))
  assert distortion.graph(m, x, [[0, 1]]).worst == np.inf
