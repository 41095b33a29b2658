"""Log-volumes, containment and their gradients against mpmath, laws, and any finite input."""

import functools

import hypothesis as hy
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import strategies as st

from geoemb.boxes import box as boxes
from geoemb.boxes import regularizers, temperature, volume
from geoemb.boxes.box import Box
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

DTYPES = ("float32", "float64")
FIXED = hy.settings(derandomize=True, max_examples=40, deadline=None, database=None)
GUMBEL = ("gumbel", "approx")
GAPS = (0.1, 1, 5, 20, 60, 100, 1000)  # temperatures between disjoint boxes


def log_side(name, t):
  of = {"soft": volume.log_soft_side, "gumbel": volume.log_gumbel_side,
        "approx": volume.log_gumbel_side_approx}  # fmt: skip
  return volume.log_hard_side if name == "hard" else functools.partial(of[name], temperature=t)


def meet(name, t):
  if name not in GUMBEL:
    return boxes.intersection
  return functools.partial(boxes.gumbel_intersection, temperature=t)


def log_p(name, a, b, t):
  return volume.log_containment(a, b, log_side=log_side(name, t), meet=meet(name, t))


def exact_log_side(name, s, t):
  if name == "gumbel":
    return mp.log(2 * t * mp.besselk(0, 2 * mp.exp(-s / (2 * t))))
  return mp.log(t * mp.log1p(mp.exp(s / t - (2 * mp.euler if name == "approx" else 0))))


def exact_slope(name, s, t):
  """d/ds, closed."""
  if name == "gumbel":
    x = 2 * mp.exp(-s / (2 * t))
    return x * mp.besselk(1, x) / (2 * t * mp.besselk(0, x))
  u = s / t - (2 * mp.euler if name == "approx" else 0)
  return 1 / (t * (1 + mp.exp(-u)) * mp.log1p(mp.exp(u)))


def exact(name, a, b, t):
  """log P(A|B) and its gradient by z_a, one dimension."""
  (z_a, Z_a), (z_b, Z_b) = a, b
  weight = mp.mpf(1) if z_a > z_b else mp.mpf(0)
  if name in GUMBEL:
    z = t * mp.log(mp.exp(z_a / t) + mp.exp(z_b / t))
    Z = -t * mp.log(mp.exp(-Z_a / t) + mp.exp(-Z_b / t))
    weight = 1 / (1 + mp.exp((z_b - z_a) / t))
  else:
    z, Z = max(z_a, z_b), min(Z_a, Z_b)
  value = exact_log_side(name, Z - z, t) - exact_log_side(name, Z_b - z_b, t)
  return value, -exact_slope(name, Z - z, t) * weight


def numbers(dtype, *x):
  return [np.dtype(dtype).type(a) for a in x]


def on_device(f):
  """The function compiled, with float64."""

  def call(*args):
    with jax.enable_x64(True):
      return jax.tree.map(np.asarray, quick_jit(f)(*args))

  return call


def random_boxes(dtype, shape, seed=0):
  rng = np.random.default_rng(seed)
  z = rng.uniform(-1, 1, shape).astype(dtype)
  return Box(z, (z + rng.uniform(0.1, 2, shape)).astype(dtype))


def cases(dtype, t):
  """A and B in one dimension: disjoint, touching, nested, the same, degenerate, inverted."""
  found = [((2.5 + t * gap, 4 + t * gap), (0.25, 2.5)) for gap in GAPS]
  found += [((1, 2), (0, 1)), ((0, 3), (1, 2)), ((1, 2), (0, 3)), ((0.5, 1.5), (0, 1)),
            ((0, 1), (0, 1)), ((0.5, 0.5), (0, 1)), ((0, 1), (0.5, 0.5)), ((1, 0), (0, 1)),
           ]  # fmt: skip
  return [(numbers(dtype, *a), numbers(dtype, *b)) for a, b in found]


