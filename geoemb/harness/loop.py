"""The compiled training loop: nothing runs in Python per step."""

import contextlib
import functools
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from geoemb.harness import checkpoints, cpu, errors, progress, signals, workdirs, writer
from geoemb.typing import Array, Key, PyTree

_CALL_SECONDS = 1.0  # aim for a device call: signals, saves and the bar wait at most this long
_GROWTH = 16  # at most, from one call's steps to the next's, while the speed is not known yet
_PROGRAMS = 8  # kept, for runs of the same one in this process

_compiled: dict[Hashable, jax.stages.Compiled] = {}


class Fit(NamedTuple):
  """What a run comes to."""

  state: PyTree
  steps: int
  seconds: float  # of training, over all resumptions; compilation, saves, evaluations left out
  compile_seconds: float  # of this process; 0 if nothing was left to train


class Carry(NamedTuple):
  """What the compiled loop hands on."""

  state: PyTree
  recent: dict[str, Array]  # [block] metrics of step s at s mod block; 0 if in a line already
  sums: dict[str, Array]  # [2] sum over whole blocks since the last line, and its rounding error
  bad: Array  # int32: first step whose loss is not finite, or -1


def _two_sum(total: Array, x: Array) -> Array:
  """Adds x to the unevaluated sum total[0] + total[1]: a million terms lose nothing."""
  high, low = total
  new = high + x
  part = new - high
  low = low + ((high - (new - part)) + (x - part))  # Knuth's exact error of high + x
  top = new + low
  return jnp.stack([top, low - (top - new)])


def _runner(step: Callable, sample: Callable, block: int) -> Callable:
  """run(carry, key, first, n) → carry after n steps from step `first` on.

  Blocks lie at multiples of `block` wherever a call begins, and metrics are summed a block at a
  time, so that the length of calls changes no rounding.
  """

  def draw(last, key, now_carry):
    now, carry = now_carry
    start = now // block * block
    batches = sample(key, start + jnp.arange(block, dtype=jnp.int32))

    def one(i_inner):
      i, (state, recent) = i_inner
      batch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, 0, False), batches)
      state, info = step(state, batch)
      recent = {k: r.at[i].set(info[k].astype(r.dtype)) for k, r in recent.items()}
      return i + 1, (state, recent)

    end = jnp.minimum(last - start, block)
    inner = (now - start, (carry.state, carry.recent))
    i, (state, recent) = jax.lax.while_loop(lambda i_inner: i_inner[0] < end, one, inner)
    sums = {
      k: jnp.where(i == block, _two_sum(total, jnp.sum(recent[k])), total)
      for k, total in carry.sums.items()
    }
    wrong = ~functools.reduce(
      jnp.logical_and,
      [jnp.isfinite(recent[k]) for k in recent if k == "loss" or "loss" not in recent],
    )
    bad = jnp.where(jnp.any(wrong), start + jnp.argmax(wrong).astype(jnp.int32), carry.bad)
    return start + i, Carry(state, recent, sums, bad)

  def run(carry: Carry, key: Key, first: Array, n: Array) -> Carry:
    last = first + n
    go = lambda now_carry: (now_carry[0] < last) & (now_carry[1].bad < 0)
    return jax.lax.while_loop(go, functools.partial(draw, last, key), (first, carry))[1]

  return run


def init(step: Callable, sample: Callable, state: PyTree, key: Key, *, block: int) -> Carry:
  """The loop's first carry; the caller's `state` is copied, since the loop donates its own.

  Raises:
    ValueError: if `sample` or `step` do not return what `fit` says.
  """

  def own(x):
    x = jnp.asarray(x)
    return (
      x.copy() if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.array(x, x.dtype)
    )

  state = jax.tree.map(own, state)
  batches = jax.eval_shape(sample, key, jax.ShapeDtypeStruct((block,), jnp.int32))
  for path, x in jax.tree_util.tree_leaves_with_path(batches):
    if not x.shape or x.shape[0] != block:
      raise ValueError(
        f"sample must return leaves with a leading axis of {block} steps, "
        f"got {list(x.shape)} at {jax.tree_util.keystr(path) or 'its only leaf'}"
      )
  batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batches)
  _, info = jax.eval_shape(step, state, batch)
  if not info:
    raise ValueError("step must return at least one metric, such as the loss")
  for name, x in info.items():
    if x.shape:
      raise ValueError(f"metric {name!r} must be a scalar, got shape {list(x.shape)}")
  wide = {k: jnp.float64 if x.dtype == jnp.float64 else jnp.float32 for k, x in info.items()}
  rest = (
    {k: jnp.zeros(block, t) for k, t in wide.items()},
    {k: jnp.zeros(2, t) for k, t in wide.items()},
    jnp.full((), -1, jnp.int32),
  )
  return Carry(state, *_beside(state, rest))


