import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.optim import links, rsgd


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum, nesterov", [(None, False), (0.9, False), (0.8, True)])
def test_flat_rsgd_is_sgd_bit_for_bit(dtype, momentum, nesterov):
  rng = np.random.default_rng(0)
  m = manifolds.make("euclidean")
  x = rng.normal(size=(5, 3)).astype(dtype)
  g = rng.normal(size=(40, 5, 3)).astype(dtype)
  ours = rsgd.rsgd(0.1, m, momentum=momentum, nesterov=nesterov)
  theirs = optax.sgd(0.1, momentum=momentum, nesterov=nesterov)

  def run(tx):
    def step(carry, g):
      x, state = carry
      updates, state = tx.update(g, state, x)
      x = optax.apply_updates(x, updates)
      return (x, state), x

    return jax.jit(lambda g: jax.lax.scan(step, (x, tx.init(x)), g)[1])(g)

  with jax.enable_x64(dtype == "float64"):
    a, b = run(ours), run(theirs)
  assert a.dtype == b.dtype == dtype
  np.testing.assert_array_equal(a, b)


def mobius_add(x, y):
  """[nickel2017poincare]'s ball, c = 1: the textbook x ⊕ y."""
  xy, xx, yy = x @ y, x @ x, y @ y
  return ((1 + 2 * xy + yy) * x + (1 - xx) * y) / (1 + 2 * xy + xx * yy)


def test_a_step_in_the_ball_is_the_textbook_one():
  rng = np.random.default_rng(1)
  x, g = rng.uniform(-0.5, 0.5, size=(6, 3)), rng.normal(size=(6, 3))
  m = manifolds.make("poincare")
  tx = {move: rsgd.rsgd(0.3, m, move=move) for move in ("exp", "retract")}
  with jax.enable_x64(True):
    step = jax.jit(lambda x, g: {k: x + t.update(g, t.init(x), x)[0] for k, t in tx.items()})
    got = step(x, g)
  for i in range(6):
    scale = (1 - x[i] @ x[i]) ** 2 / 4  # [nickel2017poincare] eq. 4
    v = -0.3 * scale * g[i]
    lam, length = 2 / (1 - x[i] @ x[i]), np.linalg.norm(v)
    np.testing.assert_allclose(got["retract"][i], x[i] + v, rtol=1e-13)
    end = mobius_add(x[i], np.tanh(lam * length / 2) * v / length)
    np.testing.assert_allclose(got["exp"][i], end, rtol=1e-12)


def test_clips_are_by_row_and_in_their_norms():
  """The gradient is clipped before momentum and rate, the step after both."""
  rng = np.random.default_rng(2)
  m = manifolds.make("poincare")
  x = rng.uniform(-0.5, 0.5, size=(8, 3))
  g = rng.normal(size=(8, 3)) * 10.0 ** np.arange(-4, 4)[:, None]
  kinds = {
    "grad": dict(max_grad=0.5),
    "chart": dict(max_grad=0.1, max_grad_norm="chart"),
    "step": dict(max_step=0.07),
  }

  @jax.jit
  def steps(x, g):
    out = {}
    for kind, kwargs in kinds.items():
      tx = rsgd.rsgd(0.2, m, **kwargs)
      v = m.log(x, x + tx.update(g, tx.init(x), x)[0])
      out[kind] = v, m.norm(x, v)
    plain = -0.2 * m.egrad2rgrad(x, g)
    return out, plain, m.norm(x, plain)

  with jax.enable_x64(True):
    out, plain, length = jax.tree.map(np.asarray, steps(x, g))
  assert length.min() < 0.01
  assert length.max() > 1
  np.testing.assert_allclose(out["grad"][1], np.minimum(length, 0.1), rtol=1e-7)
  np.testing.assert_allclose(out["step"][1], np.minimum(length, 0.07), rtol=1e-7)
  chart = np.linalg.norm(plain, axis=-1)
  np.testing.assert_allclose(
    np.linalg.norm(out["chart"][0], axis=-1), np.minimum(chart, 0.02), rtol=1e-7
  )
  for v, _ in out.values():  # the direction stays
    np.testing.assert_allclose(
      v / np.linalg.norm(v, axis=-1, keepdims=True), plain / chart[:, None], atol=1e-7
    )


@pytest.mark.parametrize("name", manifolds.NAMES)
@pytest.mark.parametrize("max_step", [None, 0.3])
def test_plain_descent_is_the_chain_of_its_links(name, max_step):
  rng = np.random.default_rng(3)
  m = manifolds.make(name, 0.7)
  rate = lambda count: jnp.where(count < 1, 0.4, 0.2)
  fused = rsgd.rsgd(rate, m, max_step=max_step)
  chain = links.riemannian(m, optax.scale_by_learning_rate(rate), max_step=max_step)

  @jax.jit
  def run(key, g):
    x = m.random(key, (7,), 3, scale=0.5, dtype=jnp.float64)
    ends = []
    for tx in (fused, chain):
      y, state = x, tx.init(x)
      for i in range(3):
        updates, state = tx.update(g[i, :, : x.shape[-1]], state, y)
        y = optax.apply_updates(y, updates)
      ends.append((y, optax.tree.get(state, "count")))
    return x, ends

  with jax.enable_x64(True):
    x, ((a, count_a), (b, count_b)) = run(jax.random.key(0), rng.normal(size=(3, 7, 4)))
  assert count_a == count_b == 3
  assert np.max(np.abs(a - x)) > 0.1
  np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_the_rate_follows_its_schedule():
  m = manifolds.make("euclidean")
  tx = rsgd.rsgd(lambda count: jnp.where(count < 2, 0.25, 0.5), m)
  x, state = jnp.zeros((2, 2)), tx.init(jnp.zeros((2, 2)))
  moved = []
  for _ in range(4):
    updates, state = tx.update(jnp.ones_like(x), state, x)
    moved.append(-updates[0, 0])
  np.testing.assert_array_equal(moved, [0.25, 0.25, 0.5, 0.5])
