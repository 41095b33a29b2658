import json
import logging as std_logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import harness
from geoemb.harness import checkpoints, hlo, loop, writer

N, D, B = 40, 3, 4
GOAL = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
TIMES = ("seconds", "pairs_per_second")


def sample(key, steps):
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(steps)
  return jax.vmap(lambda k: jax.random.randint(k, (B,), 0, N))(keys), steps


def step(table, batch):
  ids, _ = batch

  def loss_fn(x):
    return 0.5 * jnp.sum(jnp.square(x - jnp.asarray(GOAL)[ids]))

  loss, grad = jax.value_and_grad(loss_fn)(table[ids])
  return table.at[ids].add(-0.1 * grad), {"loss": loss}


def fit(workdir, step=step, state=None, steps=100, **kwargs):
  state = jnp.zeros((N, D)) if state is None else state
  return harness.fit(
    step, sample, state, jax.random.key(0), steps=steps, workdir=str(workdir), **kwargs
  )


def lines(workdir):
  rows = writer.read(str(workdir / "metrics.jsonl"))
  return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def expected(steps):
  ids, _ = sample(jax.random.key(0), jnp.arange(steps))
  table, losses = np.zeros((N, D), np.float64), []
  for batch in np.asarray(ids):
    difference = table[batch] - GOAL[batch]
    losses.append(0.5 * np.sum(difference**2))
    np.add.at(table, batch, -0.1 * difference)
  return table, np.asarray(losses)


def test_equals_a_plain_loop(tmp_path):
  done = fit(tmp_path, steps=90, log_every=30, block=8)
  table, losses = expected(90)
  np.testing.assert_allclose(done.state, table, rtol=1e-5, atol=1e-6)
  rows = lines(tmp_path)
  assert [row["step"] for row in rows] == [30, 60, 90]
  means = losses.reshape(3, 30).mean(axis=1)
  np.testing.assert_allclose([row["loss"] for row in rows], means, rtol=1e-5)
  assert done.steps == 90
  assert done.seconds > 0
  assert done.compile_seconds > 0


def test_lengths_of_calls_change_no_number(tmp_path, monkeypatch):
  kwargs = dict(steps=200, log_every=70, eval_every=80, evaluate=lambda x: {"sum": x.sum()})
  usual = fit(tmp_path / "a", block=16, **kwargs)
  rng = np.random.default_rng(1)
  monkeypatch.setattr(loop, "_plan", lambda *_: int(rng.integers(1, 40)))
  odd = fit(tmp_path / "b", block=16, **kwargs)
  np.testing.assert_array_equal(usual.state, odd.state)
  assert lines(tmp_path / "a") == lines(tmp_path / "b")
  assert [row["step"] for row in lines(tmp_path / "a")] == [70, 80, 140, 160, 200]


def test_compiles_once(tmp_path, caplog):
  seen = []

  def evaluate(_):
    seen.append(len([r for r in caplog.records if "Compiling" in r.getMessage()]))
    return {}

  with caplog.at_level(std_logging.DEBUG, logger="jax"), jax.log_compiles():
    fit(tmp_path, steps=201, block=8, log_every=17, save_every=50, evaluate=evaluate, eval_every=1)
  names = [r.getMessage() for r in caplog.records if "Compiling" in r.getMessage()]
  assert sum("train_loop" in name for name in names) == 1
  assert len(seen) == 201
  assert seen[0] == seen[-1], "something was compiled between calls"


@pytest.mark.parametrize("leaky", [False, True])
def test_no_copy_of_the_table_in_the_loop(leaky):
  def leaky_step(table, batch):
    new, info = step(table, batch)
    ids, _ = batch
    return new.at[ids].add(table[ids[::-1]] * jnp.max(new[ids])), info  # the old table lives on

  n = 5000
  table, key = jnp.zeros((n, D)), jax.random.key(0)
  step_ = leaky_step if leaky else step
  carry = loop.init(step_, sample, table, key, block=8)
  _, compiled = loop.compile_run(step_, sample, carry, key, block=8)
  assert bool(hlo.loop_copies(compiled.as_text(), n * D)) == leaky


