"""Volumes of balls against mpmath, and points drawn in them against those volumes."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from absl.testing import parameterized
from scipy import stats

from geoemb import manifolds
from geoemb.distributions import uniform
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

DTYPES = ("float32", "float64")
C = 0.7
RADII = np.array([1e-3, 0.5, 5.0, 30.0])
DIMS = (1, 3, 64)


@functools.cache
def volumes(dtype):
  """Log-volumes and their slopes, [dim, radius]."""

  @quick_jit
  def compute(r):
    one = (jnp.ones_like(r),)
    f = lambda d: jax.jvp(lambda r: uniform.ball_log_volume(r, d, c=C), (r,), one)
    flat = uniform.ball_log_volume(r, 3, c=0.0)
    return [jnp.stack(a) for a in zip(*map(f, DIMS))], flat

  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, compute(jnp.asarray(RADII, dtype)))


@functools.cache
def drawn(name, dtype, dim):
  """Distances of samples from their centers, and the log-densities there and beyond."""
  m = manifolds.make(name, C)

  @quick_jit
  def compute(key, radius):
    o = m.origin((2,), dim, jnp.dtype(dtype))
    center = m.exp(
      o, 0.3 * m.egrad2rgrad(o, jnp.cos(jnp.arange(o.size, dtype=o.dtype)).reshape(o.shape))
    )
    x = uniform.ball_sample(key, m, center, radius, (10000,))
    density = uniform.ball_log_prob(m, x, center, radius * (1 + 1e-3))
    return m.dist(center, x), density, uniform.ball_log_prob(m, x, center, 0.1), x

  with jax.enable_x64(True):
    radius = jnp.asarray([0.3, 3.0], dtype)
    return [np.asarray(a) for a in compute(jax.random.key(5), radius)]


class BallTest(parameterized.TestCase):
  @parameterized.parameters(*DTYPES)
  def test_volume_is_the_integral_and_its_slope_the_surface(self, dtype):
    mp.mp.dps = 30
    (values, slopes), flat = volumes(dtype)
    self.assertEqual(str(values.dtype), dtype)
    root = mp.sqrt(mp.mpf(C))
    for i, d in enumerate(DIMS):
      area = 2 * mp.pi ** (mp.mpf(d) / 2) / mp.gamma(mp.mpf(d) / 2)
      for j, r in enumerate(RADII.astype(dtype)):
        r = mp.mpf(float(r))
        share = lambda y, r=r, d=d: (mp.sinh(root * (r - y)) / mp.sinh(root * r)) ** (d - 1)
        depth = min(r, 90 * r / (d - 1) if d > 1 else r)
        total = mp.quad(share, [0, depth / 64, depth / 16, depth / 4, depth])
        exact = mp.log(area * total) + (d - 1) * mp.log(mp.sinh(root * r) / root)
        tol = {"float32": 1e-6, "float64": 2e-14}[dtype]
        np.testing.assert_allclose(values[i, j], float(exact), rtol=tol, atol=tol)
        np.testing.assert_allclose(slopes[i, j], float(1 / total), rtol=20 * tol)
    ball = np.log(4 / 3 * np.pi * RADII**3)
    np.testing.assert_allclose(flat, ball, rtol=1e-6 if dtype == "float32" else 1e-13)

  @parameterized.parameters(("poincare", "float32", 3), ("euclidean", "float64", 1))
  def test_points_are_uniform(self, name, dtype, dim):
    r, inner, outer, x = drawn(name, dtype, dim)
    self.assertEqual({str(a.dtype) for a in (r, inner, x)}, {dtype})
    for distance, radius in zip(r.T, (0.3, 3.0)):
      grid = np.linspace(0, radius, 4001)
      f = np.sinh(np.sqrt(C) * grid) ** (dim - 1)
      share = np.concatenate([[0], np.cumsum((f[1:] + f[:-1]) / 2)])
      cdf = lambda t, grid=grid, share=share: np.interp(t, grid, share / share[-1])
      self.assertGreater(stats.kstest(distance, cdf).pvalue, 1e-6)
    self.assertTrue(np.all(np.isfinite(inner)) and np.all(inner == inner[:1]))
    self.assertTrue(np.all(np.isneginf(outer) == (r > 0.1)))

  def test_the_sphere_has_none(self):
    m = manifolds.make("sphere")
    with self.assertRaisesRegex(ValueError, "hyperbolic or flat"):
      uniform.ball_log_prob(m, jnp.ones((3,)), jnp.ones((3,)), 1.0)


class SphereTest(parameterized.TestCase):
  def test_density_is_one_over_the_area(self):
    draw = quick_jit(lambda key: uniform.sphere_sample(key, (20000,), 2, c=4.0))
    x = draw(jax.random.key(0))
    log_p = quick_jit(functools.partial(uniform.sphere_log_prob, c=4.0))(x)
    np.testing.assert_allclose(log_p, -np.log(np.pi), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 0.5, rtol=1e-6)
    self.assertGreater(stats.kstest(np.asarray(x[:, 1]), stats.uniform(-0.5, 1).cdf).pvalue, 1e-6)
