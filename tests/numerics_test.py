"""The special functions against mpmath and at the edges of the floating-point range."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
from absl.testing import parameterized

from geoemb import numerics
from tests.compiling import full_jit

DTYPES = ("float32", "float64")


def arguments(dtype: str, low: float, high: float) -> np.ndarray:
  return np.geomspace(low, high, 200).astype(dtype)


def value_and_slope(f, x):
  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, full_jit(jax.vmap(jax.value_and_grad(f)))(x))


@parameterized.product(dtype=DTYPES)
class NormTest(parameterized.TestCase):
  def test_value_and_gradient_at_0_are_0(self, dtype):
    for norm in (numerics.norm, numerics.safe_norm):
      value, slope = value_and_slope(norm, np.zeros((1, 3), dtype))
      np.testing.assert_array_equal(value, 0)
      np.testing.assert_array_equal(slope, 0)

  def test_zeros_known_to_the_compiler_have_norm_0(self, dtype):
    with jax.enable_x64(True):
      norm = jax.jit(lambda: numerics.safe_norm(jnp.zeros((2, 3), dtype)))()
    np.testing.assert_array_equal(norm, 0)

  def test_whole_range(self, dtype):
    top, least = float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)
    scale = np.geomspace(30 * least, 0.1 * top, 80)
    x = (scale[:, None] * (np.array([3, -4, 12]) / 13)).astype(dtype)
    value, slope = value_and_slope(numerics.safe_norm, x)
    rtol = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(value, scale, rtol=rtol)
    np.testing.assert_allclose(slope, np.tile([3 / 13, -4 / 13, 12 / 13], (80, 1)), rtol=rtol)

  def test_ordinary_numbers_are_not_scaled(self, dtype):
    x = np.random.default_rng(0).standard_normal((100, 7)).astype(dtype)
    with jax.enable_x64(True):
      plain, safe = full_jit(lambda x: (jnp.sqrt(jnp.sum(x * x, -1)), numerics.safe_norm(x)))(x)
    np.testing.assert_allclose(plain, safe, rtol=2 * np.finfo(dtype).eps)

  def test_more_than_the_largest_number_is_that(self, dtype):
    x = np.full((1, 3), np.finfo(dtype).max)
    self.assertEqual(value_and_slope(numerics.safe_norm, x)[0], np.finfo(dtype).max)

  def test_unit_has_a_derivative_at_every_length(self, dtype):
    x = np.array([[1e-30, 0, 0], [1e30, 0, 0], [0, 0, 0]], dtype)
    value, slope = value_and_slope(lambda x: jnp.sum(numerics.unit(x)), x)
    np.testing.assert_allclose(value, [1, 1, 0], rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(slope[0], [0, 1e30, 1e30], rtol=1e-5)
    self.assertTrue(np.all(np.isfinite(slope)))


class SpecialFunctionTest(parameterized.TestCase):
  def check(self, f, reference, x, ulps, slope_ulps):
    mp.mp.dps = 50
    value, slope = value_and_slope(f, x)
    goal = np.array([float(reference(mp.mpf(float(a)))) for a in x])
    np.testing.assert_allclose(value, goal, rtol=ulps * np.finfo(x.dtype).eps)
    goal = np.array([float(mp.diff(reference, mp.mpf(float(a)))) for a in x])
    rtol = slope_ulps * np.finfo(x.dtype).eps
    np.testing.assert_allclose(slope, goal, rtol=rtol, atol=rtol * 1e-3 * np.max(np.abs(goal)))

  @parameterized.parameters(*DTYPES)
  def test_asinh(self, dtype):
    x = arguments(dtype, 1e-6, 1e30)  # jax 0.10's slope is 0 from 1.8e19 on in float32
    self.check(numerics.asinh, mp.asinh, np.concatenate([x, -x]), 8, 8)

  @parameterized.parameters(*DTYPES)
  def test_arccos(self, dtype):
    x = np.concatenate([np.linspace(0, 0.999, 31), 1 - 2.0 ** -np.arange(1, 20)]).astype(dtype)
    self.check(numerics.arccos, mp.acos, np.concatenate([x, -x[1:]]), 8, 8)
    ends = np.array([-2, -1, 1, 2], dtype)
    np.testing.assert_allclose(numerics.arccos(ends), [np.pi, np.pi, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(jax.vmap(jax.grad(numerics.arccos))(ends), 0)

  @parameterized.parameters(*DTYPES)
  def test_arcosh(self, dtype):
    x = np.concatenate([1 + arguments(dtype, 1e-5, 10), arguments(dtype, 10, 1e30)])
    self.check(numerics.arcosh, mp.acosh, x, 8, 8)

  @parameterized.parameters(*DTYPES)
  def test_arcosh_is_0_up_to_1(self, dtype):
    value, slope = value_and_slope(numerics.arcosh, np.array([-1e30, 0, 1], dtype))
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(slope, 0)

  @parameterized.product(
    case=(("sinh_over", mp.sinh, 80.0), ("sin_over", mp.sin, 20.0), ("tanh_over", mp.tanh, 1e3),
          ("asinh_over", mp.asinh, 1e9), ("artanh_over", mp.atanh, 0.99),
          ("asin_over", mp.asin, 0.9)), dtype=DTYPES,
  )  # fmt: skip
  def test_quotients(self, case, dtype):
    name, f, top = case
    # derivatives are differences of two terms: beside the series they keep eps^(2/3)
    slope_ulps = float(np.finfo(dtype).eps) ** (-1 / 3) * 20
    x = arguments(dtype, 1e-4, top)
    self.check(getattr(numerics, name), lambda t: f(t) / t, np.concatenate([x, -x]), 64, slope_ulps)

  @parameterized.parameters(*DTYPES)
  def test_quotients_at_0_and_far_out(self, dtype):
    x = np.array([0, 1e-30, 1e30, -1e30], dtype)
    for name in ("sinh_over", "sin_over", "tanh_over", "asinh_over", "artanh_over"):
      value, slope = value_and_slope(getattr(numerics, name), x)
      np.testing.assert_array_equal(value[:2], 1, name)
      self.assertTrue(np.all(np.isfinite(value)) and np.all(np.isfinite(slope)), name)

  @parameterized.product(
    case=(("asinh_root_over", -0.9, 1e9), ("sinh_root_over", -9.0, 900.0),
          ("cosh_root", -2.0, 900.0)), dtype=DTYPES,
  )  # fmt: skip
  def test_functions_of_a_root_on_both_sides_of_0(self, case, dtype):
    name, least, top = case
    f = {
      "asinh_root_over": lambda t: mp.asinh(mp.sqrt(t)) / mp.sqrt(t) if t else mp.mpf(1),
      "sinh_root_over": lambda t: mp.sinh(mp.sqrt(t)) / mp.sqrt(t) if t else mp.mpf(1),
      "cosh_root": lambda t: mp.cosh(mp.sqrt(t)),
    }[name]
    x = np.concatenate([-arguments(dtype, 1e-6, -least), arguments(dtype, 1e-6, top)])
    self.check(getattr(numerics, name), lambda t: mp.re(f(t)), x, 32, 500)
    value, slope = value_and_slope(getattr(numerics, name), np.zeros(1, dtype))
    self.assertEqual(value, 1)
    goal = {"asinh_root_over": -1 / 6, "sinh_root_over": 1 / 6, "cosh_root": 0.5}[name]
    np.testing.assert_allclose(slope, goal, rtol=np.finfo(dtype).eps)

  @parameterized.product(dtype=DTYPES)
  def test_log_sinh_root_over(self, dtype):
    log = lambda t: mp.re(mp.log(mp.sinh(mp.sqrt(t)) / mp.sqrt(t)))
    top = 1e30 if dtype == "float32" else 1e200  # the hyperbolic sine alone overflows from 1e4 on
    x = np.concatenate([-arguments(dtype, 1e-6, 9.0), arguments(dtype, 1e-6, top)])
    self.check(numerics.log_sinh_root_over, log, x, 32, 32)
    beyond = np.array([-(np.pi**2), -10, -1e30, 0], dtype)
    value, slope = value_and_slope(numerics.log_sinh_root_over, beyond)
    self.assertTrue(np.all(np.isfinite(value)) and np.all(np.isfinite(slope)))
    np.testing.assert_array_equal(slope[1:3], 0)
    np.testing.assert_allclose(slope[3], 1 / 6, rtol=np.finfo(dtype).eps)

  @parameterized.product(c=(1.0, 0.37, 1e-6), dtype=DTYPES)
  def test_arc(self, c, dtype):
    mp.mp.dps = 50
    c = np.dtype(dtype).type(c)
    exact = mp.mpf(float(c))
    self.check(
      lambda h: numerics.arc(h, jnp.asarray(c)),
      lambda h: 2 * mp.asinh(mp.sqrt(exact) * h) / mp.sqrt(exact),
      arguments(dtype, 1e-8, 1e6), 8, 8,
    )  # fmt: skip

  @parameterized.parameters(*DTYPES)
  def test_arc_by_curvature(self, dtype):
    mp.mp.dps = 50
    h = arguments(dtype, 1e-3, 1e6)
    with jax.enable_x64(True):
      one = jnp.asarray(1, dtype)
      slope = full_jit(jax.vmap(jax.grad(numerics.arc, 1), (0, None)))(h, one)
    f = lambda h, c: 2 * mp.asinh(mp.sqrt(c) * h) / mp.sqrt(c)
    goal = [float(mp.diff(lambda c, h=h: f(mp.mpf(float(h)), c), 1)) for h in h]
    # two terms that cancel as h², beside the series
    np.testing.assert_allclose(slope, goal, rtol=np.finfo(dtype).eps ** (2 / 3) * 10)


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
      numerics.log_k0,
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
      numerics.log_k0,
      lambda w: mp.log(mp.pi / (4 * mp.exp(w))) / 2 - 2 * mp.exp(w) - mp.exp(-w) / 16,
      lambda w: -2 * mp.exp(w) - 0.5 + mp.exp(-w) / 16,
      np.log(x / 2).astype(dtype), rtol, 0,
    )  # fmt: skip
    w = np.geomspace(1e2, 0.02 * float(np.finfo(dtype).max), 40).astype(dtype)
    self.check(
      numerics.log_k0, lambda w: mp.log(-w - mp.euler), lambda w: 1 / (w + mp.euler), -w, rtol, 0
    )
    value, slope = value_and_slope(numerics.log_k0, w)
    self.assertTrue(np.all(np.isfinite(value)) and np.all(np.diff(value) <= 0))
    self.assertTrue(np.all(slope >= -1.001 * top) and np.all(slope < -1e30))

  @parameterized.parameters(("float32", 1e-6), ("float64", 2e-15))
  def test_log_softplus(self, dtype, rtol):
    mp.mp.dps = 40
    x = np.geomspace(1e-6, 1e4, 60)
    self.check(
      numerics.log_softplus,
      lambda x: mp.log(mp.log1p(mp.exp(x))),
      lambda x: 1 / ((1 + mp.exp(-x)) * mp.log1p(mp.exp(x))),
      np.concatenate([x, -x]).astype(dtype), rtol, 2 * np.finfo(dtype).eps,
    )  # fmt: skip
    x = np.geomspace(1e4, 0.02 * float(np.finfo(dtype).max), 20).astype(dtype)
    self.check(numerics.log_softplus, mp.log, lambda x: 1 / x, x, rtol, 0)
    self.check(numerics.log_softplus, lambda x: x, lambda x: 1, -x, rtol, 0)

  @parameterized.parameters(*DTYPES)
  def test_softplus_inverse(self, dtype):
    mp.mp.dps = 60
    y = np.geomspace(1e-30, 1e30, 80).astype(dtype)
    exact = lambda y: mp.log(mp.expm1(y)) if y < 1e3 else y
    ulp = np.finfo(dtype).eps
    self.check(
      numerics.softplus_inverse, exact, lambda y: -1 / mp.expm1(-y) if y < 1e3 else 1, y,
      8 * ulp, 4 * ulp,
    )  # fmt: skip
    value, slope = value_and_slope(numerics.softplus_inverse, np.array([-1, 0], dtype))
    self.assertTrue(np.all(np.isfinite(value)) and np.all(slope == 0))

  @parameterized.parameters(*DTYPES)
  def test_soft_max_at_the_ends(self, dtype):
    top, least = float(np.finfo(dtype).max), float(np.finfo(dtype).tiny)
    x, y, t = np.array(
      [[top, -top, least], [top, top, top], [-top, -top, 1], [0, 0, least], [1, 1, 1]], dtype
    ).T
    with jax.enable_x64(True):
      value, slopes = full_jit(jax.vmap(jax.value_and_grad(numerics.soft_max, (0, 1, 2))))(x, y, t)
    np.testing.assert_allclose(value, [top, top, -top, 0, 1 + np.log(2)], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(slopes[0], [1, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(slopes[1], [0, 0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(slopes[2], [0, *[np.log(2)] * 4], rtol=1e-6)

  def test_clip_through_keeps_the_gradient(self):
    value, slope = value_and_slope(
      lambda x: numerics.clip_through(x, -1.0, 0.0), np.array([-2, -0.5, 1e-7], np.float32)
    )
    np.testing.assert_array_equal(value, np.array([-1, -0.5, 0], np.float32))
    np.testing.assert_array_equal(slope, 1)


class ExactnessTest(parameterized.TestCase):
  @parameterized.parameters(*DTYPES)
  def test_split_is_exact(self, dtype):
    x = np.random.default_rng(0).standard_normal(1000).astype(dtype)
    with jax.enable_x64(True):
      hi, lo = (np.asarray(a) for a in full_jit(numerics.split)(x))
    np.testing.assert_array_equal(hi + lo, x)
    as_long = hi.astype(np.longdouble) if dtype == "float64" else hi.astype(np.float64)
    np.testing.assert_array_equal((hi * hi).astype(as_long.dtype), as_long * as_long)

  @parameterized.parameters(*DTYPES)
  def test_pow2(self, dtype):
    x = np.array([1, 1.99, 2, 3, 0.3, 1e-20, 1e20, 0], dtype)
    with jax.enable_x64(True):
      p = full_jit(numerics.pow2)(x)
    np.testing.assert_array_equal(p, [*(2.0 ** np.floor(np.log2(x[:-1].astype(float)))), 0])

  @parameterized.product(c=(1.0, 0.37, 3.9, 1e-4, 50.0), dtype=DTYPES)
  def test_co_square_near_the_boundary(self, c, dtype):
    mp.mp.dps = 50
    rng = np.random.default_rng(0)
    c = np.dtype(dtype).type(c)
    n = 200
    x = rng.standard_normal((n, 10))
    gap = np.geomspace(np.finfo(dtype).eps * 4, 1, n)[:, None]
    x = ((1 - gap) * x / np.linalg.norm(x, axis=-1, keepdims=True) / np.sqrt(float(c))).astype(
      dtype
    )
    with jax.enable_x64(True):
      a = np.asarray(full_jit(numerics.co_square)(x, jnp.asarray(c)))
    goal = [1 - mp.mpf(float(c)) * mp.fsum(mp.mpf(float(t)) ** 2 for t in row) for row in x]
    error = [abs(float(mp.mpf(float(s)) - t)) / (1e-2 + float(t)) for s, t in zip(a, goal)]
    self.assertLess(max(error), 0.5 * np.finfo(dtype).eps)  # eps/200 absolute where it matters

  @parameterized.parameters(*DTYPES)
  def test_co_square_outside(self, dtype):
    x = np.array([[1e30, 0], [1.2, 0], [30, 40]], dtype)
    with jax.enable_x64(True):
      a, g = full_jit(jax.vmap(jax.value_and_grad(numerics.co_square), (0, None)))(
        x, jnp.ones((), dtype)
      )
    np.testing.assert_allclose(a, [-1, 1 - 1.44, -1], rtol=1e-6)
    self.assertTrue(np.all(np.isfinite(g)))


class RootTest(parameterized.TestCase):
  def test_safe_sqrt_is_0_below_the_floor(self):
    x = jnp.array([-1.0, 0, 0.5, 2, 4])
    value, slope = jax.vmap(jax.value_and_grad(numerics.safe_sqrt), (0, None))(x, jnp.float32(1))
    np.testing.assert_allclose(value, [0, 0, 0, np.sqrt(2), 2], rtol=1e-6)
    np.testing.assert_allclose(slope, [0, 0, 0, 0.5 / np.sqrt(2), 0.25], rtol=1e-6)

  def test_bound_stops_the_gradient_and_keeps_nan(self):
    x = jnp.array([-3.0, 0.5, 3, np.nan])
    value, slope = jax.vmap(jax.value_and_grad(lambda x: numerics.bound(x, 1)))(x)
    np.testing.assert_array_equal(value, [-1, 0.5, 1, np.nan])
    np.testing.assert_array_equal(slope[:3], [0, 1, 0])

  def test_hypot_and_atan2(self):
    a = jnp.array([0, 3e30, 3e-30, 0])
    b = jnp.array([0, 4e30, 4e-30, 1])
    h, (by_a, by_b) = full_jit(jax.vmap(jax.value_and_grad(numerics.hypot, (0, 1))))(a, b)
    np.testing.assert_allclose(h, [0, 5e30, 5e-30, 1], rtol=1e-6)
    np.testing.assert_allclose(by_a, [0, 0.6, 0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(by_b, [0, 0.8, 0.8, 1], rtol=1e-6)
    angle, slope = full_jit(jax.vmap(jax.value_and_grad(numerics.atan2)))(a, b)
    np.testing.assert_allclose(angle, np.arctan2(a, b), rtol=1e-6)
    self.assertTrue(np.all(np.isfinite(slope)))

  def test_affinity_is_exp_of_the_distance(self):
    h = arguments("float32", 1e-3, 1e4)
    for c in (1.0, 0.25, 0.7):
      one, slope = value_and_slope(lambda h, c=c: numerics.arc_affinity(h * h, c), h)
      goal, steep = value_and_slope(lambda h, c=c: jnp.exp(-numerics.arc(h, jnp.float32(c))), h)
      np.testing.assert_allclose(one, goal, rtol=1e-5)
      np.testing.assert_allclose(slope, steep, rtol=1e-5)
      none = np.array([0, -1e-9, -1], np.float32)
      one, slope = value_and_slope(lambda square, c=c: numerics.arc_affinity(square, c), none)
      np.testing.assert_array_equal(one, 1)
      np.testing.assert_array_equal(slope, 0)
