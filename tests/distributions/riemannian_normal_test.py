"""The Riemannian normal against mpmath, quadrature over the plane and its own samples."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from absl.testing import parameterized
from scipy import stats

from geoemb import manifolds
from geoemb.distributions import riemannian_normal
from geoemb.manifolds import horospherical, lorentz
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

DTYPES = ("float32", "float64")
C = 0.7
DIMS = (1, 3, 24)
SIGMAS = np.array([1e-3, 0.1, 1.0, 5.0, 20.0])


@functools.cache
def norms(dtype):
  @quick_jit
  def compute(s):
    square = jnp.stack([riemannian_normal.mean_square(s, d, c=C) for d in DIMS])
    values = jnp.stack([riemannian_normal.log_norm(s, d, c=C) for d in DIMS])
    return values, square, riemannian_normal.log_norm(s, 3, c=0.0)

  with jax.enable_x64(True):
    return [np.asarray(a) for a in compute(jnp.asarray(SIGMAS, dtype))]


def exact(sigma, dim, c):
  """The alternating sum, by expanding sinh^(d−1), in as many digits as it loses."""
  s, c, n = mp.mpf(sigma), mp.mpf(c), dim - 1
  area = 2 * mp.pi ** (mp.mpf(dim) / 2) / mp.gamma(mp.mpf(dim) / 2)
  total = mp.mpf(0)
  for k in range(dim):
    a = (n - 2 * k) * s * mp.sqrt(c)
    total += (-1) ** k * mp.binomial(n, k) * mp.exp(a * a / 2) * mp.erfc(-a / mp.sqrt(2))
  return mp.log(area * mp.sqrt(mp.pi / 2) * s * total / (2 * mp.sqrt(c)) ** n)


@functools.cache
def drawn(name, dtype, dim):
  m = manifolds.make(name, C)

  @quick_jit
  def compute(key, sigma):
    o = m.origin((3,), dim, jnp.dtype(dtype))
    mu = m.exp(
      o, 0.3 * m.egrad2rgrad(o, jnp.cos(jnp.arange(o.size, dtype=o.dtype)).reshape(o.shape))
    )
    x = riemannian_normal.sample(key, m, mu, sigma, (10000,))
    f = lambda x, s: riemannian_normal.log_prob(m, x, mu, s).sum()
    slopes = jax.grad(f, (0, 1))(jnp.concatenate([x[:1], mu[None]]), sigma)
    return m.dist(mu, x), slopes

  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, compute(jax.random.key(4), jnp.asarray([0.05, 0.8, 3], dtype)))


class NormTest(parameterized.TestCase):
  @parameterized.parameters(*DTYPES)
  def test_is_the_integral(self, dtype):
    mp.mp.dps = 120
    values, squares, flat = norms(dtype)
    self.assertEqual(str(values.dtype), dtype)
    tol = {"float32": 1e-6, "float64": 1e-14}[dtype]
    sigmas = SIGMAS.astype(dtype).astype(float)
    for i, d in enumerate(DIMS):
      expected = np.array([float(exact(s, d, C)) for s in sigmas])
      np.testing.assert_allclose(values[i], expected, rtol=tol, atol=tol)
    np.testing.assert_allclose(flat, 1.5 * np.log(2 * np.pi * SIGMAS**2), rtol=tol, atol=tol)
    if dtype == "float64":
      for i, d in enumerate(DIMS):
        slope = [float(s**3 * mp.diff(lambda s, d=d: exact(s, d, C), s)) for s in sigmas[1:]]
        np.testing.assert_allclose(squares[i, 1:], slope, rtol=1e-11)


class DensityTest(parameterized.TestCase):
  @parameterized.parameters("poincare", "horospherical")
  def test_integrates_to_1(self, name):
    t, w = np.polynomial.legendre.leggauss(48)
    r = 3.5 * (t + 1)
    theta = 2 * np.pi * np.arange(32) / 32
    sinh = np.sinh(np.sqrt(C) * r) / np.sqrt(C)
    weight = (3.5 * w * sinh)[:, None] * np.full(32, 2 * np.pi / 32)
    x = sinh[:, None, None] * np.stack([np.cos(theta), np.sin(theta)], -1)
    into = lorentz.to_poincare if name == "poincare" else horospherical.from_lorentz
    m = manifolds.make(name, C)

    @quick_jit
    def compute(x):
      mu = into(jnp.asarray([0.4, -0.3]), c=C)
      return riemannian_normal.log_prob(m, into(x, c=C), mu, 0.7)

    with jax.enable_x64(True):
      p = np.exp(np.asarray(compute(jnp.asarray(x.reshape(-1, 2)))))
    np.testing.assert_allclose(p @ weight.ravel(), 1, rtol=1e-10)

  @parameterized.parameters(("lorentz", "float32", 3), ("euclidean", "float64", 1))
  def test_samples_have_the_density(self, name, dtype, dim):
    r, slopes = drawn(name, dtype, dim)
    self.assertEqual(str(r.dtype), dtype)
    self.assertTrue(all(np.all(np.isfinite(a)) for a in jax.tree.leaves(slopes)))
    for distance, sigma in zip(r.T.astype(float), (0.05, 0.8, 3.0)):
      grid = np.linspace(0, 12 * sigma * (1 + dim * sigma), 40001)
      f = np.exp(-0.5 * (grid / sigma) ** 2) * np.sinh(np.sqrt(C) * grid) ** (dim - 1)
      share = np.concatenate([[0], np.cumsum((f[1:] + f[:-1]) / 2)])
      cdf = lambda t, grid=grid, share=share: np.interp(t, grid, share / share[-1])
      self.assertGreater(stats.kstest(distance, cdf).pvalue, 1e-6)
      error = (distance**2).std() / np.sqrt(len(distance))
      mean = (f * grid**2).sum() / f.sum()
      self.assertLess(abs((distance**2).mean() - mean), 5 * error)
