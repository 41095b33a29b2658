import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.reduction import tangent_pca
from tests.compiling import quick_jit

C, DIM = 0.7, 4


@pytest.mark.parametrize("name", ["euclidean", "lorentz", "poincare", "sphere"])
def test_finds_the_geodesics_that_points_were_spread_along(name):
  m = manifolds.make(name, C)
  rng = np.random.default_rng(0)
  spread = np.array([0.5, 0.2])
  a = rng.standard_normal((400, 2))
  a = (a - a.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(a.T, bias=True))).T * spread

  @quick_jit
  def compute(key):
    key_x, key_u = jax.random.split(key)
    mean = m.random(key_x, (), DIM, scale=0.4, dtype=jnp.float64)
    u, v = m.egrad2rgrad(mean, jax.random.normal(key_u, (2, *mean.shape), jnp.float64))
    u = u / m.norm(mean, u)
    v = v - m.inner(mean, u, v) * u
    v = v / m.norm(mean, v)
    x = m.exp(mean, a @ jnp.stack([u, v]))
    found = tangent_pca.fit(m, x, 3)
    back = tangent_pca.points(m, found, tangent_pca.coordinates(m, found, x))
    along = m.inner(mean, jnp.stack([u, v])[:, None], found.directions)
    gram = m.inner(mean, found.directions[:, None], found.directions)
    return x, mean, found, back, along, gram

  with jax.enable_x64(True):
    x, mean, found, back, along, gram = jax.tree.map(np.asarray, compute(jax.random.key(1)))
  # Logarithms sum to 0 at the true mean, which is where Fréchet's is.
  np.testing.assert_allclose(found.mean, mean, atol=1e-8)
  np.testing.assert_allclose(found.variances[:2], spread**2, rtol=1e-8)
  assert abs(found.variances[2]) < 1e-10
  np.testing.assert_allclose(found.total, np.sum(spread**2), rtol=1e-8)
  np.testing.assert_allclose(np.abs(along[:, :2]), np.eye(2), atol=1e-7)
  np.testing.assert_allclose(gram, np.eye(3), atol=1e-9)
  np.testing.assert_allclose(back, x, atol=1e-7)


def test_flat_space_is_ordinary_pca():
  rng = np.random.default_rng(1)
  x = (rng.standard_normal((60, 5)) * [3, 2, 1, 0.5, 0.1]).astype(np.float32)
  found = tangent_pca.fit(manifolds.make("euclidean"), x, 2)
  _, s, vt = np.linalg.svd(x - x.mean(axis=0))
  np.testing.assert_allclose(found.variances, s[:2] ** 2 / 60, rtol=1e-4)
  np.testing.assert_allclose(np.abs(np.sum(found.directions * vt[:2], axis=1)), 1, rtol=1e-4)


def test_mistakes():
  x = jnp.zeros((3, 2))
  with pytest.raises(ValueError, match="k must be between 1 and 2, got 3"):
    tangent_pca.fit(manifolds.make("euclidean"), x, 3)
  with pytest.raises(ValueError, match=r"points must be \[n, d\], got \[2\] on euclidean"):
    tangent_pca.fit(manifolds.make("euclidean"), x[0], 1)
