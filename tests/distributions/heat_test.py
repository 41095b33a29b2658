"""Heat kernels against mpmath, the heat equation, conservation of mass and the limit of small t."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from absl.testing import parameterized

from geoemb.distributions import heat, radial
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

C = 0.7
TIMES = np.array([1e-3, 0.2, 5.0])
DIMS = (2, 4, 7)


@functools.cache
def hyperbolic(dim, dtype="float64"):
  """On a grid of each time: log p, with its derivatives, r and quadrature weights."""
  t, w = np.polynomial.legendre.leggauss(96)
  top = 12 * np.sqrt(2 * TIMES) + 2 * (dim - 1) * C**0.5 * TIMES
  r, w = (0.5 * top * (t[:, None] + 1), 0.5 * top * w[:, None])
  r = np.concatenate([r, np.full((1, 3), 2.49), np.full((1, 3), 2.51), np.zeros((1, 3))])

  @quick_jit
  def compute(r, t):
    f = lambda r, t: heat.log_hyperbolic(r, t, dim, c=C)
    if dtype == "float32":
      return (f(r, t),)
    one, zero = (jnp.full_like(r, a) for a in (1, 0))
    value, by_t = jax.jvp(lambda t: f(r, t), (jnp.broadcast_to(t, r.shape),), (one,))
    slope = lambda r: jax.jvp(lambda r: f(r, t), (r,), (one,))[1]
    by_r, by_rr = jax.jvp(slope, (r,), (one,))
    return value, by_t, by_r, by_rr

  with jax.enable_x64(True):
    found = compute(jnp.asarray(r, dtype), jnp.asarray(TIMES, dtype))
  area = np.exp(radial.log_area(dim - 1))
  weight = w * area * (np.sinh(C**0.5 * r[:-3]) / C**0.5) ** (dim - 1)
  return [np.asarray(a) for a in found], r, weight


def exact(dim, r, t):
  """At curvature −1: the classical integral for d = 2, derivatives by cosh r for odd d."""
  mp.mp.dps = 50
  r, t = mp.mpf(r), mp.mpf(t)
  if dim == 2:
    square = mp.sqrt(t)
    f = lambda y: (
      2 * y * (r + y * y) * mp.exp(-((r + y * y) ** 2) / (4 * t))
      / mp.sqrt(2 * mp.sinh(r + y * y / 2) * mp.sinh(y * y / 2))
    )  # fmt: skip
    cuts = [mp.mpf("1e-20"), *(mp.sqrt(square) * a for a in (0.1, 0.5, 1, 2, 4, 7)), mp.mpf(9)]
    total = mp.quad(f, cuts)
    return mp.log(mp.sqrt(2) * (4 * mp.pi * t) ** mp.mpf(-1.5) * mp.exp(-t / 4) * total)
  m = dim // 2
  slope = mp.diff(lambda x: mp.exp(-(mp.acosh(x) ** 2) / (4 * t)), mp.cosh(r), m)
  value = (-1) ** m * mp.re(slope) / (2 * mp.pi) ** m / mp.sqrt(4 * mp.pi * t)
  return mp.log(value) - m * m * t


@functools.cache
def spherical(dim, slopes=False, dtype="float64"):
  """On one grid for all times: log p, with its derivatives, r, the times and quadrature weights."""
  t, w = np.polynomial.legendre.leggauss(128)
  times = np.array([0.01, 0.3, 2 / dim, 1.5]) / C
  r = np.concatenate([0.5 * np.pi * (t + 1), [np.pi / 2 - 1e-3, np.pi / 2 + 1e-3, 0, np.pi]])
  r = r[:, None] / C**0.5

  @quick_jit
  def compute(r, t):
    f = lambda r, t: heat.log_spherical(r, t, dim, c=C)
    if not slopes:
      return (f(r, t),)
    r, t = jnp.broadcast_arrays(r, t)
    one = jnp.ones_like(r)
    value, by_t = jax.jvp(lambda t: f(r, t), (t,), (one,))
    by_r, by_rr = jax.jvp(lambda r: jax.jvp(lambda r: f(r, t), (r,), (one,))[1], (r,), (one,))
    return value, by_t, by_r, by_rr

  with jax.enable_x64(True):
    found = compute(jnp.asarray(r, dtype), jnp.asarray(times, dtype))
  weight = 0.5 * np.pi * w[:, None] * np.sin(C**0.5 * r[:-4]) ** (dim - 1)
  area = np.exp(radial.log_area(dim - 1)) / C ** (0.5 * dim)
  return [np.asarray(a) for a in found], r, times, weight * area


def exact_spherical(dim, r, t):
  """At curvature 1: the series of Gegenbauer polynomials over their values at 1, in many digits."""
  mp.mp.dps = 150
  r, t = mp.mpf(r), mp.mpf(t)
  x, last, count = mp.cos(r), mp.mpf(1), dim + 1 if dim > 1 else 2
  now, total = x, mp.mpf(1)
  for l in range(1, 200):
    total += count * now * mp.exp(-l * (l + dim - 1) * t)
    last, now = now, ((2 * l + dim - 1) * x * now - l * last) / (l + dim - 1)
    count = mp.binomial(l + 1 + dim, dim) - mp.binomial(l - 1 + dim, dim)
  half = mp.mpf(dim + 1) / 2
  return mp.log(total * mp.gamma(half) / (2 * mp.pi**half))


class SphericalTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 3, 4, 5, 6)
  def test_mass_is_1(self, dim):
    (value, *_), _, _, weight = spherical(dim)
    np.testing.assert_allclose((np.exp(value[:-4]) * weight).sum(0), 1, rtol=1e-12)

  @parameterized.parameters(3, 4)
  def test_solves_the_heat_equation(self, dim):
    (_, by_t, by_r, by_rr), r, _, _ = spherical(dim, slopes=True)
    self.assertTrue(all(np.all(np.isfinite(a)) for a in (by_t, by_r, by_rr)))
    r, by_t, by_r, by_rr = (a[:-2] for a in (r, by_t, by_r, by_rr))
    drift = (dim - 1) * C**0.5 / np.tan(C**0.5 * r)
    scale = by_r**2 + np.abs(by_rr) + np.abs(drift * by_r)
    np.testing.assert_array_less(np.abs(by_r**2 + by_rr + drift * by_r - by_t), 1e-8 * scale)

  @parameterized.parameters(1, 2, 3, 4, 5, 6)
  def test_is_that_of_mpmath(self, dim):
    (value, *_), r, times, _ = spherical(dim)
    for i, j in ((1, 0), (120, 0), (-1, 0), (-2, 1), (-3, 1), (-4, 1), (80, 2), (90, 3), (-1, 3)):
      expected = exact_spherical(dim, min(C**0.5 * r[i, 0], np.pi), C * times[j])
      expected = float(expected) + 0.5 * dim * np.log(C)
      np.testing.assert_allclose(value[i, j], expected, rtol=1e-13, atol=1e-13)

  def test_many_dimensions(self):
    r, t = np.array([0.5, 1.6, 2.2]), 1 / 17
    with jax.enable_x64(True):
      found = quick_jit(lambda r: heat.log_spherical(r, t, 17))(jnp.asarray(r))
    expected = [float(exact_spherical(17, a, t)) for a in r]
    np.testing.assert_allclose(found, expected, rtol=1e-13)

  def test_short_times_in_float32(self):
    r, t = np.array([0, 1e-3, 1.5]), np.array([[1e-6], [1e-9]])
    f = quick_jit(lambda r, t: heat.log_spherical(r, t, 13))
    found = f(jnp.asarray(r, jnp.float32), jnp.asarray(t, jnp.float32))
    limit = -6.5 * np.log(4 * np.pi * t) - r**2 / (4 * t) - 6 * np.log(np.sinc(r / np.pi))
    np.testing.assert_allclose(found, limit, rtol=3e-6)

  @parameterized.parameters(3, 6)
  def test_float32(self, dim):
    (single,), _, _, _ = spherical(dim, dtype="float32")
    self.assertEqual(str(single.dtype), "float32")
    np.testing.assert_allclose(single, spherical(dim)[0][0], rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("kind, dim", [("sphere", 4), ("hyperbolic", 3)])
def test_times_add_up(kind, dim):
  """∫ p_s(x, z) p_t(z, y) dz = p_(s+t)(x, y), by the polar coordinates of z about x."""
  s, t, far = 0.1, 0.25, 0.9
  nodes, w = np.polynomial.legendre.leggauss(64)
  top = np.pi if kind == "sphere" else 9.0
  a, b = 0.5 * top * (nodes[:, None] + 1), 0.5 * np.pi * (nodes + 1)
  w = 0.25 * top * np.pi * w[:, None] * w * np.sin(b) ** (dim - 2)
  if kind == "sphere":
    log, sine = heat.log_spherical, np.sin(a)
    gap = np.arccos(np.cos(a) * np.cos(far) + sine * np.sin(far) * np.cos(b))
  else:
    log, sine = heat.log_hyperbolic, np.sinh(a)
    gap = np.arccosh(np.cosh(a) * np.cosh(far) - sine * np.sinh(far) * np.cos(b))

  with jax.enable_x64(True):
    r = jnp.asarray(np.concatenate([a.ravel(), [far], gap.ravel()]))
    times = jnp.asarray(np.repeat([s, s + t, t], [64, 1, 64 * 64]))
    p = np.exp(quick_jit(lambda r, t: log(r, t, dim))(r, times))
  first, both, second = p[:64], p[64], p[65:].reshape(64, 64)
  area = np.exp(radial.log_area(dim - 2))
  total = area * np.sum(w * sine ** (dim - 1) * first[:, None] * second)
  np.testing.assert_allclose(total, both, rtol=1e-10)


class HyperbolicTest(parameterized.TestCase):
  @parameterized.parameters(*DIMS)
  def test_mass_is_1(self, dim):
    found, _, weight = hyperbolic(dim)
    np.testing.assert_allclose((np.exp(found[0][:-3]) * weight).sum(0), 1, rtol=1e-10)

  @parameterized.parameters(*DIMS)
  def test_solves_the_heat_equation(self, dim):
    (_, by_t, by_r, by_rr), r, _ = hyperbolic(dim)
    r, by_t, by_r, by_rr = (a[:-1] for a in (r, by_t, by_r, by_rr))
    drift = (dim - 1) * C**0.5 / np.tanh(C**0.5 * r)
    scale = by_r**2 + np.abs(by_rr) + np.abs(drift * by_r)
    np.testing.assert_array_less(np.abs(by_r**2 + by_rr + drift * by_r - by_t), 1e-8 * scale)

  @parameterized.parameters(*DIMS)
  def test_is_flat_at_the_start_and_float32_follows(self, dim):
    (value, _, by_r, by_rr), r, _ = hyperbolic(dim)
    self.assertTrue(np.all(np.isfinite(by_rr)))
    np.testing.assert_array_equal(np.abs(by_r[-1]) < 1e-12, True)
    if dim != 7:
      return
    (single,), _, _ = hyperbolic(dim, "float32")
    self.assertEqual(str(single.dtype), "float32")
    np.testing.assert_allclose(single, value, rtol=4e-6, atol=4e-6)

  @parameterized.parameters(*DIMS)
  def test_tends_to_the_normal_over_the_root_of_the_volume(self, dim):
    (value, *_), r, _ = hyperbolic(dim)
    t, r = TIMES[0], r[:-1, 0]
    volume = (dim - 1) * np.log(np.sinh(C**0.5 * r) / (C**0.5 * r))
    limit = -0.5 * dim * np.log(4 * np.pi * t) - r * r / (4 * t) - 0.5 * volume
    np.testing.assert_allclose(value[:-1, 0], limit, atol=dim**2 * t)

  @parameterized.parameters(2, 7)
  def test_is_that_of_mpmath(self, dim):
    (value, *_), r, _ = hyperbolic(dim)
    for i, j in ((40, 1), (70, 1), (20, 2), (96, 2), (97, 1)):
      expected = float(exact(dim, C**0.5 * r[i, j], C * TIMES[j])) + 0.5 * dim * np.log(C)
      np.testing.assert_allclose(value[i, j], expected, rtol=1e-11, atol=1e-11)

  def test_many_dimensions(self):
    r = np.array([1.0, 3, 10])
    f = quick_jit(lambda r: heat.log_hyperbolic(r, 1.0, 61))
    with jax.enable_x64(True):
      found = f(jnp.asarray(r))
    single = f(jnp.asarray(r, jnp.float32))
    expected = [float(exact(61, a, 1)) for a in r]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    np.testing.assert_allclose(single, expected, rtol=1e-6)

  def test_dimensions_without_a_kernel_are_refused(self):
    with self.assertRaisesRegex(ValueError, "at least 1"):
      heat.log_spherical(jnp.ones(()), 1.0, 0)
    with self.assertRaisesRegex(ValueError, "at most 26, got 27"):
      heat.log_spherical(jnp.ones(()), 1.0, 27)
    with self.assertRaisesRegex(ValueError, "at least 1"):
      heat.log_hyperbolic(jnp.ones(()), 1.0, 0)
