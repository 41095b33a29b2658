import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.optim import averaging, lookahead, mixed, radam, rsgd
from geoemb.tables import rows
from tests.compiling import quick_jit


def waves(x):
  return jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), x)


def walk(tx, x, g, steps=3):
  def step(carry, _):
    x, state = carry
    updates, state = tx.update(g, state, x)
    return (optax.apply_updates(x, updates), state), None

  return jax.lax.scan(step, (x, tx.init(x)), None, steps)[0]


@functools.cache
def facts():
  """Three steps of a mixed tree with a traced curvature, together and each part alone."""

  @quick_jit
  def compute(key, c):
    ball, sphere = manifolds.make("lorentz", c), manifolds.make("sphere", 0.5)
    flat = manifolds.make("euclidean")
    make = lambda m: lookahead.lookahead(radam.radam(0.1, m, weight_decay=0.1), m, every=2)
    specs = {"tables": [ball, sphere], "head": None, "tail": {"scale": None}}
    x = {
      "tables": [ball.random(key, (4,), 3, scale=1.0), sphere.random(key, (2, 3), 2)],
      "head": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)},
      "tail": {"scale": jnp.ones([])},
    }
    g = waves(x)
    together = walk(mixed.mixed(specs, make), x, g)[0]
    tables = zip((ball, sphere), x["tables"], g["tables"])
    parts = {
      "tables": [walk(make(m), x, g)[0] for m, x, g in tables],
      "head": walk(make(flat), x["head"], g["head"])[0],
      "tail": walk(make(flat), x["tail"], g["tail"])[0],
    }  # fmt: skip
    return together, parts

  return jax.tree.map(np.asarray, compute(jax.random.key(0), jnp.float32(0.7)))


def test_every_part_takes_its_own_steps():
  together, parts = facts()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), together, parts)


def test_the_state_depends_on_names_alone():
  """So it can be made with one curvature and updated with another, traced one."""
  make = lambda m: rsgd.rsgd(0.1, m, momentum=0.9)
  bind = lambda c: mixed.mixed((manifolds.make("sphere", c), None), make)
  x = jnp.ones((3, 2)), jnp.ones(2)

  @jax.jit
  def step(state, c):
    return bind(c).update(x, state, x)[1]

  state = bind(1.0).init(x)
  assert jax.tree.structure(step(state, jnp.float32(2))) == jax.tree.structure(state)
  assert list(state.inner_states) == ["sphere[0]", "flat"]


def test_a_leaf_that_is_no_manifold_is_refused():
  with pytest.raises(ValueError, match=r"^specs\['a'\] must be a manifold or None, got 'lorentz'$"):
    mixed.mixed({"a": "lorentz"}, lambda m: rsgd.rsgd(0.1, m))


def test_numbers_of_a_tree_are_clipped():
  x = {"scale": jnp.float32(3)}
  for make in (
    lambda m: radam.radam(0.1, m, max_step=0.05),
    lambda m: rsgd.rsgd(0.1, m, max_grad=0.5),
  ):
    tx = mixed.mixed({"scale": None}, make)
    updates, _ = quick_jit(tx.update)(waves(x), tx.init(x), x)
    assert updates["scale"].shape == ()
    np.testing.assert_allclose(updates["scale"], -0.05, rtol=1e-6)


def test_rows_of_a_table_beside_flat_parameters():
  m = manifolds.make("sphere")
  make = lambda m: rsgd.rsgd(0.1, m, momentum=0.5)
  ids = jnp.array([4, 1, 4], jnp.int32)
  loss = lambda x, r: jnp.sum(x * r["a"])

  @quick_jit
  def run(key):
    x = m.random(key, (6,), 2)
    state = rows.init(mixed.mixed((m, (None,)), make), x, {"a": jnp.arange(3.0)})
    new, _ = rows.update(mixed.mixed((m, (None,)), make), loss, state, ids)
    alone, _ = rows.update(
      make(m), lambda x: loss(x, {"a": jnp.arange(3.0)}), rows.init(make(m), x), ids
    )
    return x, new, alone.table

  x, new, alone = jax.tree.map(np.asarray, run(jax.random.key(0)))
  np.testing.assert_allclose(new.table, alone, rtol=1e-6)
  np.testing.assert_array_equal(new.table[[0, 2, 3, 5]], x[[0, 2, 3, 5]])
  np.testing.assert_allclose(new.dense[0]["a"], np.arange(3) - 0.1 * x[[4, 1, 4]].sum(0), rtol=1e-5)


