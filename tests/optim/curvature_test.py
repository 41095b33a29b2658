import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.optim import curvature, lookahead, radam, rsgd
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

OLD, NEW, DIM = 0.7, 1.6, 3


@functools.cache
def facts(name):
  """Points and tangents before and after a change of curvature."""

  @quick_jit
  def compute(key):
    a, b = manifolds.make(name, OLD), manifolds.make(name, NEW)
    o = a.origin((6,), DIM, jnp.float64)
    key_v, key_u = jax.random.split(key)
    v = a.egrad2rgrad(o, jax.random.normal(key_v, o.shape, o.dtype))
    r = jnp.linspace(0.1, 2.0, 6)
    x = a.exp(o, v * (r / a.norm(o, v))[:, None])
    radial = a.log(x, o)
    across = a.egrad2rgrad(x, jax.random.normal(key_u, x.shape, x.dtype))
    along = a.inner(x, across, radial) / a.inner(x, radial, radial)
    across = across - along[:, None] * radial
    y, p, q = curvature.rebase(a, b, x, radial, across)
    tangent = lambda v: v - b.transport(y, y, v)
    return {
      "distance": (a.dist0(x), b.dist0(y)),
      "radial": (b.log(y, b.origin_like(y)), p),
      "right angle": (0 * r, b.inner(y, p, q)),
      "across": (a.norm(x, across), b.norm(y, q)),
      "on": (b.proj(y), y),
      "tangent": (0 * y, tangent(q)),
      "r": (r, r),
    }

  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, compute(jax.random.key(0)))


@pytest.mark.parametrize("name", ["lorentz", "sphere", "horospherical"])
def test_distances_from_the_origin_and_radial_tangents_stay(name):
  f = facts(name)
  shape = lambda c: np.sin(np.sqrt(c) * f["r"][0]) if name == "sphere" else np.sinh(
    np.sqrt(c) * f["r"][0]
  )  # fmt: skip
  grown = shape(NEW) / np.sqrt(NEW) / (shape(OLD) / np.sqrt(OLD))
  f["across"] = f["across"][0] * grown, f["across"][1]
  for k, (expected, found) in f.items():
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=k)


def test_only_the_curvature_may_change():
  with pytest.raises(ValueError, match="changes the curvature only, got sphere and lorentz"):
    curvature.rebase(manifolds.make("sphere"), manifolds.make("lorentz"), jnp.ones(3))


def test_slow_points_are_rebased_too():
  m = manifolds.make("sphere")

  @quick_jit
  def compute(key):
    x, log_c = m.random(key, (4,), DIM), jnp.float32(0)
    tx = curvature.learned(
      manifolds.sphere, lambda m: lookahead.lookahead(rsgd.rsgd(0.0, m), m), optax.sgd(0.5)
    )
    g, state = (0 * x, jnp.float32(-1)), tx.init((x, log_c))
    (step, step_c), state = tx.update(g, state, (x, log_c))
    return x + step, log_c + step_c, state.points.slow

  x, log_c, slow = compute(jax.random.key(0))
  np.testing.assert_allclose(log_c, 0.5)
  np.testing.assert_allclose(slow, x, atol=1e-6)  # the points stood
  assert not manifolds.make("sphere", jnp.exp(log_c)).fault(slow)


@functools.cache
def fits():
  """A star of two rings is fitted in the plane with c learned, and with c fixed."""
  angle = np.arange(5) * 2 * np.pi / 5
  ring = np.stack([np.cos(angle), np.sin(angle)], -1)
  x0 = np.concatenate([0.3 * ring, 0.6 * ring])
  # Tree distances: 0 – i – i', edges of length 1, for i = 1 … 5; the root is the origin.
  depth = np.array([0.0, *[1] * 5, *[2] * 5])
  same = np.array([5, *range(5), *range(5)])
  d = np.where(same[:, None] == same, np.abs(depth[:, None] - depth), depth[:, None] + depth)

  def loss(params):
    x, log_c = params
    c = jnp.exp(log_c)
    z = jnp.concatenate([jnp.zeros_like(x[:1]), x])  # the distance typed from the textbook
    t = jnp.sqrt(1 / c + jnp.sum(z * z, axis=-1))
    cosine = c * (t[:, None] * t - jnp.einsum("id,jd->ij", z, z))
    found = jnp.arccosh(jnp.where(d > 0, cosine, 2)) / jnp.sqrt(c)
    return jnp.sum(jnp.where(d > 0, jnp.square(found / np.where(d > 0, d, 1) - 1), 0)) / 2

  @quick_jit
  def compute(x0):
    rate = optax.linear_schedule(0.05, 0.0, 400)

    def fit(speed):
      slow = optax.sgd(lambda count: speed * (1 - count.astype(x0.dtype) / 400))
      tx = curvature.learned(manifolds.lorentz, lambda m: radam.radam(rate, m), slow)

      def step(carry, _):
        params, state = carry
        value, g = jax.value_and_grad(loss)(params)
        updates, state = tx.update(g, state, params)
        new = optax.apply_updates(params, updates)
        return (new, state), (value, *new, optax.tree.get(state, "mu"))

      params = x0, jnp.zeros([], x0.dtype)
      return jax.lax.scan(step, (params, tx.init(params)), None, 400)[1]

    out = jax.lax.map(fit, jnp.array([0.01, 0.0], x0.dtype))

    # After one step the two runs differ by the change of c alone.
    _, x, log_c, mu = jax.tree.map(lambda z: z[:, 0], out)
    a, b = (manifolds.make("lorentz", jnp.exp(t)) for t in (log_c[1], log_c[0]))
    expected = curvature.rebase(a, b, x[1], mu[1])

    def moved(t):
      a, b = manifolds.make("lorentz", 1.0), manifolds.make("lorentz", jnp.exp(t))
      return loss((curvature.rebase(a, b, x0)[0], t))

    h = 1e-4
    up, down = jax.lax.map(moved, jnp.array([h, -h], x0.dtype))
    return out, (-log_c[0] / 0.01, (up - down) / (2 * h)), (x[0], expected[0]), (mu[0], expected[1])

  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, compute(x0))


def test_the_derivative_by_log_c_is_that_of_the_loss_along_the_way():
  _, (given, difference), _, _ = fits()
  assert abs(given) > 0.1
  np.testing.assert_allclose(given, difference, rtol=1e-5)  # O(h²)


def test_points_and_momentum_are_rebased_together():
  _, _, point, trace = fits()
  np.testing.assert_allclose(*point, rtol=1e-12)
  np.testing.assert_allclose(*trace, rtol=1e-12)
  assert np.abs(trace[0]).max() > 1e-3


def test_learning_c_fits_a_tree_better():
  (learned, fixed), _, (log_c, same), _ = fits()[0]
  np.testing.assert_array_equal(same, 0)
  assert log_c[-1] > 0.5  # a tree wants more curvature
  assert learned[-1] < 0.7 * fixed[-1] < 0.1 * fixed[0]
  assert np.all(np.isfinite(learned))
