"""Data parallelism by local steps: devices train copies of one state side by side, then agree.

    mesh = replicas.mesh(2)
    step, sample = replicas.local_steps(step, sample, merge, mesh=mesh, steps=64)
    state = replicas.place(state, mesh)
    harness.fit(step, sample, state, key, steps=rounds, ...)

Nothing is exchanged but at the end of a round, so that steps of microseconds pay for no
synchronisation. Source: [stich2019local].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from geoemb.harness import errors
from geoemb.typing import Array, Key, PyTree

_AXIS = "replica"
_BLOCK = 64  # steps whose batches are drawn at once


def mesh(n: int) -> jax.sharding.Mesh:
  """The first n devices, in a row.

  Raises:
    Abort: if there are fewer.
  """
  if n < 1:
    raise ValueError(f"replicas must be at least 1, got {n}")
  have = jax.devices()
  if len(have) < n:
    raise errors.Abort(
      f"{n} replicas need {n} devices, and there are {len(have)} of kind {have[0].platform}",
      errors.USAGE,
    )
  return jax.sharding.Mesh(np.asarray(have[:n]), (_AXIS,))


def place(state: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
  """The state, on all devices of the mesh."""
  return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def local_steps(
  step: Callable[[PyTree, PyTree], tuple[PyTree, dict[str, Array]]],
  sample: Callable[[Key, Array], PyTree],
  merge: Callable[[PyTree, PyTree, str], PyTree],
  *,
  mesh: jax.sharding.Mesh,
  steps: int,
) -> tuple[Callable, Callable]:
  """A step and a sample for `harness.fit` of which each step is a round of steps on every device.

  Round t has steps t·R·H … (t + 1)·R·H − 1, R replicas of H consecutive ones each; all start from
  one state, and `merge` makes one of theirs. Metrics are means over the round.

  Args:
    step: as for `harness.fit`.
    sample: as for `harness.fit`; batches are drawn on the device that takes them.
    merge: (state before, state after on this device, name of the axis) → state, equal on all
      devices, by collectives such as `jax.lax.psum` over that axis.
    mesh: from `mesh`.
    steps: H, of a device in a round.
  """
  if steps < 1:
    raise ValueError(f"local_steps must be at least 1, got {steps}")
  size = mesh.devices.size
  block = max(k for k in range(1, min(_BLOCK, steps) + 1) if steps % k == 0)

  def local(state: PyTree, key: Key, now: Array) -> tuple[PyTree, dict[str, Array]]:
    first = (now * size + jax.lax.axis_index(_AXIS)) * steps

    def draw(new, start):
      return jax.lax.scan(step, new, sample(key, start + jnp.arange(block, dtype=jnp.int32)))

    starts = first + block * jnp.arange(steps // block, dtype=jnp.int32)
    new, info = jax.lax.scan(draw, state, starts)
    info = {name: jax.lax.pmean(jnp.mean(x), _AXIS) for name, x in info.items()}
    return merge(state, new, _AXIS), info

  every = PartitionSpec()
  # The states are equal by `merge`, which the types of what is varying cannot see in every step.
  take = jax.shard_map(local, mesh=mesh, in_specs=every, out_specs=every, check_vma=False)

  def round_of(state: PyTree, batch: tuple[Key, Array]) -> tuple[PyTree, dict[str, Array]]:
    return take(state, *batch)

  def rounds(key: Key, now: Array) -> tuple[Key, Array]:
    return jnp.broadcast_to(key, now.shape), now

  return round_of, rounds
