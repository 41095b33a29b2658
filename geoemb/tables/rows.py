"""Row-sparse training: a step reads and writes only the table rows that its batch touches.

Works with every optax transformation whose links act on rows independently: optimizer state that
has a row per table row is gathered and written back with it, the rest (step counts) is shared.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from geoemb.manifolds import Manifold
from geoemb.optim import links
from geoemb.typing import Array, PyTree

_MERGED = 8192  # rows that are merged at a time, at most
# Distance from which on devices that moved a row the same way count as one: they have each gone to
# where its neighbours want it, and adding that up would go past it, farther in every round.
_REACH = 0.2


class State(NamedTuple):
  """A table in training."""

  table: Array  # [n, ...] one point a row
  dense: tuple  # parameters beside the table that every step updates
  opt: PyTree  # optimizer state of (table, dense)
  slot: Array  # [n] int32: where in the last batch a row stood; scratch, meaningless between steps


def _row_leaves(tx: optax.GradientTransformation, table: Array, dense: tuple) -> list[bool]:
  """For each leaf of the optimizer state, whether it has a row per table row."""

  def shapes(extra: int) -> list[tuple[int, ...]]:
    rows = jax.ShapeDtypeStruct((table.shape[0] + extra, *table.shape[1:]), table.dtype)
    return [x.shape for x in jax.tree.leaves(jax.eval_shape(tx.init, (rows, dense)))]

  return [a != b for a, b in zip(shapes(0), shapes(1))]


def init(tx: optax.GradientTransformation, table: Array, *dense: PyTree) -> State:
  """State of a fresh run; `dense` are parameters beside the table, such as one shared offset."""
  return State(table, dense, tx.init((table, dense)), jnp.zeros(table.shape[0], jnp.int32))


def update(
  tx: optax.GradientTransformation,
  loss_fn: Callable[..., Array],
  state: State,
  ids: Array,
  *,
  has_aux: bool = False,
) -> tuple[State, PyTree]:
  """One step on the rows `ids`, and the loss, [].

  The gradient is taken with respect to the gathered rows; gradients of a row that stands in `ids`
  more than once are summed. On the touched rows this equals the dense step; the others keep their
  bits, also where the dense optimizer would move them (momentum, weight decay).

  One of a row's places stands for all: an int32 table maps a row to it, so that nothing is sorted
  and the work is O(len(ids)). The other places carry zero gradients and are not written.

  Args:
    tx: transformation of the pair (rows, dense).
    loss_fn: (x, *dense) → scalar, where x [r, ...] are the rows `table[ids]`.
    state: from `init` or a former step.
    ids: [r] int32 row numbers, repetitions allowed.
    has_aux: loss_fn returns (scalar, aux), and aux is returned in place of the loss.
  """
  n, r = state.table.shape[0], ids.shape[0]
  place = jnp.arange(r, dtype=jnp.int32)
  slot = state.slot.at[ids].set(place, mode="promise_in_bounds")
  to = slot.at[ids].get(mode="promise_in_bounds")  # equal for equal ids, whichever write won
  write = jnp.where(to == place, ids, n)  # n is out of bounds, so dropped

  x = state.table.at[ids].get(mode="promise_in_bounds")
  argnums = tuple(range(1 + len(state.dense)))
  out, grads = jax.value_and_grad(loss_fn, argnums, has_aux)(x, *state.dense)
  g = jnp.zeros_like(x).at[to].add(grads[0], mode="promise_in_bounds")

  leaves, treedef = jax.tree.flatten(state.opt)
  is_row = _row_leaves(tx, state.table, state.dense)
  rows = [s.at[ids].get(mode="promise_in_bounds") if k else s for s, k in zip(leaves, is_row)]
  params = (x, state.dense)
  updates, opt = tx.update((g, tuple(grads[1:])), jax.tree.unflatten(treedef, rows), params)
  x, dense = optax.apply_updates(params, updates)
  leaves = [
    old.at[write].set(new, mode="drop") if k else new
    for old, new, k in zip(leaves, jax.tree.leaves(opt), is_row)
  ]
  table = state.table.at[write].set(x, mode="drop")
  return State(table, dense, jax.tree.unflatten(treedef, leaves), slot), out[1] if has_aux else out


def merge(
  tx: optax.GradientTransformation, m: Manifold, old: State, new: State, axis: str
) -> State:
  """One state of those that the devices of an axis have come to from `old`: their changes add up.

  A row x that one device has moved is as it left it; one that several have moved, to y₁, y₂ …, is
  at exp_x Σ log_x(yᵢ), a step that is shortened to the longest of theirs or to 0.2. Its rows of the
  optimizer's state are the means of theirs, tangents being carried to that point first. Changes of
  dense parameters, which are flat, and counts of steps are summed; the rest of the optimizer's
  state is averaged. Points in that state, such as `lookahead`'s, go as the table and dense do.

  It costs a pass over the table on every device, so it is for rounds of many steps.

  Args:
    tx: as in `update`.
    m: manifold of the table.
    old: state that all devices started from.
    new: state of this device.
    axis: name of the axis, as for jax.lax.psum.
  """
  total = functools.partial(jax.lax.psum, axis_name=axis)
  n = new.table.shape[0]
  moved = jnp.any(new.table != old.table, axis=tuple(range(1, new.table.ndim)))
  count = total(moved.astype(jnp.int32))
  is_row = _row_leaves(tx, new.table, new.dense)
  befores, treedef = jax.tree.flatten(old.opt)
  afters = jax.tree.leaves(new.opt)
  wide = lambda k, x: k.reshape(-1, *[1] * (x.ndim - 1))
  none = jax.tree.unflatten(treedef, [False] * len(befores))
  yes = lambda tree: jax.tree.map(lambda _: True, tree)
  is_point = jax.tree.leaves(links.map_points(yes, none))
  is_tangent = jax.tree.leaves(links.map_tangents(yes, none))

  def alone(before: Array, after: Array) -> Array:
    """What no or one device has moved, to the bit."""
    mine = total(jnp.where(wide(moved, after), after, 0))
    return jnp.where(wide(count == 0, before), before, mine)

  def change(before: Array, after: Array) -> Array:
    return before + total(after - before)

  def shared(before: Array, after: Array) -> Array:
    whole = jnp.issubdtype(after.dtype, jnp.integer)
    return change(before, after) if whole else jax.lax.pmean(after, axis)

  dense = jax.tree.map(change, old.dense, new.dense)
  table = alone(old.table, new.table)
  leaves = [
    (alone if r else change if p else shared)(*pair)
    for *pair, r, p in zip(befores, afters, is_row, is_point)
  ]

  # Rows that several have moved are few; the geometry is worked out for them alone.
  several = count > 1
  size = min(n, _MERGED)
  ids = jnp.nonzero(several, size=n + size, fill_value=n)[0].astype(jnp.int32)

  def together(block_rows: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
    i, table, leaves = block_rows
    at = jax.lax.dynamic_slice_in_dim(ids, i * size, size)
    take = lambda x: x.at[at].get(mode="clip")
    x, y, k, mine = map(take, (old.table, new.table, count, moved))

    def agreed(x: Array, y: Array) -> Array:
      v = jnp.where(wide(mine, y), m.log(x, y), 0)
      longest = jnp.maximum(jax.lax.pmax(m.norm(x, v), axis), _REACH)
      v = total(v)
      length = m.norm(x, v)
      v = v * wide(jnp.where(length > longest, longest / jnp.where(length > 0, length, 1), 1), v)
      return m.exp(x, v)

    def mean(after: Array) -> Array:
      return total(jnp.where(wide(mine, after), after, 0)) / wide(k, after).astype(after.dtype)

    z = agreed(x, y)
    put = lambda whole, rows: whole.at[at].set(rows, mode="drop")
    for j, (before, after) in enumerate(zip(befores, afters)):
      if is_row[j] and is_point[j]:
        leaves[j] = put(leaves[j], agreed(take(before), take(after)))
      elif is_row[j]:
        own = take(after)
        leaves[j] = put(leaves[j], mean(m.transport(y, z, own) if is_tangent[j] else own))
    return i + 1, put(table, z), leaves

  blocks = (jnp.sum(several, dtype=jnp.int32) + size - 1) // size
  start = jnp.zeros([], jnp.int32), table, leaves
  _, table, leaves = jax.lax.while_loop(lambda rows: rows[0] < blocks, together, start)
  return State(table, dense, jax.tree.unflatten(treedef, leaves), old.slot)
