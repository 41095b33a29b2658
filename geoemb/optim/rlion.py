"""Lion [chen2023lion] and signum [bernstein2018signsgd] with a sign that no chart decides.

The sign of a coordinate depends on the chart. What it does on a line does not: it makes the unit
vector of a direction. So the sign of a tangent is taken here to be its unit vector, by irreducible
factor of the manifold: one of length 1 in the metric on curved space; on flat space, a product of
lines, the coordinates' signs.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from geoemb.manifolds import Manifold, euclidean
from geoemb.optim import links
from geoemb.typing import Array, PyTree, Scalar


def sign(m: Manifold, x: Array, v: Array) -> Array:
  """The tangent v at x with every irreducible factor of length 1, or 0 where it was 0, [..., d]."""
  if m.ops is euclidean:
    return jnp.sign(v)
  length = m.wide(m.norm(x, v))  # which neither overflows nor underflows, as squares do
  u = v / jnp.where(length > 0, length, 1)
  share = jnp.sqrt(m.component_inner(x, u))
  return jnp.where((length > 0) & (share > 0), u / jnp.where(share > 0, share, 1), 0)


def scale_by_rlion(
  m: Manifold, *, b1: float = 0.9, b2: float = 0.99
) -> optax.GradientTransformation:
  """The `sign` of (1 − β₁) g_t + β₁ m_{t−1} for tangents at `params`, m averaging at rate β₂.

  A link for `links.riemannian`, with optax's state. On flat space it is optax.scale_by_lion.

  Args:
    m: the manifold.
    b1: β₁, how much of the step is momentum.
    b2: β₂, decay of the momentum; signum is b1 = b2.
  """

  def init(x: PyTree) -> optax.ScaleByLionState:
    return optax.ScaleByLionState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, x))

  def update(
    g: PyTree, state: optax.ScaleByLionState, x: PyTree | None = None
  ) -> tuple[PyTree, optax.ScaleByLionState]:
    v = jax.tree.map(lambda x, g, mu: sign(m, x, (1 - b1) * g + b1 * mu), x, g, state.mu)
    mu = optax.tree.update_moment(g, state.mu, b2, 1)
    return v, optax.ScaleByLionState(optax.safe_increment(state.count), mu)

  return optax.GradientTransformation(init, update)


def rlion(
  learning_rate: optax.ScalarOrSchedule,
  m: Manifold,
  *,
  b1: float = 0.9,
  b2: float = 0.99,
  weight_decay: Scalar = 0.0,
  max_step: Scalar | None = None,
  move: Literal["exp", "retract"] = "exp",
) -> optax.GradientTransformation:
  """Lion by steps of length η; momentum is transported along each.

  Args:
    learning_rate: η, a number or a schedule.
    m: the manifold.
    b1: how much of the step is momentum.
    b2: decay of the momentum; signum is b1 = b2.
    weight_decay: λ of `links.add_decay`.
    max_step: longest step, in the metric.
    move: follow the geodesic, or the cheaper retraction of `m`.
  """
  scaling = scale_by_rlion(m, b1=b1, b2=b2)
  return links.adaptive(
    m, scaling, learning_rate, weight_decay=weight_decay, move=move, max_step=max_step
  )
