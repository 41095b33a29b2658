import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.optim import radagrad, radam, rlion
from tests.compiling import quick_jit


def path(tx, dtype, steps=50):
  """Parameters after each step, with gradients over twelve orders of magnitude and exact zeros."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(7, 3)).astype(dtype)
  g = (rng.normal(size=(steps, 7, 3)) * 10.0 ** rng.uniform(-8, 4, (steps, 7, 1))).astype(dtype)
  g[rng.uniform(size=g.shape) < 0.1] = 0

  @jax.jit
  def step(x, state, g):
    updates, state = tx.update(g, state, x)
    return optax.apply_updates(x, updates), state

  state, out = tx.init(x), []
  for some in g:
    x, state = step(x, state, some)
    out.append(np.asarray(x))
  return np.stack(out)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
  "amsgrad, scheduled, kwargs",
  [(False, False, {}), (True, True, dict(b1=0.8, b2=0.95, eps=1e-5))],
  ids=["adam", "amsgrad"],
)
def test_flat_radam_is_adam_bit_for_bit(dtype, amsgrad, scheduled, kwargs):
  m = manifolds.make("euclidean")
  rate = optax.linear_schedule(0.3, 0.01, 40) if scheduled else 0.1
  theirs = (optax.amsgrad if amsgrad else optax.adam)(rate, **kwargs)
  with jax.enable_x64(dtype == "float64"):
    ours = path(radam.radam(rate, m, amsgrad=amsgrad, **kwargs), dtype)
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
      expected = path(theirs, dtype)
  assert ours.dtype == expected.dtype == dtype
  np.testing.assert_array_equal(ours, expected)


def reference(x, y, steps, *, eta, b1, b2, eps, amsgrad, c):
  """Riemannian Adam of Σ d²/2 on the sphere, point by point, in the ambient space."""
  x, path = x.copy(), []
  mu, nu, nu_max = np.zeros_like(x), np.zeros(len(x)), np.zeros(len(x))
  for t in range(1, steps + 1):
    for i in range(len(x)):
      angle = np.arccos(np.clip(c * x[i] @ y[i], -1, 1))
      u = y[i] - c * (x[i] @ y[i]) * x[i]
      grad = -u / np.linalg.norm(u) * angle / np.sqrt(c)  # −log_x(y)
      mu[i] = b1 * mu[i] + (1 - b1) * grad
      nu[i] = b2 * nu[i] + (1 - b2) * grad @ grad
      nu_hat = nu[i] / (1 - b2**t)
      nu_max[i] = max(nu_max[i], nu_hat)
      v = -eta * mu[i] / (1 - b1**t) / (np.sqrt(nu_max[i] if amsgrad else nu_hat) + eps)
      a = np.sqrt(c) * np.linalg.norm(v)
      new = np.cos(a) * x[i] + np.sin(a) / a * v
      # parallel transport: what lies along the geodesic turns with it
      n = v / np.linalg.norm(v)
      turned = np.cos(a) * n - np.sin(a) * np.sqrt(c) * x[i]
      mu[i] = mu[i] + (n @ mu[i]) * (turned - n)
      x[i] = new
    path.append(x.copy())
  return np.stack(path)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_equals_a_loop_on_the_sphere(amsgrad):
  rng = np.random.default_rng(1)
  c = 0.7
  x, y = rng.normal(size=(2, 4, 3))
  x, y = (z / np.linalg.norm(z, axis=-1, keepdims=True) / np.sqrt(c) for z in (x, y))
  hyper = dict(b1=0.8, b2=0.9, eps=1e-3)
  m = manifolds.make("sphere", c)
  tx = radam.radam(0.1, m, amsgrad=amsgrad, **hyper)

  def step(carry, _):
    x, state = carry
    g = jax.grad(lambda x: 0.5 * jnp.sum(m.dist(x, y) ** 2))(x)
    updates, state = tx.update(g, state, x)
    x = optax.apply_updates(x, updates)
    return (x, state), x

  with jax.enable_x64(True):
    path = jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), None, 30)[1])(x)
  expected = reference(x, y, 30, eta=0.1, amsgrad=amsgrad, c=c, **hyper)
  np.testing.assert_allclose(path, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", manifolds.NAMES)
def test_state_has_one_second_moment_a_point_but_one_a_coordinate_where_flat(name):
  m = manifolds.make(name)
  x = {"a": m.origin((5,), 4), "b": m.origin((2, 3), 4)}
  state = jax.eval_shape(radam.scale_by_radam(m, amsgrad=True).init, x)
  assert jax.tree.map(jnp.shape, state.mu) == jax.tree.map(jnp.shape, x)
  width = 4 if name == "euclidean" else 1
  for moment in (state.nu, state.nu_max):
    assert jax.tree.map(jnp.shape, moment) == {"a": (5, width), "b": (2, 3, width)}
  assert jax.eval_shape(radam.scale_by_radam(m).init, x).nu_max == ()


def test_the_first_step_has_length_eta():
  """m̂₁/√v̂₁ is the unit gradient, whatever its size."""
  m = manifolds.make("lorentz", 0.5)

  @jax.jit
  def lengths(key):
    x = m.random(key, (6,), 3, scale=2.0, dtype=jnp.float64)
    g = jnp.ones_like(x) * 10.0 ** jnp.arange(-4, 2, dtype=jnp.float64)[:, None]
    tx = radam.radam(0.3, m, eps=0.0)
    updates, _ = tx.update(g, tx.init(x), x)
    return m.dist(x, x + updates)

  with jax.enable_x64(True):
    np.testing.assert_allclose(lengths(jax.random.key(0)), 0.3, rtol=1e-9)


def test_max_step_bounds_the_step():
  m = manifolds.make("poincare")

  @jax.jit
  def lengths(key):
    x = m.random(key, (6,), 3, scale=0.5, dtype=jnp.float64)
    tx = radam.radam(0.3, m, max_step=0.05)
    updates, _ = tx.update(jnp.ones_like(x), tx.init(x), x)
    return m.dist(x, x + updates)

  with jax.enable_x64(True):
    np.testing.assert_allclose(lengths(jax.random.key(0)), 0.05, rtol=1e-9)


def test_moments_average_over_steps_of_a_resumed_run():
  """State is all there is: a run cut in two is the run."""
  m = manifolds.make("euclidean")
  tx = radam.radam(0.1, m, amsgrad=True)
  x = jnp.ones((3, 2))
  step = jax.jit(tx.update)
  whole, state = [], tx.init(x)
  for t in range(6):
    updates, state = step(x * t, state, x)
    whole.append(updates)
  again = tx.init(x)
  for t in range(3):
    _, again = step(x * t, again, x)
  again = jax.tree.unflatten(
    jax.tree.structure(again), [np.asarray(a) for a in jax.tree.leaves(again)]
  )
  for t in range(3, 6):
    updates, again = step(x * t, again, x)
    np.testing.assert_array_equal(updates, whole[t])


def test_no_two_arrays_of_the_state_share_memory():
  """So that all may be donated."""
  state = radam.ramsgrad(0.1, manifolds.make("euclidean")).init(jnp.ones((3, 2)))
  next_state = jax.jit(lambda state: jax.tree.map(lambda s: s + 1, state), donate_argnums=0)
  assert optax.tree.get(next_state(state), "count") == 1


@pytest.mark.parametrize("make", [radam.radam, radam.ramsgrad, radagrad.radagrad, rlion.rlion])
def test_hyperparameters_may_be_injected(make):
  m, x = manifolds.make("euclidean"), jnp.eye(3)
  g = jnp.cos(jnp.arange(9.0)).reshape(3, 3)
  hyper = dict(weight_decay=0.25, max_step=0.5)
  own, injected = make(0.1, m, **hyper), optax.inject_hyperparams(make)(0.1, m, **hyper)
  states = own.init(x), injected.init(x)

  @quick_jit
  def both(states):
    return [tx.update(g, state, x)[0] for tx, state in zip((own, injected), states)]

  expected, found = both(states)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  usual = optax.inject_hyperparams(make)(0.1, m)  # a weight decay of 0, which may change later
  jax.eval_shape(usual.update, g, usual.init(x), x)


def test_far_targets_are_reached_at_a_constant_rate_if_the_second_moment_forgets():
  """Gradients of d² shrink on the way: with b2 = 0.999 the first, long ones slow the last steps."""
  m = manifolds.make("horospherical")

  @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
  def run(key, cases):
    key_x, key_y = jax.random.split(key)
    x0 = m.random(key_x, (16,), 8, scale=1e-3)
    o = m.origin_like(x0)
    v = m.egrad2rgrad(o, jax.random.normal(key_y, o.shape))
    v = v / m.norm(o, v)[:, None]

    def case(radius_b2):
      radius, b2 = radius_b2
      y = m.exp(o, radius * v)
      tx = radam.radam(0.05, m, b2=b2)

      def step(carry, _):
        x, state = carry
        updates, state = tx.update(jax.grad(lambda x: jnp.mean(m.sqdist(x, y)))(x), state, x)
        return (optax.apply_updates(x, updates), state), None

      (x, _), _ = jax.lax.scan(step, (x0, tx.init(x0)), None, 600)
      return jnp.mean(m.dist(x, y) ** 2)

    return jax.lax.map(case, cases)

  cases = np.array([[12, 0.999], [12, 0.95], [20, 0.95]], np.float32)
  slow, near, far = np.asarray(run(jax.random.key(0), cases))
  assert slow > 1e-3
  assert near < 1e-4
  assert far < 1e-2