def test_closed_over_arrays_are_not_constants_of_the_program():
  big = np.arange(30_011, dtype=np.float32)
  read = lambda x, batch: (x + jnp.asarray(big)[batch[0][0]], {"loss": x})
  key = jax.random.key(0)
  carry = loop.init(read, sample, jnp.zeros(()), key, block=8)
  call, compiled = loop.compile_run(read, sample, carry, key, block=8)
  text = compiled.as_text()
  constants = [row for row in text.splitlines() if "f32[30011]" in row and "constant(" in row]
  assert not constants
  ids, _ = sample(key, jnp.arange(3))
  assert call(carry, 0, 3).state == big[np.asarray(ids)[:, 0]].sum()


def test_one_program_for_runs_that_differ_in_closed_over_arrays():
  key, seen = jax.random.key(0), []

  def compiled(step, n=3):
    carry = loop.init(step, sample, jnp.zeros(n), key, block=8)
    call, program = loop.compile_run(step, sample, carry, key, block=8)
    return call(carry, 0, 2).state, program

  def adds(x):
    x = jnp.asarray(x)
    return lambda state, batch: (state + x, {"loss": x})

  def tells(name):
    tell = lambda x: seen.append(name)
    return lambda state, batch: (jax.debug.callback(tell, state[0]), (state, {"loss": state[0]}))[1]

  (one, a), (two, b), (long, c) = compiled(adds(1.0)), compiled(adds(2.0)), compiled(adds(1.0), 4)
  assert a is b and c is not a
  assert (one[0], two[0], long[0]) == (2, 4, 2)
  _, a = compiled(tells("a"))
  _, b = compiled(tells("b"))
  jax.effects_barrier()
  assert a is not b and seen == ["a", "a", "b", "b"]  # one function is not taken for the other


def test_means_lose_nothing_to_rounding(tmp_path):
  tenth = lambda x, _: (x, {"loss": jnp.float32(0.1), "small": jnp.float32(1e-9)})
  fit(tmp_path, tenth, jnp.zeros(()), steps=300_000, log_every=300_000)
  (row,) = lines(tmp_path)
  np.testing.assert_allclose(row["loss"], np.float32(0.1), rtol=1e-6)
  np.testing.assert_allclose(row["small"], np.float32(1e-9), rtol=1e-6)


def test_the_callers_state_stays_valid(tmp_path):
  table = jnp.zeros((N, D))
  fit(tmp_path, state=table, steps=3)
  np.testing.assert_array_equal(table, 0)


def test_any_pytree_is_state(tmp_path):
  zero = jnp.zeros(3)
  state = {"key": jax.random.key(7), "twice": (zero, zero), "half": zero.astype(jnp.bfloat16)}

  def turn(state, _):
    key, draw = jax.random.split(state["key"])
    x = jax.random.normal(draw, (3,))
    a, b = state["twice"]
    new = {"key": key, "twice": (a + x, b - x), "half": state["half"] + x.astype(jnp.bfloat16)}
    return new, {"norm": jnp.sum(x * x)}

  whole = fit(tmp_path / "a", turn, state, steps=20)
  with pytest.raises(RuntimeError, match="pulled"):
    fit(tmp_path / "b", turn, state, steps=20, save_every=7, eval_every=15, evaluate=_pull_the_plug)
  rest = fit(tmp_path / "b", turn, state, steps=20, save_every=7)
  assert "loss" not in lines(tmp_path / "a")[0]
  for x, y in zip(jax.tree.leaves(whole.state), jax.tree.leaves(rest.state), strict=True):
    x, y = (jax.random.key_data(k) if k.dtype == state["key"].dtype else k for k in (x, y))
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def _pull_the_plug(_):
  raise RuntimeError("plug pulled")


