"""A run that is saved, restored and continued ends where an uninterrupted one does, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb.harness import checkpoints
from geoemb.manifolds import sphere
from geoemb.optim import (
  averaging,
  curvature,
  lookahead,
  mixed,
  radagrad,
  radam,
  rlion,
  rsgd,
  schedules,
)
from geoemb.tables import rows
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

STEPS = 4  # before the checkpoint and after it; lookahead is between two of its returns there
SPHERE = sphere.manifold()
RATE = schedules.burn_in(0.1, steps=9, burn_in_steps=5, factor=0.1)
OPTIMIZERS = {
  "rsgd": lambda: rsgd.rsgd(RATE, SPHERE, momentum=0.9, nesterov=True),
  "ramsgrad": lambda: radam.ramsgrad(0.1, SPHERE),
  "radagrad": lambda: radagrad.radagrad(0.1, SPHERE),
  "rlion": lambda: rlion.rlion(0.1, SPHERE),
  "lookahead": lambda: lookahead.lookahead(radam.radam(0.1, SPHERE), SPHERE, every=3),
  "averaging": lambda: rsgd.rsgd(0.1, SPHERE),
  "rows": lambda: radam.radam(0.1, SPHERE),
  "mixed": lambda: mixed.mixed(
    {"table": SPHERE, "bias": None}, lambda m: rsgd.rsgd(0.1, m, momentum=0.9)
  ),
  "learned": lambda: curvature.learned(
    sphere, lambda m: rsgd.rsgd(0.1, m, momentum=0.9), optax.sgd(0.1, momentum=0.9)
  ),
}


def start(name, tx):
  """The first state of a run: points, and all that belongs to them."""
  points = SPHERE.random(jax.random.key(0), (5,), 3)
  if name == "rows":
    return rows.init(tx, points)
  if name == "mixed":
    x = {"table": points, "bias": jnp.ones(2)}
  else:
    x = (points, jnp.zeros([])) if name == "learned" else points
  return x, tx.init(x), averaging.init(x) if name == "averaging" else ()


def step(name, tx, state, t):
  if name == "rows":
    ids = jnp.stack([t, t, t + 1]) % 5
    return rows.update(tx, lambda x: jnp.sum(jnp.sin(3 * x + t.astype(x.dtype))), state, ids)[0]
  x, opt, mean = state
  g = jax.tree.map(lambda x: jnp.cos(3 * x + t.astype(x.dtype)), x)
  updates, opt = tx.update(g, opt, x)
  x = optax.apply_updates(x, updates)
  return x, opt, averaging.update(SPHERE, mean, x) if name == "averaging" else mean


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resuming_is_exact(name, tmp_path):
  tx = OPTIMIZERS[name]()

  @quick_jit
  def advance(state, begin):
    one = lambda i, state: step(name, tx, state, begin + i)
    return jax.lax.fori_loop(0, STEPS, one, state)

  half = advance(start(name, tx), jnp.int32(0))
  whole = advance(half, jnp.int32(STEPS))

  store = checkpoints.Checkpoints(str(tmp_path))
  try:
    store.save(STEPS, half, {})
    # The form alone is known, as to a process that has just started.
    restored = store.restore(jax.tree.map(jnp.zeros_like, half))
  finally:
    store.close()
  resumed = advance(restored.tree, jnp.int32(restored.step))

  assert jax.tree.structure(resumed) == jax.tree.structure(whole)
  moved = 0
  for before, a, b in zip(*map(jax.tree.leaves, (half, whole, resumed))):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    moved += np.any(np.asarray(a) != np.asarray(before))
  assert moved >= 2  # the points, and what belongs to them
