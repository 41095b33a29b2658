"""The functions of soft boxes against mpmath, over the range of floats."""

import jax
import mpmath as mp
import numpy as np
from absl.testing import parameterized

from geoemb import numerics
from geoemb.boxes import soft
from tests.compiling import full_jit

DTYPES = ("float32", "float64")


def value_and_slope(f, x):
  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, full_jit(jax.vmap(jax.value_and_grad(f)))(x))


class LogSpaceTest(parameterized.TestCase):
  def check(self, f, reference, slope_reference, x, rtol, atol):
    value, slope = value_and_slope(f, x)
    exact = [mp.mpf(float(a)) for a in x]
    goal = np.array([float(reference(a)) for a in exact])
    np.testing.assert_allclose(value, goal, rtol=rtol, atol=atol)  # both logarithms pass 0
    goal = np.array([float(slope_reference(a)) for a in exact])
    np.testing.assert_allclose(slope, goal, rtol=rtol)

  @parameterized.parameters(("float32", 1e-6), ("float64", 2e-15))
  def test_log_k0(self, dtype, rtol):
    """Arguments from 1e-30 to 1e4, and around the change of method at 1."""
    mp.mp.dps = 40
    x = np.concatenate([np.geomspace(1e-30, 1e4, 80), np.linspace(0.9, 1.1, 11)])
    self.check(
      soft.log_k0,
      lambda w: mp.log(mp.besselk(0, 2 * mp.exp(w))),
      lambda w: -2 * mp.exp(w) * mp.besselk(1, 2 * mp.exp(w)) / mp.besselk(0, 2 * mp.exp(w)),
      np.log(x / 2).astype(dtype), rtol, 2 * np.finfo(dtype).eps,
    )  # fmt: skip

  @parameterized.parameters(("float32", 1e-6), ("float64", 2e-15))
  def test_log_k0_beyond(self, dtype, rtol):
    """Against the first terms of both asymptotic series, exact there."""
    mp.mp.dps = 60
    top = float(numerics.slope_max(np.dtype(dtype)))
    x = np.geomspace(1e8, 0.99 * top, 40)
    self.check(
      soft.log_k0,
      lambda w: mp.log(mp.pi / (4 * mp.exp(w))) / 2 - 2 * mp.exp(w) - mp.exp(-w) / 16,
      lambda w: -2 * mp.exp(w) - 0.5 + mp.exp(-w) / 16,
      np.log(x / 2).astype(dtype), rtol, 0,
    )  # fmt: skip
    w = np.geomspace(1e2, 0.02 * float(np.finfo(dtype).max), 40).astype(dtype)
    self.check(
      soft.log_k0, lambda w: mp.log(-w - mp.euler), lambda w: 1 / (w + mp.euler), -w, rtol, 0
    )
    value, slope = value_and_slope(soft.log_k0, w)
    self.assertTrue(np.all(np.isfinite(value)) and np.all(np.diff(value) <= 0))
    self.assertTrue(np.all(slope >= -1.001 * top) and np.all(slope < -1e30))

  @parameterized.parameters(("float32", 1e-6), ("float64", 2e-15))
  def test_log_softplus(self, dtype, rtol):
    mp.mp.dps = 40
    x = np.geomspace(1e-6, 1e4, 60)
    self.check(
      soft.log_softplus,
      lambda x: mp.log(mp.log1p(mp.exp(x))),
      lambda x: 1 / ((1 + mp.exp(-x)) * mp.log1p(mp.exp(x))),
      np.concatenate([x, -x]).astype(dtype), rtol, 2 * np.finfo(dtype).eps,
    )  # fmt: skip
    x = np.geomspace(1e4, 0.02 * float(np.finfo(dtype).max), 20).astype(dtype)
    self.check(soft.log_softplus, mp.log, lambda x: 1 / x, x, rtol, 0)
    self.check(soft.log_softplus, lambda x: x, lambda x: 1, -x, rtol, 0)

  @parameterized.parameters(*DTYPES)
  def test_softplus_inverse(self, dtype):
    mp.mp.dps = 60
    y = np.geomspace(1e-30, 1e30, 80).astype(dtype)
    exact = lambda y: mp.log(mp.expm1(y)) if y < 1e3 else y
    ulp = np.finfo(dtype).eps
    self.check(
      soft.softplus_inverse, exact, lambda y: -1 / mp.expm1(-y) if y < 1e3 else 1, y,
      8 * ulp, 4 * ulp,
    )  # fmt: skip
    value, slope = value_and_slope(soft.softplus_inverse, np.array([-1, 0], dtype))
    self.assertTrue(np.all(np.isfinite(value)) and np.all(slope == 0))

  @parameterized.parameters(*DTYPES)
  def test_soft_max_at_the_ends(self, dtype):
    top, least = float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)
    x, y, t = np.array(
      [[top, -top, least], [top, top, top], [-top, -top, 1], [0, 0, least], [1, 1, 1]], dtype
    ).T
    with jax.enable_x64(True):
      value, slopes = full_jit(jax.vmap(jax.value_and_grad(soft.soft_max, (0, 1, 2))))(x, y, t)
    np.testing.assert_allclose(value, [top, top, -top, 0, 1 + np.log(2)], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(slopes[0], [1, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(slopes[1], [0, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(slopes[2], [0, *[np.log(2)] * 4], rtol=1e-6)
