"""Means against their defining equations, finite differences and 60-digit arithmetic."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.manifolds import means
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

C, DIM, N = 0.7, 3, 6
DTYPES = ("float32", "float64")


def cloud(name, dtype, radius, shape):
  """Points up to `radius` from the origin, [*shape, N, point], and weights [*shape, N]."""
  m = manifolds.make(name, jnp.asarray(C, dtype))
  rng = np.random.default_rng(0)
  o = m.origin((*shape, N), DIM, jnp.dtype(dtype))
  v = m.egrad2rgrad(o, jnp.asarray(rng.standard_normal(o.shape), dtype))
  r = jnp.asarray(radius * rng.uniform(size=o.shape[:-1]), dtype)
  y = m.exp(o, v * (r / m.norm(o, v))[..., None])
  return m, y, jnp.asarray(rng.uniform(0.1, 1, size=o.shape[:-1]), dtype)


@pytest.mark.parametrize(
  "name, dtype",
  [
    ("euclidean", "float64"), ("sphere", "float64"), ("poincare", "float64"),
    ("lorentz", "float64"), ("horospherical", "float64"), ("lorentz", "float32"),
  ],
)  # fmt: skip
def test_the_weighted_directions_to_the_points_add_up_to_nothing(name, dtype):
  with jax.enable_x64(dtype == "float64"):
    m, y, w = cloud(name, dtype, 1.0 if name == "sphere" else 6.0, (2, 3))

    @quick_jit
    def run(m, y, w):
      x = means.frechet(m, y, w)
      return x, m.norm(x, jnp.einsum("abn,abnd->abd", w, m.log(x[:, :, None], y)))

    x, length = run(m, y, w)
    assert x.dtype == dtype
    assert length.max() < {"float32": 2e-5, "float64": 2e-14}[dtype]
    if name == "poincare":
      alone = quick_jit(means.frechet)(m, y[1, 2], w[1, 2])
      np.testing.assert_allclose(alone, x[1, 2], rtol=1e-12)


def test_flat_means_are_averages_and_two_points_meet_half_way():
  frechet = quick_jit(means.frechet)
  m, y, w = cloud("euclidean", "float32", 2.0, ())
  average = np.average(np.asarray(y), axis=0, weights=np.asarray(w))
  np.testing.assert_allclose(frechet(m, y, w), average, rtol=1e-6, atol=1e-6)
  for name in ("sphere", "lorentz"):
    m, y, _ = cloud(name, "float32", 1.0, ())
    gap = m.dist(frechet(m, y[:2]), m.midpoint(y[0], y[1]))
    assert gap < 1e-5, name


@pytest.mark.parametrize("name", ["sphere", "poincare"])
def test_derivatives_are_those_of_finite_differences(name):
  with jax.enable_x64(True):
    _, y, w = cloud(name, "float64", 0.8, ())
    rng = np.random.default_rng(1)

    def f(v, w, c):
      m = manifolds.make(name, c)
      return jnp.sum(jnp.sin(means.frechet(m, m.proj(y + v), w)))

    at = (jnp.zeros_like(y), w, jnp.asarray(C))
    along = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), at)
    h = 1e-4

    @quick_jit
    def compute(at, along):
      move = lambda h: f(*jax.tree.map(lambda a, d: a + h * d, at, along))
      _, forward = jax.jvp(f, at, along)
      return jax.vmap(move)(h * jnp.asarray([2.0, 1, -1, -2])), jax.grad(f, (0, 1, 2))(*at), forward

    (far, near, back, far_back), gradient, forward = compute(at, along)
    numeric = (8 * (near - back) - (far - far_back)) / (12 * h)
    reverse = sum(jnp.sum(a * b) for a, b in zip(gradient, along))
  np.testing.assert_allclose([reverse, forward], [numeric] * 2, rtol=1e-9)


def test_derivatives_where_points_are_planes():
  """Of a function of the mean plane, which does not depend on the frame that stands for it."""
  with jax.enable_x64(True):
    m = manifolds.make("grassmann")
    spread = quick_jit(lambda key: m.random(key, (5,), (4, 2), dtype=jnp.float64))(
      jax.random.key(0)
    )
    y = quick_jit(lambda y: m.geodesic(y[:1], y, 0.4))(spread)
    along, w = jnp.cos(jnp.arange(40.0)).reshape(5, 4, 2), jnp.linspace(0.5, 1, 5)
    a = jnp.sin(jnp.arange(16.0)).reshape(4, 4)

    def f(v, w):
      x = means.frechet(m, m.proj(y + v), w)
      return jnp.sum(a * (x @ x.T))

    @quick_jit
    def compute(h):
      move = lambda h: f(h * along, w + h)
      at = (jnp.zeros_like(y), w)
      forward = jax.jvp(f, at, (along, jnp.ones_like(w)))[1]
      return jax.vmap(move)(h * jnp.asarray([2.0, 1, -1, -2])), jax.grad(f, (0, 1))(*at), forward

    (far, near, back, far_back), (by_y, by_w), forward = compute(1e-4)
    numeric = (8 * (near - back) - (far - far_back)) / 12e-4
    reverse = jnp.sum(by_y * along) + jnp.sum(by_w)
  np.testing.assert_allclose([reverse, forward], [numeric] * 2, rtol=1e-8)


def test_far_points_in_few_steps():
  """Where the flow alone would need a hundred: curvature makes it stiff."""
  with jax.enable_x64(True):
    m, y, w = cloud("lorentz", "float64", 15.0, ())
    x = quick_jit(functools.partial(means.frechet, max_steps=12))(m, y, w)
    assert m.norm(x, jnp.tensordot(w, m.log(x, y), 1)) < 1e-9


def test_far_points_of_the_lorentz_chart():
  """Where its tangents at the points themselves have lost all digits."""
  m, radii = manifolds.make("lorentz"), np.array([12, 20, 30])
  u = np.random.default_rng(4).standard_normal((N, DIM))
  u = radii[:, None, None] * u / np.linalg.norm(u, axis=1, keepdims=True)

  @jax.jit
  def compute(u):
    y = m.exp0(u)
    value = lambda x: jnp.mean(m.sqdist(x[:, None], y), axis=1)
    x = means.frechet(m, y)
    rest = m.norm(x, jnp.mean(m.log(x[:, None], y), axis=1))
    narrow = means.frechet(m, y.astype(jnp.bfloat16))
    return x, value(x) - value(0 * x), rest, narrow

  x, more, rest, narrow = compute(u.astype(np.float32))
  assert np.all(more < -1)
  assert np.all(rest < 16 * np.finfo(np.float32).eps * radii)
  assert narrow.dtype == jnp.bfloat16
  np.testing.assert_allclose(narrow[0].astype(jnp.float32), x[0], atol=0.05)  # of radius 12, eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_lorentz_centroid_is_the_scaled_sum(dtype):
  mp.mp.dps = 60
  rng = np.random.default_rng(0)
  for radius in (0.1, 3, 12):
    u = rng.standard_normal((N, DIM)) * 0.2 + [1, 0, 0]  # to one side, where the sum cancels
    x = np.sinh(radius) * u / np.linalg.norm(u, axis=1, keepdims=True)
    x, w = x.astype(dtype), rng.uniform(0.1, 1, N).astype(dtype)
    rows = [[mp.mpf(float(a)) for a in row] for row in x]
    c = mp.mpf(float(np.dtype(dtype).type(C)))
    times = [mp.sqrt(1 / c + mp.fsum(a * a for a in row)) for row in rows]
    weights = [mp.mpf(float(a)) for a in w]
    total = [mp.fsum(a * row[i] for a, row in zip(weights, rows)) for i in range(DIM)]
    t = mp.fsum(a * b for a, b in zip(weights, times))
    length = mp.sqrt(c * (t * t - mp.fsum(a * a for a in total)))
    goal = np.array([float(a / length) for a in total])
    with jax.enable_x64(dtype == "float64"):
      found = np.asarray(jax.jit(lambda x, w: means.lorentz_centroid(x, w, c=C))(x, w))
    assert found.dtype == dtype
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(found, goal, rtol=tolerance, atol=tolerance * np.abs(goal).max())


@pytest.mark.parametrize("name", manifolds.NAMES)
def test_geodesics_have_their_ends_and_a_constant_speed(name):
  m, y, _ = cloud(name, "float32", 1.0, ())
  t = jnp.linspace(0, 1, 5)

  @quick_jit
  def pairs(a, b):
    way, whole = m.geodesic(a, b, t), m.dist(a, b)
    return (
      (m.dist(a, way), t * whole),
      (m.dist(way, b), (1 - t) * whole),
      (m.dist(m.exp0(m.log0(a)), a), jnp.zeros_like(whole)),
      (m.dist0(a), m.norm(m.origin_like(a), m.log0(a))),
    )

  for got, want in pairs(y[0], y[1]):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
