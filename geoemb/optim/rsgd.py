"""Riemannian SGD [bonnabel2013rsgd] eq. 2: x ← exp_x(−η grad f(x))."""

from typing import Literal

import optax

from geoemb.manifolds import Manifold, euclidean
from geoemb.optim import links
from geoemb.typing import Scalar


def rsgd(
  learning_rate: optax.ScalarOrSchedule,
  m: Manifold,
  *,
  momentum: float | None = None,
  nesterov: bool = False,
  max_grad: Scalar | None = None,
  max_grad_norm: Literal["riemannian", "chart"] = "riemannian",
  max_step: Scalar | None = None,
  move: Literal["exp", "retract"] = "exp",
) -> optax.GradientTransformation:
  """Riemannian SGD; every clip is per row.

  Args:
    learning_rate: η, a number or a schedule such as `schedules.burn_in`.
    m: the manifold.
    momentum: μ of the heavy ball v ← μ v + grad; v is transported along each step.
    nesterov: take grad + μ v instead of v.
    max_grad: longest gradient, before momentum.
    max_grad_norm: how that is measured, see `links.clip_norm`.
    max_step: longest step η v, in the metric.
    move: follow the geodesic, or the cheaper retraction of `m`.
  """
  if max_grad is None and momentum is None and move == "exp" and m.ops is not euclidean:
    return links.descent(learning_rate, m, max_step=max_step)
  chain = []
  if max_grad is not None:
    chain.append(links.clip_norm(m, max_grad, norm=max_grad_norm))
  if momentum is not None:
    chain.append(optax.trace(momentum, nesterov))
  chain.append(optax.scale_by_learning_rate(learning_rate))
  return links.riemannian(m, *chain, move=move, max_step=max_step)