class OracleTest(parameterized.TestCase):
  @parameterized.product(name=("soft", *GUMBEL), dim=(1, 3, 1000), dtype=DTYPES)
  def test_containment_and_gradient(self, name, dim, dtype):
    mp.mp.dps = 40
    t = numbers(dtype, 0.125)[0]
    limit = 140 if dtype == "float32" and name == "gumbel" else np.inf  # then beyond slope_max
    pairs = [(a, b) for a, b in cases(dtype, t) if (a[0] - b[1]) / t < limit]
    wide = lambda x: np.repeat(np.array(x, dtype)[:, None], dim, axis=1)
    a, b = (Box(*(wide([p[i][j] for p in pairs]) for j in (0, 1))) for i in (0, 1))
    value = on_device(functools.partial(log_p, name))(a, b, t)
    slope = on_device(jax.grad(lambda a, b, t: jnp.sum(log_p(name, a, b, t))))(a, b, t).lower
    goal = [exact(name, [mp.mpf(float(x)) for x in a], [mp.mpf(float(x)) for x in b],
                  mp.mpf(float(t))) for a, b in pairs]  # fmt: skip
    goal_value = np.array([float(dim * v) for v, _ in goal])
    goal_slope = np.array([float(g) for _, g in goal])
    ulp = np.finfo(dtype).eps
    # x = 2 exp(−s/2β) is off by the rounding of s/2β: 70 in float32, 500 in float64
    rtol = (80 if dtype == "float32" else 600) * ulp
    np.testing.assert_allclose(value, goal_value, rtol=rtol, atol=8 * ulp * dim)
    if name == "soft":  # at ties jax halves the gradient of a maximum, and the reference does not
      keep = np.array([a[0] != b[0] for a, b in pairs])
      slope, goal_slope = slope[keep], goal_slope[keep]
    np.testing.assert_allclose(slope, np.tile(goal_slope[:, None], dim), rtol=rtol, atol=ulp)

  @parameterized.product(name=("soft", *GUMBEL), dtype=DTYPES)
  def test_gradient_by_temperature(self, name, dtype):
    mp.mp.dps = 40
    t, sides = numbers(dtype, 0.125)[0], np.array([-6, -1, -0.1, 0, 0.1, 1, 3], dtype)
    f = lambda t, s: log_side(name, t)(s)
    slope = on_device(jax.vmap(jax.grad(f), (None, 0)))(t, sides)
    goal = [mp.diff(lambda t, s=s: exact_log_side(name, mp.mpf(float(s)), t), float(t))
            for s in sides]  # fmt: skip
    ulp = np.finfo(dtype).eps  # 1 − u f'(u) cancels for large sides: eps/T is left
    np.testing.assert_allclose(slope, np.array(goal, float), rtol=100 * ulp, atol=4 * ulp / t)

  @parameterized.product(name=("soft", *GUMBEL), dtype=DTYPES)
  def test_second_derivative(self, name, dtype):
    mp.mp.dps = 40
    t, sides = numbers(dtype, 0.5)[0], np.array([-3, -1, 0.1, 0.7, 1, 3], dtype)
    second = on_device(jax.vmap(jax.grad(jax.grad(lambda s, t: log_side(name, t)(s))), (0, None)))
    goal = [mp.diff(lambda s: exact_slope(name, s, mp.mpf(float(t))), float(s)) for s in sides]
    rtol = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(second(sides, t), np.array(goal, float), rtol=rtol, atol=rtol)

  @parameterized.parameters(*DTYPES)
  def test_a_small_number_within_the_logarithm_loses_the_gradient(self, dtype):
    """log(softplus + 1e-13) against the closed form, 40 temperatures apart in 1,000 dimensions."""
    side = np.full(1000, -40, dtype)
    plain = lambda s: jnp.sum(jnp.log(jax.nn.softplus(s) + 1e-13))
    ours = lambda s: jnp.sum(volume.log_soft_side(s, temperature=1.0))
    value, slope = on_device(jax.value_and_grad(ours))(side)
    np.testing.assert_allclose(value, -40_000, rtol=1e-6)
    np.testing.assert_allclose(slope, 1, rtol=1e-6)
    lost, dead = on_device(jax.value_and_grad(plain))(side)
    self.assertGreater(lost, -30_000)
    self.assertLess(dead.max(), 1e-4)

  @parameterized.parameters(*DTYPES)
  def test_the_expected_side_is_that_of_samples(self, dtype):
    rng, beta, n = np.random.default_rng(0), 0.3, 400_000
    z, Z = 0.2 + beta * rng.gumbel(size=n), 0.9 - beta * rng.gumbel(size=n)
    sides = np.maximum(Z - z, 0)
    value = on_device(functools.partial(volume.log_gumbel_side, temperature=beta))(
      np.array(0.7, dtype)
    )
    error = sides.std() / np.sqrt(n)
    np.testing.assert_allclose(np.exp(value), sides.mean(), atol=4 * error)