def _beside(state: PyTree, tree: PyTree) -> PyTree:
  """The tree on all devices of the state, if that is on several."""
  shardings = [x.sharding for x in jax.tree.leaves(state)]
  meshes = [s.mesh for s in shardings if isinstance(s, jax.sharding.NamedSharding)]
  if not meshes:
    return tree
  return jax.device_put(tree, jax.sharding.NamedSharding(meshes[0], jax.sharding.PartitionSpec()))


def compile_run(
  step: Callable, sample: Callable, carry: Carry, key: Key, *, block: int
) -> tuple[Callable[[Carry, int, int], Carry], jax.stages.Compiled]:
  """call(carry, first, n) → carry, which consumes its argument, and what was compiled.

  Arrays that `step` and `sample` close over become arguments here: as the constants that tracing
  makes of them, XLA would embed and try to fold them. So runs that differ in these arrays only
  share one program, and it is compiled for the first.
  """
  zero = np.int32(0)
  run = _runner(step, sample, block)
  closed, out = jax.make_jaxpr(run, return_shape=True)(carry, key, zero, zero)
  consts = [jnp.asarray(c) for c in closed.consts]

  def train_loop(carry, consts, key, first, n):
    leaves = jax.core.eval_jaxpr(closed.jaxpr, consts, *jax.tree.leaves((carry, key, first, n)))
    return jax.tree.unflatten(jax.tree.structure(out), leaves)

  loop = jax.jit(train_loop, donate_argnums=0, compiler_options=cpu.compiler_options())
  compiled = _compile(
    loop.lower(carry, consts, key, zero, zero),
    jax.tree.structure((carry, key, out)),
    tuple(x.sharding for x in jax.tree.leaves((carry, consts, key))),
  )
  call = lambda carry, first, n: compiled(carry, consts, key, np.int32(first), np.int32(n))
  return call, compiled


def _compile(lowered: jax.stages.Lowered, *rest: Hashable) -> jax.stages.Compiled:
  """The program compiled, or an earlier one of the same text, trees and shardings."""
  which = (text := lowered.as_text()), *rest
  compiled = _compiled.pop(which, None) or lowered.compile()
  if "callback" not in text:  # the text does not tell one host function from another
    _compiled[which] = compiled  # the last is the latest in use
    if len(_compiled) > _PROGRAMS:
      del _compiled[next(iter(_compiled))]
  return compiled


def _means(recent: dict[str, Any], sums: dict[str, Any], slots: int, n: int) -> dict[str, float]:
  """Means over the n steps since the last line, of whole blocks and of `slots` of the last."""
  part = {k: np.sum(x[:slots], dtype=np.float64) for k, x in recent.items()}
  return {k: float(part[k] + np.sum(s, dtype=np.float64)) / n for k, s in sums.items()}


