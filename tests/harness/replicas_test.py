"""Eight devices against one, where they have nothing to disagree on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import harness, manifolds
from geoemb.harness import replicas, writer
from geoemb.optim import rsgd
from geoemb.tables import rows

N, D, R, H = 24, 3, 8, 6


@pytest.fixture(params=[1, R])
def mesh(request):
  if jax.device_count() < request.param:
    pytest.skip(f"needs {request.param} devices")
  return replicas.mesh(request.param)


def apart(size):
  """Batches of one row, of those that are the drawing replica's alone."""

  def sample(key, steps):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(steps)
    draw = jax.vmap(lambda k: jax.random.randint(k, (1,), 0, N // size))
    return draw(keys) * size + (steps // H % size)[:, None], steps

  return sample


def setting():
  m = manifolds.make("lorentz", 0.7)
  tx = rsgd.rsgd(0.1, m, momentum=0.9)

  def step(state, batch):
    ids, now = batch
    loss_fn = lambda x: jnp.sum(jnp.square(x - jnp.sin(jnp.arange(3, dtype=x.dtype))))
    state, loss = rows.update(tx, loss_fn, state, ids)
    return state, {"loss": loss, "now": now.astype(jnp.float32)}

  state = rows.init(tx, m.random(jax.random.key(0), (N,), D, scale=0.5))
  return m, tx, step, state


def test_devices_that_share_no_row_are_as_one(mesh, tmp_path):
  m, tx, step, state = setting()
  size, rounds, key = mesh.devices.size, 3, jax.random.key(1)
  merge = lambda old, new, axis: rows.merge(tx, m, old, new, axis)
  take, draw = replicas.local_steps(step, apart(size), merge, mesh=mesh, steps=H)
  many = harness.fit(take, draw, replicas.place(state, mesh), key, steps=rounds, log_every=1,
                     workdir=str(tmp_path / "many"))  # fmt: skip
  one = harness.fit(step, apart(size), state, key, steps=rounds * size * H, log_every=size * H,
                    workdir=str(tmp_path / "one"))  # fmt: skip
  assert np.any(np.asarray(one.state.table) != np.asarray(state.table), axis=1).sum() > N / 2
  assert set(many.state.table.sharding.device_set) == set(mesh.devices)
  # A slot is scratch. Rounding may differ: these are two programs, fused differently.
  for a, b in zip(jax.tree.leaves(many.state[:3]), jax.tree.leaves(one.state[:3])):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  a, b = (writer.read(str(tmp_path / kind / "metrics.jsonl")) for kind in ("many", "one"))
  assert len(a) == len(b) == rounds
  for i, (x, y) in enumerate(zip(a, b)):
    np.testing.assert_allclose(x["loss"], y["loss"], rtol=1e-5)
    np.testing.assert_allclose(x["now"], (i + 0.5) * size * H - 0.5, rtol=1e-6)


def test_an_interruption_changes_nothing(tmp_path):
  if jax.device_count() < 2:
    pytest.skip("needs 2 devices")
  mesh = replicas.mesh(2)
  m, tx, step, state = setting()
  everywhere = lambda key, steps: (apart(1)(key, steps)[0], steps)
  merge = lambda old, new, axis: rows.merge(tx, m, old, new, axis)
  take, draw = replicas.local_steps(step, everywhere, merge, mesh=mesh, steps=H)

  def fit(steps, folder):
    return harness.fit(take, draw, replicas.place(state, mesh), jax.random.key(1), steps=steps,
                       workdir=str(tmp_path / folder))  # fmt: skip

  whole = fit(5, "whole")
  fit(2, "parts")
  parts = fit(5, "parts")
  for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(parts.state)):
    np.testing.assert_array_equal(a, b)


def test_mistakes_are_one_line(tmp_path):
  with pytest.raises(harness.Abort, match="9999 replicas need 9999 devices"):
    replicas.mesh(9999)
  with pytest.raises(ValueError, match="replicas must be at least 1, got 0"):
    replicas.mesh(0)
  with pytest.raises(ValueError, match="local_steps must be at least 1, got 0"):
    replicas.local_steps(None, None, None, mesh=replicas.mesh(1), steps=0)
