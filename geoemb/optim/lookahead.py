"""Lookahead [zhang2019lookahead] on a manifold: slow points that follow fast ones by geodesics."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from geoemb.manifolds import Manifold
from geoemb.optim import links
from geoemb.optim.links import LookaheadState
from geoemb.typing import Array, PyTree, Scalar


def lookahead(
  tx: optax.GradientTransformation, m: Manifold, *, every: int = 5, share: Scalar = 0.5
) -> optax.GradientTransformationExtraArgs:
  """Steps of tx, and after every k-th one back along the geodesic: φ ← geodesic(φ, x, α), x ← φ.

  Tangents in the state of tx are transported along. The slow points are `state.slow`.
  With `rows.update` a row goes back at those k-th steps that touch it, to its own slow point.

  Args:
    tx: a transformation of points on m, such as `radam.radam`.
    m: the manifold all of `params` lie on; for trees only partly on it see `mixed.mixed`.
    every: k.
    share: α of the way that the slow points go.

  Raises:
    ValueError: every is not positive.
  """
  if every < 1:
    raise ValueError(f"every counts steps and is at least 1, got {every}")

  tx = optax.with_extra_args_support(tx)

  def init(x: PyTree) -> LookaheadState:
    # A copy: the points themselves may be donated to the step.
    return LookaheadState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.copy, x), tx.init(x))

  def toward(a: Array, b: Array) -> Array:
    return m.proj(m.geodesic(a, b, share))

  def update(
    g: PyTree, state: LookaheadState, params: PyTree | None = None, **extra: Any
  ) -> tuple[PyTree, LookaheadState]:
    if params is None:
      raise ValueError("a Riemannian step needs params: update(grads, state, params)")
    steps, fast = tx.update(g, state.fast, params, **extra)
    count = optax.safe_increment(state.count)

    def back() -> tuple[PyTree, LookaheadState]:
      y = optax.apply_updates(params, steps)
      slow = jax.tree.map(toward, state.slow, y)
      moved = LookaheadState(count, slow, links.carry(m, fast, y, slow))
      return jax.tree.map(m.displacement, params, slow), moved

    def on() -> tuple[PyTree, LookaheadState]:
      return steps, LookaheadState(count, state.slow, fast)

    return jax.lax.cond(count % every == 0, back, on)

  return optax.GradientTransformationExtraArgs(init, update)