def test_accumulated_gradients_are_one_step_of_their_mean():
  """Gradients are Euclidean where optax.MultiSteps sums them, and the point stays till it moves."""
  m = manifolds.make("sphere", 0.7)
  tx = radam.radam(0.1, m, weight_decay=0.1)

  @quick_jit
  def run(key):
    x = m.random(key, (4,), 3, dtype=jnp.float64)
    g = jax.random.normal(key, (6, *x.shape), x.dtype)

    def step(carry, g, tx):
      x, state = carry
      updates, state = tx.update(g, state, x)
      x = optax.apply_updates(x, updates)
      return (x, state), x

    _, path = jax.lax.scan(functools.partial(step, tx=many), (x, many.init(x)), g)
    means = jnp.mean(g.reshape(2, 3, *x.shape), axis=1)
    _, expected = jax.lax.scan(functools.partial(step, tx=tx), (x, tx.init(x)), means)
    return x, path, expected

  # optax multiplies floats by bools
  with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
    many = optax.MultiSteps(tx, 3, accumulator_dtype=jnp.float64)  # float32 if not told
    x, path, expected = map(np.asarray, run(jax.random.key(0)))
  np.testing.assert_array_equal(path[:2], np.stack([x, x]))
  np.testing.assert_allclose(path[2], expected[0], rtol=1e-12)
  np.testing.assert_array_equal(path[3:5], path[[2, 2]])
  np.testing.assert_allclose(path[5], expected[1], rtol=1e-12)


@functools.cache
def curved():
  """Lookahead with momentum, and means, on a geodesic of the sphere, where all is arithmetic."""
  m = manifolds.make("sphere")
  steps, share, eta = 7, 0.4, 0.01

  @quick_jit
  def compute():
    at = lambda a: jnp.stack([jnp.cos(a), jnp.sin(a), 0 * a], -1)
    x = at(jnp.zeros([], jnp.float64))
    tx = lookahead.lookahead(rsgd.rsgd(eta, m, momentum=0.9), m, every=2, share=share)
    pull = lambda x: jnp.stack([-x[1], x[0], 0 * x[0]])  # uphill by 1 everywhere

    def step(carry, _):
      x, state = carry
      updates, state = tx.update(-pull(x), state, x)
      x = optax.apply_updates(x, updates)
      return (x, state), (x, m.inner(x, kept(state), pull(x)))

    kept = lambda state: optax.tree.get(state, "trace")
    angles = jnp.linspace(0.1, 2.0, 5) ** 2 / 4

    def mean(state, x, **kwargs):
      state = averaging.update(m, state, x, **kwargs)
      return state, state.mean

    start = averaging.init(x)
    even = jax.lax.scan(mean, start, at(angles))[1]
    late = jax.lax.scan(functools.partial(mean, decay=0.6), start, at(angles))[1]
    turn = lambda x: jnp.arctan2(x[..., 1], x[..., 0])
    path, trace = jax.lax.scan(step, (x, tx.init(x)), None, steps)[1]
    return turn(path), trace, angles, turn(even), turn(late)

  with jax.enable_x64(True):
    return steps, share, eta, jax.tree.map(np.asarray, compute())


def test_lookahead_goes_back_along_the_geodesic_and_takes_momentum_along():
  steps, share, eta, (path, trace, *_) = curved()
  a = slow = v = 0.0
  for t in range(steps):
    v = 0.9 * v - 1
    a -= eta * v
    if t % 2:
      a = slow = slow + share * (a - slow)
    np.testing.assert_allclose(path[t], a, rtol=1e-9)
    np.testing.assert_allclose(trace[t], v, rtol=1e-12)


def test_means_on_a_geodesic_are_means_of_the_arc():
  _, _, _, (_, _, angles, even, late) = curved()
  np.testing.assert_allclose(even, np.cumsum(angles) / np.arange(1, 6), rtol=1e-12)
  weight, total = 0, 0
  for t, a in enumerate(angles):
    weight, total = 0.6 * weight + 1, 0.6 * total + a
    np.testing.assert_allclose(late[t], total / weight, rtol=1e-12)
