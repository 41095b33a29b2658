"""von Mises–Fisher against mpmath, scipy, quadrature and its own samples."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from absl.testing import parameterized
from scipy import stats

from geoemb.distributions import bessel
from geoemb.distributions import von_mises_fisher as vmf
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

DTYPES = ("float32", "float64")
ORDERS = (0.0, 0.5, 7.0, 24.5, 511.0)
# κ on both sides of the change of formula at √(ν² + κ²) = 25
KAPPAS = np.concatenate([np.geomspace(1e-3, 1e6, 19), [23.9, 24.99, 25.01, 12.0]])
DIM, C = 3, 0.7
MU = np.array([0.6, 0.0, -0.48, 0.64]) / np.sqrt(C)


@functools.cache
def tables(dtype):
  """By order: log-Bessel less κ, ratio, 1 − ratio, its slope; and derivatives of the first two."""

  @quick_jit
  def compute(x):
    def one(order):
      value = bessel.functions(order, x)
      by = [jax.vmap(jax.grad(functools.partial(f, order)))(x)
            for f in (bessel.log_scaled, bessel.ratio)]  # fmt: skip
      return jnp.stack([*value, *by])

    return [one(order) for order in ORDERS]

  with jax.enable_x64(True):
    return [np.asarray(a) for a in compute(jnp.asarray(KAPPAS, dtype))]


@functools.cache
def exact(order, x):
  mp.mp.dps = 50
  nu, x = mp.mpf(order), mp.mpf(x)
  i0, i1 = mp.besseli(nu, x), mp.besseli(nu + 1, x)
  a = i1 / i0
  bend = 1 - a * a - (2 * nu + 1) / x * a
  value = mp.log(mp.gamma(nu + 1) * (2 / x) ** nu * i0) - x
  return [float(v) for v in (value, a, 1 - a, bend, a - 1, bend)]


@functools.cache
def facts(dtype):
  t, w = np.polynomial.legendre.leggauss(64)
  theta = np.pi * (t + 1) / 2
  unit = np.array([-0.8, 0.0, -0.36, 0.48])  # at right angles to MU
  points = np.cos(theta)[:, None] * MU + np.sin(theta)[:, None] * unit / np.sqrt(C)
  kappas = np.array([0.0, 0.3, 4.0, 60.0])

  @quick_jit
  def compute(x, mu, kappa, far):
    f = lambda k: vmf.log_prob(x[:, None], mu, k, c=C)
    h = jnp.asarray(1e-4, x.dtype) * (1 + kappa)
    numeric = (f(kappa + h) - f(jnp.abs(kappa - h))) / (2 * h)
    drawn = vmf.sample(jax.random.key(1), mu, far, (20000,), c=C)
    invert = lambda k: vmf.concentration(vmf.mean_length(k, 1), 1)
    back, one = jax.jvp(invert, (far[1:],), (jnp.ones_like(far[1:]),))
    mean, fitted = vmf.fit(jnp.concatenate([
      jnp.moveaxis(drawn, 0, -2), jnp.broadcast_to(mu, (1, len(drawn), 4))]), c=C)  # fmt: skip
    return {
      "log p": f(kappa), "by κ": jax.jvp(f, (kappa,), (jnp.ones_like(kappa),))[1],
      "numeric": numeric, "entropy": vmf.entropy(kappa, DIM, c=C),
      "drawn": drawn, "A": vmf.mean_length(far, DIM), "back": back,
      "slope back": one, "fit μ": mean, "fit κ": fitted,
      "still": jax.grad(lambda m: vmf.log_prob(m, m, 1e6, c=C))(mu),
    }  # fmt: skip

  far = np.array([0.0, 0.5, 20.0, 3000.0])
  with jax.enable_x64(True):
    f = compute(*(jnp.asarray(a, dtype) for a in (points, MU, kappas, far)))
  f = {k: np.asarray(v) for k, v in f.items()}
  weight = 0.5 * np.pi * w * 4 * np.pi * np.sin(theta) ** 2 / C**1.5
  return f | {"weight": weight, "cos": np.cos(theta), "kappa": kappas, "far": far, "x": points}


class BesselTest(parameterized.TestCase):
  @parameterized.product(dtype=DTYPES, index=tuple(range(len(ORDERS))))
  def test_against_mpmath(self, dtype, index):
    x = KAPPAS.astype(dtype).astype(float)
    expected = np.array([exact(ORDERS[index], v) for v in x]).T
    found = tables(dtype)[index]
    self.assertEqual(str(found.dtype), dtype)
    # 1 − A and the slope of A are by differences below 25: at most 25 and 25² of it is lost
    for f, e, loss in zip(found, expected, (1, 1, 40, 600, 40, 600)):
      tol = loss * {"float32": 5e-7, "float64": 2e-14}[dtype]
      np.testing.assert_allclose(f, e, rtol=tol)


@parameterized.parameters(*DTYPES)
class DensityTest(parameterized.TestCase):
  def test_integrates_to_1_with_the_mean_and_entropy_it_says(self, dtype):
    f = facts(dtype)
    tol = {"float32": 2e-5, "float64": 1e-12}[dtype]
    log_p = f["log p"].astype(float)
    p = np.exp(log_p) * f["weight"][:, None]
    np.testing.assert_allclose(p.sum(0), 1, rtol=tol)
    np.testing.assert_allclose(-(p * log_p).sum(0), f["entropy"], rtol=tol, atol=tol)
    self.assertEqual({str(f[k].dtype) for k in ("log p", "drawn", "back", "fit κ")}, {dtype})

  def test_is_that_of_scipy(self, dtype):
    f = facts(dtype)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    for k, log_p in zip(f["kappa"][1:], f["log p"].T[1:]):
      expected = stats.vonmises_fisher(unit(MU), k).logpdf(unit(f["x"])) + 1.5 * np.log(C)
      np.testing.assert_allclose(log_p, expected, rtol=1e-6 if dtype == "float32" else 1e-12)

  def test_slopes(self, dtype):
    f = facts(dtype)
    self.assertTrue(np.all(np.isfinite(f["by κ"])) and np.all(np.isfinite(f["still"])))
    np.testing.assert_array_equal(f["still"], 0)
    if dtype == "float64":  # the difference at κ = 0 is one-sided
      np.testing.assert_allclose(f["by κ"][:, 1:], f["numeric"][:, 1:], rtol=1e-6, atol=1e-7)

  def test_samples_have_the_mean_and_spread_of_the_density(self, dtype):
    f = facts(dtype)
    x = f["drawn"].astype(float)
    np.testing.assert_allclose(C * (x * x).sum(-1), 1, rtol=1e-5)
    drop = 1 - C * x @ MU
    error = drop.std(0) / np.sqrt(len(x))
    np.testing.assert_array_less(np.abs(drop.mean(0) - (1 - f["A"])), 5 * error)
    k = f["far"][1:]
    second = 1 - DIM * f["A"][1:] / k  # E cos² = 1 − d A/κ
    cos = 1 - drop[:, 1:]
    error = (cos**2).std(0) / np.sqrt(len(x))
    np.testing.assert_array_less(np.abs((cos**2).mean(0) - second), 5 * error + 1e-6)
    across = x - (x @ MU)[..., None] * C * MU
    self.assertLess(np.abs(across.mean(0)).max(), 5 / np.sqrt(len(x)))

  def test_concentration_inverts_the_mean_length(self, dtype):
    f = facts(dtype)
    # by the digits of 1 − A
    tol = {"float32": 1e-6, "float64": 1e-14}[dtype] * f["far"][1:].max()
    np.testing.assert_allclose(f["back"], f["far"][1:], rtol=tol)
    np.testing.assert_allclose(f["slope back"], 1, rtol=5 * tol)
    self.assertTrue(np.all(np.isfinite(f["fit κ"])))  # of points that are all one, too
    np.testing.assert_allclose(f["fit κ"][1:4], f["far"][1:], rtol=0.1)
    np.testing.assert_allclose(f["fit μ"][2:], np.stack([MU] * 3), atol=0.02)
