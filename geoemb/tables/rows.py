"""Row-sparse training: a step reads and writes only the table rows that its batch touches.

Works with every optax transformation whose links act on rows independently: optimizer state that
has a row per table row is gathered and written back with it, the rest (step counts) is shared.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from geoemb.typing import Array, PyTree


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
