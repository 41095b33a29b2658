"""Losses that ask the positive to be nearer than sampled negatives."""

import jax
import jax.numpy as jnp

from geoemb.typing import Array


def softmax_ranking(d_pos: Array, d_neg: Array) -> Array:
  """−log probability that the positive is the nearest, [...], in nats.

  ℓ = d⁺ + log(exp(−d⁺) + Σ_j exp(−d_j))              [nickel2017poincare] eq. 6

  Args:
    d_pos: [...] distance to the positive.
    d_neg: [..., k] distances to k negatives; +inf masks a slot.
  """
  gap = d_pos[..., None] - d_neg
  top = jax.lax.stop_gradient(jnp.max(gap, axis=-1, initial=0))
  # ℓ = log(1 + Σ e^gap), scaled by e^−top. By log1p of what is added to 1: as ℓ → 0 the sum
  # itself, and before it d⁺ in the equation as printed, would round ℓ away.
  rest = jnp.expm1(-top) + jnp.sum(jnp.exp(gap - top[..., None]), axis=-1)
  return top + jnp.log1p(rest)


def softmax_ranking_affinity(d_pos: Array, a_neg: Array) -> Array:
  """`softmax_ranking` from affinities a_j = exp(−d_j), [...]: ℓ = log(1 + e^{d⁺} Σ_j a_j).

  Hyperbolic affinities are algebraic in inner products (`pairwise_affinity`), so a step takes two
  logarithms per example instead of an exp, a log and an arsinh per negative.

  Args:
    d_pos: [...] distance to the positive.
    a_neg: [..., k] affinities to k negatives; 0 masks a slot. Where all of them underflow (beyond
      a distance of 87 in float32) the loss and its gradient are 0.
  """
  total = jnp.sum(a_neg, axis=-1)
  some = total >= float(jnp.finfo(total.dtype).tiny)  # the inverse of less may overflow
  return jnp.where(some, jax.nn.softplus(d_pos + jnp.log(jnp.where(some, total, 1))), 0)