@parameterized.product(name=("hard", "soft", *GUMBEL), dtype=DTYPES)
class LawsTest(parameterized.TestCase):
  def test_whatever_contains_more_is_more_probable(self, name, dtype):
    a, b = random_boxes(dtype, (50, 4)), random_boxes(dtype, (50, 4), seed=1)
    more = Box(a.lower - np.dtype(dtype).type(0.1), a.upper + np.dtype(dtype).type(0.1))
    p = on_device(lambda *x: log_p(name, *x, 0.1))
    self.assertTrue(np.all(p(more, b) >= p(a, b) - 1e-5))

  def test_jit_is_eager_and_vmap_a_loop(self, name, dtype):
    a, b = random_boxes(dtype, (3, 4)), random_boxes(dtype, (3, 4), seed=1)
    f = functools.partial(log_p, name)
    t = np.array(0.3, dtype)
    rtol = 32 * np.finfo(dtype).eps
    compiled = on_device(f)(a, b, t)
    with jax.enable_x64(True):
      a_, b_, t_ = jax.tree.map(jnp.asarray, (a, b, t))
      np.testing.assert_allclose(f(a_, b_, t_), compiled, rtol=rtol, atol=rtol)
    mapped = on_device(jax.vmap(f, (0, 0, None)))(a, b, t)
    row = on_device(f)
    loop = [row(*(Box(x.lower[i], x.upper[i]) for x in (a, b)), t) for i in range(3)]
    np.testing.assert_allclose(mapped, compiled, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(np.array(loop), compiled, rtol=rtol, atol=rtol)

  def test_pairwise_is_every_pair(self, name, dtype):
    a, b = random_boxes(dtype, (2, 5, 3)), random_boxes(dtype, (2, 4, 3), seed=1)
    t = np.array([0.2, 0.3, 0.5], dtype)  # one a dimension

    def pairwise(a, b, t, block=None):
      return volume.pairwise_log_containment(
        a, b, log_side=log_side(name, t), meet=meet(name, t), block=block
      )

    all_pairs = on_device(pairwise)(a, b, t)
    self.assertEqual(all_pairs.shape, (2, 5, 4))
    one = on_device(functools.partial(log_p, name))(
      Box(a.lower[:, 3], a.upper[:, 3]), Box(b.lower[:, 1], b.upper[:, 1]), t
    )
    rtol = 32 * np.finfo(dtype).eps
    np.testing.assert_allclose(all_pairs[:, 3, 1], one, rtol=rtol, atol=rtol)
    slope = on_device(jax.grad(lambda *x: jnp.sum(pairwise(*x)[:, 3, 1])))(a, b, t)
    self.assertEqual(np.count_nonzero(np.delete(slope.lower, 3, axis=1)), 0)
    blocked = on_device(functools.partial(pairwise, block=2))(a, b, t)
    np.testing.assert_allclose(blocked, all_pairs, rtol=rtol, atol=rtol)

  def test_any_finite_box_has_finite_values_and_gradients(self, name, dtype):
    width = 32 if dtype == "float32" else 64
    least, most = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    number = st.floats(-most, most, width=width, allow_subnormal=False) | st.floats(
      -4, 4, width=width, allow_subnormal=False
    )
    scale = st.floats(least, most, width=width) | st.floats(0.0625, 4, width=width)
    f = on_device(jax.value_and_grad(functools.partial(log_p, name), (0, 1, 2)))

    @FIXED
    @hy.given(st.lists(number, min_size=8, max_size=8), scale)
    def check(corners, t):
      z_a, Z_a, z_b, Z_b = np.array(corners, dtype).reshape(4, 2)
      value, slope = f(Box(z_a, Z_a), Box(z_b, Z_b), np.array(t, dtype))
      self.assertLessEqual(value, 0)
      self.assertTrue(np.isfinite(value))
      self.assertTrue(all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slope)), slope)

    check()