def _boundary(step: int, steps: int, *periods: int | None) -> int:
  """The next step at which a call must end: the first multiple of a period after `step`."""
  return min(steps, *[(step // p + 1) * p for p in periods if p])


def _plan(plan: int, steps_per_second: float, block: int) -> int:
  """Steps of the next call: about a second's worth, whole blocks if it is more than one."""
  n = min(int(steps_per_second * _CALL_SECONDS), _GROWTH * plan)
  return max(1, n // block * block if n > block else n)


def _check(steps: int, block: int, **periods: float | None) -> None:
  if steps < 0:
    raise ValueError(f"steps must be at least 0, got {steps}")
  if steps + block > np.iinfo(np.int32).max:
    raise ValueError(f"steps must fit in int32, got {steps}")
  for name, value in {"block": block, **periods}.items():
    if value is not None and value <= 0:
      raise ValueError(f"{name} must be positive, got {value}")


def fit(
  step: Callable[[PyTree, PyTree], tuple[PyTree, dict[str, Array]]],
  sample: Callable[[Key, Array], PyTree],
  state: PyTree,
  key: Key,
  *,
  steps: int,
  workdir: str,
  items_per_step: int = 1,
  items: str = "pairs",
  block: int = 64,
  log_every: int | None = None,
  save_seconds: float | None = 60,
  save_every: int | None = None,
  keep: int = 3,
  evaluate: Callable[[PyTree], dict[str, Any]] | None = None,
  eval_every: int | None = None,
) -> Fit:
  """Trains for `steps` steps, resuming from workdir if it holds a checkpoint.

  One donated function is compiled: a loop over blocks of steps, each block drawing its batches at
  once and an inner loop taking them one by one. Its number of steps is an argument, chosen so that
  a call takes about a second and ends where metrics, a checkpoint or an evaluation are due. Between
  calls the host writes metrics.jsonl, saves, evaluates, draws the bar and answers signals. Neither
  the calls' lengths nor an interruption change any number but the times.

  Args:
    step: (state, batch) → (state, metrics); metrics are scalars, of which lines give the mean.
    sample: (key, steps int32 [k]) → batches with leading axis k; the i-th is a pure function of
      key and steps[i].
    state: any pytree of arrays; it is copied, not consumed.
    key: PRNG key, handed to `sample` unchanged at every call.
    steps: optimizer steps in all.
    workdir: where metrics.jsonl and checkpoints/ go; locked meanwhile.
    items_per_step: what a step counts for in the speed that is reported.
    items: what those items are called.
    block: steps whose batches are drawn at once.
    log_every: steps between lines of metrics; None makes about a hundred lines.
    save_seconds: seconds of training between checkpoints; None never saves by time.
    save_every: steps between checkpoints, beside those by time.
    keep: checkpoints kept; the last of them is that of the end.
    evaluate: state → metrics, logged every `eval_every` steps; not counted as training.
    eval_every: steps between evaluations; None means never.

  Raises:
    Abort: where the run ends early: a signal, a loss that is not finite, a failed write, damaged
      checkpoints, or a workdir that another process uses.
  """
  log_every = log_every or max(1, steps // 100)
  eval_every = eval_every if evaluate else None
  _check(steps, block, log_every=log_every, save_seconds=save_seconds, save_every=save_every,
         keep=keep, eval_every=eval_every, items_per_step=items_per_step)  # fmt: skip
  with contextlib.ExitStack() as stack:
    stack.enter_context(workdirs.locked(workdir))
    request = stack.enter_context(signals.caught())
    store = stack.enter_context(contextlib.closing(checkpoints.Checkpoints(workdir, keep)))

    carry = init(step, sample, state, key, block=block)
    zeros = jax.tree.map(np.zeros_like, (carry.recent, carry.sums))
    del state
    done, line = 0, 0  # line: step of the last line
    clock = {"seconds": 0.0, "line_seconds": 0.0}  # line_seconds: at the last line
    if restored := store.restore(carry._replace(bad=None)):
      done, clock = restored.step, restored.meta["clock"]
      line = restored.meta.get("line", done // log_every * log_every)  # a checkpoint may lack it
      carry = restored.tree._replace(bad=carry.bad)
      logging.info("resuming from the checkpoint of step %d in %s", done, workdir)
    lines = stack.enter_context(contextlib.closing(writer.Writer(workdir, done)))
    if done >= steps:
      logging.warning("nothing to train: %s holds step %d of %d", workdir, done, steps)
      return Fit(carry.state, done, clock["seconds"], 0.0)

    begin = time.perf_counter()
    call, _ = compile_run(step, sample, carry, key, block=block)
    compile_seconds = time.perf_counter() - begin
    logging.info("compiled the loop in %.1f s", compile_seconds)
    bar = stack.enter_context(contextlib.closing(progress.Progress(done, steps, items)))

    def save():
      store.save(done, carry._replace(bad=None), {"clock": clock, "line": line})

    saved, saved_at, plan = done, time.monotonic(), 1
    while done < steps and not request:
      n = min(plan, _boundary(done, steps, log_every, save_every, eval_every) - done)
      begin = time.perf_counter()
      carry = call(carry, done, n)
      recent, sums, bad = jax.device_get(carry[1:])  # waits for the device
      elapsed = time.perf_counter() - begin
      if bad >= 0:
        last = f"the checkpoint of step {saved} is kept" if saved else "there is no checkpoint yet"
        raise errors.Abort(f"the loss is not finite at step {bad + 1} of {steps}; {last}")
      done += n
      clock["seconds"] += elapsed
      if 2 * n >= plan:  # shorter ones measure the overhead
        plan = _plan(plan, n / elapsed, block)

      means = _means(recent, sums, done % block, done - line)
      bar.update(done, n / elapsed, items_per_step * n / elapsed, means.get("loss"))
      if done % log_every == 0 or done == steps:
        rate = items_per_step * (done - line) / (clock["seconds"] - clock["line_seconds"])
        lines.write(
          done, **means, **{f"{items}_per_second": round(rate)}, seconds=round(clock["seconds"], 3)
        )
        line, clock["line_seconds"] = done, clock["seconds"]
        fresh = _beside(carry.state, jax.tree.map(jnp.asarray, zeros))
        carry = Carry(carry.state, *fresh, carry.bad)
      if eval_every and done % eval_every == 0:
        lines.write(done, eval=evaluate(carry.state))
      due = save_seconds is not None and time.monotonic() - saved_at >= save_seconds
      if due or done == steps or (save_every and done % save_every == 0):
        save()
        saved, saved_at = done, time.monotonic()
    if request:
      if done > saved:
        save()
      raise errors.Abort(
        f"stopped by {request.name} at step {done} of {steps}; the same command resumes",
        request.code,
      )
    return Fit(carry.state, done, clock["seconds"], compile_seconds)
