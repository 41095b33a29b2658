"""Parametrisations and their inverses; laws of intersections, joins and pools."""

import functools

import hypothesis as hy
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from hypothesis import strategies as st

from geoemb.boxes import box as boxes
from geoemb.boxes.box import Box
from tests.compiling import quick_jit

DTYPES = ("float32", "float64")
PARAMETRISATIONS = ("min_max", "min_side", "center_offset", "unit_cube")
FIXED = hy.settings(derandomize=True, max_examples=40, deadline=None, database=None)


def on_device(f):
  def call(*args):
    with jax.enable_x64(True):
      return jax.tree.map(np.asarray, quick_jit(f)(*args))

  return call


def random_boxes(dtype, n=3, shape=(20, 4)):
  rng = np.random.default_rng(0)
  z = [rng.uniform(-1, 1, shape).astype(dtype) for _ in range(n)]
  return [Box(a, (a + rng.uniform(0.1, 2, shape)).astype(dtype)) for a in z]


def close(a, b, dtype, ulps=16):
  tol = ulps * np.finfo(dtype).eps
  for x, y in zip(a, b):
    np.testing.assert_allclose(x, y, rtol=tol, atol=tol)


class ParametrisationTest(parameterized.TestCase):
  @parameterized.product(name=PARAMETRISATIONS, dtype=DTYPES)
  def test_inverse(self, name, dtype):
    theta = np.random.default_rng(0).uniform(-3, 3, (10, 8)).astype(dtype)
    to_box = on_device(getattr(boxes, name))
    box = to_box(theta)
    back = on_device(getattr(boxes, name + "_inverse"))(box)
    close(to_box(back), box, dtype)
    # sides and gaps to the cube's face lose digits as they are subtracted: up to 4e3 times
    np.testing.assert_allclose(back, theta, atol=1e4 * np.finfo(dtype).eps)
    close(to_box((theta[:, :4], theta[:, 4:])), box, dtype, ulps=0)

  @parameterized.product(name=PARAMETRISATIONS[1:], dtype=DTYPES)
  def test_any_parameters_make_a_box(self, name, dtype):
    top = float(np.finfo(dtype).max)
    number = st.floats(-top, top, width=32 if dtype == "float32" else 64, allow_subnormal=False)
    gradient = on_device(jax.grad(lambda theta: jnp.sum(jnp.stack(getattr(boxes, name)(theta)))))
    box_of = on_device(getattr(boxes, name))

    @FIXED
    @hy.given(st.lists(number | st.floats(-8, 8, width=32), min_size=2, max_size=2))
    def check(theta):
      theta = np.array(theta, dtype)
      box = box_of(theta)
      self.assertTrue(np.all(np.isfinite(box)) and np.all(box.lower <= box.upper))
      self.assertTrue(np.all(np.isfinite(gradient(theta))))

    check()

  def test_odd_parameters_are_refused(self):
    with self.assertRaisesRegex(ValueError, "must be even"):
      boxes.min_max(np.zeros((2, 3), np.float32))

  @parameterized.product(name=PARAMETRISATIONS[1:], dtype=DTYPES)
  def test_empty_boxes_have_finite_parameters(self, name, dtype):
    z = np.array([0.0, 0.5, 1.0, 0.7], dtype)
    Z = np.array([0.0, 0.5, 1.0, 0.2], dtype)
    self.assertTrue(np.all(np.isfinite(on_device(getattr(boxes, name + "_inverse"))(Box(z, Z)))))


@parameterized.product(dtype=DTYPES)
class LawsTest(parameterized.TestCase):
  def test_intersection_and_join_are_a_lattice(self, dtype):
    a, b, c = random_boxes(dtype)
    for f in (boxes.intersection, boxes.join):
      g = on_device(f)
      close(g(a, b), g(b, a), dtype, ulps=0)
      close(g(a, g(b, c)), g(g(a, b), c), dtype, ulps=0)
      close(g(a, a), a, dtype, ulps=0)
    absorbed = on_device(lambda a, b: boxes.intersection(a, boxes.join(a, b)))(a, b)
    close(absorbed, a, dtype, ulps=0)

  def test_gumbel_intersection(self, dtype):
    a, b, c = random_boxes(dtype)
    t = np.array(0.3, dtype)
    f = on_device(lambda a, b, t: boxes.gumbel_intersection(a, b, temperature=t))
    close(f(a, b, t), f(b, a, t), dtype, ulps=0)
    close(f(a, f(b, c, t), t), f(f(a, b, t), c, t), dtype)
    z = np.log(np.exp(a.lower / t) + np.exp(b.lower / t)) * t
    Z = -np.log(np.exp(-a.upper / t) + np.exp(-b.upper / t)) * t
    close(f(a, b, t), (z, Z), dtype)

  def test_gumbel_intersection_lies_within_and_tends_to_the_hard_one(self, dtype):
    a, b, _ = random_boxes(dtype, shape=(1000, 4))
    hard = on_device(boxes.intersection)(a, b)
    f = on_device(lambda t: boxes.gumbel_intersection(a, b, temperature=t))
    for t in (1.0, 1e-2, 1e-6, 1e-30):
      soft = f(np.array(t, dtype))
      self.assertTrue(np.all(soft.lower >= hard.lower) and np.all(soft.upper <= hard.upper))
    close(soft, hard, dtype, ulps=0)
    again = on_device(lambda: boxes.gumbel_intersection(a, a, temperature=1e-30))()
    close(again, a, dtype, ulps=1)

  def test_gumbel_gradients_are_weights(self, dtype):
    a, b, _ = random_boxes(dtype, shape=(5,))
    t = np.array(0.1, dtype)
    f = lambda z, y: boxes.gumbel_intersection(
      Box(z, a.upper), Box(y, b.upper), temperature=t
    ).lower.sum()
    by_a, by_b = on_device(jax.grad(f, (0, 1)))(a.lower, b.lower)
    weight = 1 / (1 + np.exp((b.lower - a.lower).astype(np.float64) / 0.1))
    close((by_a, by_b), (weight, 1 - weight), dtype, ulps=64)

  def test_pools(self, dtype):
    found = random_boxes(dtype)
    stacked = Box(*(np.stack(x, axis=-2) for x in zip(*found)))
    pooled = on_device(boxes.intersection_pool)(stacked)
    close(pooled, functools.reduce(on_device(boxes.intersection), found), dtype, ulps=0)
    mask = np.array([True, False, True])
    pooled = on_device(lambda box: boxes.intersection_pool(box, mask=mask))(stacked)
    close(pooled, on_device(boxes.intersection)(found[0], found[2]), dtype, ulps=0)
    close(on_device(boxes.mean_pool)(stacked), [np.mean(x, axis=-2) for x in stacked], dtype)
    w = np.array([1, 0, 3], dtype)
    pooled = on_device(lambda box: boxes.mean_pool(box, weights=w))(stacked)
    close(pooled, [(x[..., 0, :] + 3 * x[..., 2, :]) / 4 for x in stacked], dtype)
