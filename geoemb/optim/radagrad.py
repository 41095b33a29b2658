"""Riemannian Adagrad [becigneul2019radam] §3, after [duchi2011adagrad]."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from geoemb.manifolds import Manifold, euclidean
from geoemb.optim import links
from geoemb.typing import PyTree, Scalar


def scale_by_radagrad(
  m: Manifold, *, initial: float = 0.1, eps: float = 1e-7
) -> optax.GradientTransformation:
  """g_t / √(Σ_s ‖g_s‖² + ε) for tangents at `params`; a link for `links.riemannian`.

  The sum is over all steps and by factor of the manifold: one number a point on curved space, one
  a coordinate on flat space, where this is optax.scale_by_rss bit for bit. Its state is
  optax.ScaleByRssState, and has no tangents.

  Args:
    m: the manifold.
    initial: what the sum starts from, ≥ 0.
    eps: ε, under the root.
  """
  square = m.component_inner if m.ops is not euclidean else lambda x, g: g * g

  def init(x: PyTree) -> optax.ScaleByRssState:
    return optax.ScaleByRssState(
      jax.tree.map(lambda x: jnp.full_like(m.component_inner(x, x), initial), x)
    )

  def update(
    g: PyTree, state: optax.ScaleByRssState, x: PyTree | None = None
  ) -> tuple[PyTree, optax.ScaleByRssState]:
    total = jax.tree.map(lambda x, g, s: square(x, g) + s, x, g, state.sum_of_squares)
    scale = jax.tree.map(
      lambda s: jnp.where(s > 0, jax.lax.rsqrt(jnp.where(s > 0, s + eps, 1)), 0), total
    )
    return jax.tree.map(jnp.multiply, scale, g), optax.ScaleByRssState(total)

  return optax.GradientTransformation(init, update)


def radagrad(
  learning_rate: optax.ScalarOrSchedule,
  m: Manifold,
  *,
  initial: float = 0.1,
  eps: float = 1e-7,
  weight_decay: Scalar = 0.0,
  max_step: Scalar | None = None,
  move: Literal["exp", "retract"] = "exp",
) -> optax.GradientTransformation:
  """Riemannian Adagrad.

  Args:
    learning_rate: η, a number or a schedule.
    m: the manifold.
    initial: what the sum of squares starts from, ≥ 0.
    eps: ε, under the root.
    weight_decay: λ of `links.add_decay`.
    max_step: longest step, in the metric.
    move: follow the geodesic, or the cheaper retraction of `m`.
  """
  scaling = scale_by_radagrad(m, initial=initial, eps=eps)
  return links.adaptive(
    m, scaling, learning_rate, weight_decay=weight_decay, move=move, max_step=max_step
  )