class LimitsTest(parameterized.TestCase):
  @parameterized.parameters(*DTYPES)
  def test_hard_boxes_contain_themselves(self, dtype):
    a = random_boxes(dtype, (20, 5))
    p = on_device(functools.partial(log_p, "hard"))(a, a, 1.0)
    np.testing.assert_array_equal(p, 0)

  @parameterized.product(name=("soft", *GUMBEL), dtype=DTYPES)
  def test_smooth_becomes_hard(self, name, dtype):
    a = random_boxes(dtype, (20, 3))
    b = jax.tree.map(lambda x: x + np.dtype(dtype).type(0.05), a)  # overlap by 0.05 and more
    error = [
      np.max(np.abs(on_device(functools.partial(log_p, name))(a, b, t) - hard))
      for hard in (on_device(functools.partial(log_p, "hard"))(a, b, 1.0),)
      for t in numbers(dtype, 1e-2, 1e-3, 1e-5)
    ]
    self.assertLess(error[2], 1e-2)
    self.assertLess(error[2], error[0] + 1e-6)

  @parameterized.product(name=("soft", *GUMBEL), dtype=DTYPES)
  def test_slopes_stay_where_values_end(self, name, dtype):
    top = float(np.finfo(dtype).max)
    side = np.array([-0.5 * top, -top], dtype)
    box = Box(np.zeros_like(side), side)
    f = lambda box: volume.log_volume(box, log_side(name, 0.5))
    value, slope = on_device(jax.value_and_grad(f))(box)
    self.assertEqual(value, -np.finfo(dtype).max)
    self.assertTrue(np.all(slope.upper > 0) and np.all(slope.lower < 0))

  @parameterized.parameters(*DTYPES)
  def test_regularizers(self, dtype):
    box = Box(np.array([0, 1], dtype), np.array([3, 2], dtype))
    values = on_device(lambda box: (
      regularizers.squared_side(box), regularizers.squared_excess(box, limit=2.0),
      regularizers.squared_log_side(volume.log_hard_side(boxes.side(box)))))(box)  # fmt: skip
    np.testing.assert_allclose(values, [5, 0.5, np.log(3) ** 2 / 2], rtol=1e-6)

  @parameterized.parameters(*DTYPES)
  def test_temperatures_are_positive_and_finite(self, dtype):
    theta = np.array([-np.finfo(dtype).max, -5, 0, 5, np.finfo(dtype).max / 4], dtype)
    for f in (temperature.softplus, temperature.exponential,
              functools.partial(temperature.bounded, low=1e-3, high=10.0)):  # fmt: skip
      value, slope = on_device(jax.vmap(jax.value_and_grad(f)))(theta)
      self.assertTrue(np.all(value > 0) and np.all(np.isfinite(value)))
      self.assertTrue(np.all(np.isfinite(slope)) and np.all(slope >= 0))