@pytest.mark.parametrize("x64", [False, True])
def test_resumed_is_uninterrupted(tmp_path, x64):
  with jax.enable_x64(x64):
    table = jnp.zeros((N, D), jnp.float64 if x64 else jnp.float32)

    def typed(x, batch):
      ids, _ = batch
      part, info = step(x.astype(jnp.float32), batch)
      del ids
      return part.astype(x.dtype), {"loss": info["loss"].astype(x.dtype)}

    kwargs = dict(steps=120, log_every=50, save_every=30, save_seconds=None, block=8)
    whole = fit(tmp_path / "a", typed, table, **kwargs)
    with pytest.raises(RuntimeError, match="pulled"):  # the checkpoint is amid a line's steps
      fit(tmp_path / "b", typed, table, **kwargs, evaluate=_pull_the_plug, eval_every=115)
    rest = fit(tmp_path / "b", typed, table, **kwargs)
    np.testing.assert_array_equal(np.asarray(whole.state), np.asarray(rest.state))
  assert lines(tmp_path / "a") == lines(tmp_path / "b")
  assert rest.seconds > 0


def test_a_finished_run_is_not_run_again(tmp_path):
  first = fit(tmp_path, steps=40)
  again = fit(tmp_path, steps=40)
  np.testing.assert_array_equal(first.state, again.state)
  assert again.seconds == first.seconds
  assert again.compile_seconds == 0
  assert len(lines(tmp_path)) == 40


def test_what_is_left_to_train_is_said(tmp_path, caplog):
  fit(tmp_path, steps=5)
  with caplog.at_level(std_logging.WARNING, logger="absl"):
    fit(tmp_path, steps=4)
  assert f"nothing to train: {tmp_path} holds step 5 of 4" in caplog.messages


@pytest.mark.parametrize("older", [False, True])
def test_means_of_a_run_that_is_extended(tmp_path, monkeypatch, older):
  """Lines of other steps than before: of 10, then of 15; and the checkpoint lies within one."""
  save = checkpoints.Checkpoints.save
  if older:  # checkpoints that do not tell where the last line is; at a line they are read right
    less = lambda self, step, tree, meta: save(self, step, tree, {"clock": meta["clock"]})
    monkeypatch.setattr(checkpoints.Checkpoints, "save", less)
  now = lambda x, batch: (x, {"loss": batch[1].astype(jnp.float32)})
  first = 30 if older else 40
  fit(tmp_path, now, jnp.zeros(()), steps=first, log_every=10)
  fit(tmp_path, now, jnp.zeros(()), steps=60, log_every=15)
  rows, begin = lines(tmp_path), 0
  for row in rows:
    np.testing.assert_allclose(row["loss"], (begin + row["step"] - 1) / 2, rtol=1e-6)
    begin = row["step"]
  assert begin == 60


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
  def spoilt(table, batch):
    table, info = step(table, batch)
    return table, {"loss": jnp.where(batch[1] == 77, jnp.inf, info["loss"])}

  with pytest.raises(harness.Abort, match="not finite at step 78 of 100.* step 60 is kept") as e:
    fit(tmp_path, spoilt, save_every=20, save_seconds=None)
  assert e.value.code == 1
  assert max(row["step"] for row in lines(tmp_path)) == 77
  mended = fit(tmp_path, save_every=20)
  np.testing.assert_array_equal(mended.state, fit(tmp_path / "whole").state)


@pytest.mark.parametrize(
  "wrong, match",
  [
    (dict(sample=lambda key, steps: steps[:3]), "leading axis of 64"),
    (dict(step=lambda s, b: (s, {"loss": b[0]})), "must be a scalar"),
    (dict(step=lambda s, b: (s, {})), "at least one metric"),
    (dict(steps=-1), "steps"),
    (dict(save_every=0), "save_every"),
    (dict(block=0), "block"),
  ],
)
def test_mistakes_are_named(tmp_path, wrong, match):
  kwargs = {"step": step, "sample": sample, "steps": 10} | wrong
  with pytest.raises(ValueError, match=match):
    harness.fit(state=jnp.zeros((N, D)), key=jax.random.key(0), workdir=str(tmp_path), **kwargs)


def test_metrics_are_json_lines(tmp_path):
  fit(tmp_path, steps=5, items_per_step=B, items="triples", evaluate=lambda _: {"x": jnp.nan},
      eval_every=5)  # fmt: skip
  text = (tmp_path / "metrics.jsonl").read_text().splitlines()
  first, last = json.loads(text[0]), json.loads(text[-1])
  assert list(first) == ["step", "loss", "triples_per_second", "seconds"]
  assert last == {"step": 5, "eval": {"x": None}}
