"""The power spherical distribution against mpmath, quadrature and its own samples."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from absl.testing import parameterized

from geoemb.distributions import power_spherical
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

DTYPES = ("float32", "float64")
DIMS = (3, 1023)
KAPPAS = np.array([0.0, 1e-3, 0.3, 7.0, 900.0, 1e6])
DIM, C = 3, 0.7
MU = np.array([0.6, 0.0, -0.48, 0.64]) / np.sqrt(C)


@functools.cache
def facts(dtype):
  t, w = np.polynomial.legendre.leggauss(64)
  theta = np.pi * (t + 1) / 2
  unit = np.array([-0.8, 0.0, -0.36, 0.48])  # at right angles to MU
  points = np.cos(theta)[:, None] * MU + np.sin(theta)[:, None] * unit / np.sqrt(C)

  @quick_jit
  def compute(x, mu, kappa):
    f = lambda k: power_spherical.log_prob(x[:, None], mu, k, c=C)
    few, some = kappa[:4], kappa[2:5]
    draw = lambda k: power_spherical.sample(jax.random.key(2), mu, k, (4000,), c=C)
    if dtype == "float64":
      drawn, pulled = jax.jvp(draw, (some,), (jnp.ones_like(some),))
    else:  # for its type alone
      drawn, pulled = draw(some[:1]), None
    both = lambda x, k: jnp.sum(power_spherical.log_prob(x, mu, k, c=C))
    return {
      "log p": f(few), "entropy": power_spherical.entropy(few, DIM, c=C), "drawn": drawn,
      "q": jnp.stack([power_spherical.log_moment(kappa, d) for d in DIMS]),
      "kl": jnp.stack([power_spherical.kl_uniform(kappa, d) for d in DIMS]),
      "pulled": pulled, "A": power_spherical.mean_length(some, DIM),
      "by κ": jax.jvp(f, (few,), (jnp.ones_like(few),))[1],
      "ends": jnp.concatenate([jnp.ravel(a) for x in (mu, -mu) for a in
                               jax.tree.leaves(jax.value_and_grad(both, (0, 1))(x, few[3]))]),
    }  # fmt: skip

  with jax.enable_x64(True):
    f = compute(*(jnp.asarray(a, dtype) for a in (points, MU, KAPPAS)))
  weight = 0.5 * np.pi * w * 4 * np.pi * np.sin(theta) ** 2 / C**1.5
  return {k: np.asarray(v) for k, v in f.items() if v is not None} | {
    "weight": weight,
    "cos": np.cos(theta),
  }


@parameterized.parameters(*DTYPES)
class PowerSphericalTest(parameterized.TestCase):
  def test_normaliser_and_divergence_are_those_of_mpmath(self, dtype):
    mp.mp.dps = 40
    f = facts(dtype)
    self.assertEqual({str(f[k].dtype) for k in ("q", "kl", "log p", "drawn")}, {dtype})
    tol = {"float32": 4e-6, "float64": 1e-14}[dtype]
    for i, d in enumerate(DIMS):
      b = mp.mpf(d) / 2
      for j, k in enumerate(KAPPAS.astype(dtype)):
        k = mp.mpf(float(k))
        q = mp.loggamma(b + k) + mp.loggamma(2 * b) - mp.loggamma(2 * b + k) - mp.loggamma(b)
        kl = k * (mp.digamma(b + k) - mp.digamma(2 * b + k)) - q
        for found, exact in ((f["q"], q), (f["kl"], kl)):
          np.testing.assert_allclose(found[i, j], float(exact), rtol=tol, atol=tol)

  def test_integrates_to_1_with_the_entropy_it_says(self, dtype):
    f = facts(dtype)
    log_p = f["log p"].astype(float)
    p = np.exp(log_p) * f["weight"][:, None]
    tol = {"float32": 1e-6, "float64": 1e-9}[dtype]  # (1 + cos θ)^0.3 is not smooth at π
    np.testing.assert_allclose(p.sum(0), 1, rtol=tol)
    np.testing.assert_allclose(-(p * log_p).sum(0), f["entropy"], rtol=tol)

  def test_slopes(self, dtype):
    f = facts(dtype)
    self.assertTrue(np.all(np.isfinite(f["ends"])) and np.all(np.isfinite(f["by κ"])))
    p = np.exp(f["log p"].astype(float)) * f["weight"][:, None]
    # the score has mean 0
    np.testing.assert_allclose((p * f["by κ"]).sum(0), 0, atol=1e-5 if dtype == "float32" else 1e-8)

  def test_samples_have_the_mean_and_its_slope(self, dtype):
    if dtype == "float32":
      return
    f = facts(dtype)
    x = f["drawn"].astype(float)
    np.testing.assert_allclose(C * (x * x).sum(-1), 1, rtol=1e-5)
    drop = 1 - C * x @ MU
    error = drop.std(0) / np.sqrt(len(x))
    np.testing.assert_array_less(np.abs(drop.mean(0) - (1 - f["A"])), 5 * error)
    slope = C * f["pulled"] @ MU
    error = slope.std(0) / np.sqrt(len(x))
    expected = DIM / (KAPPAS[2:5] + DIM) ** 2
    np.testing.assert_array_less(np.abs(slope.mean(0) - expected), 5 * error)
