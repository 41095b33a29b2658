"""Regularisers that make codes sparse, and what a sparse code costs in search [paria2020flops].

An inverted index multiplies as often as a query's and a document's active coordinates coincide: if
coordinate j is active with probability p_j, Σ_j p_j² times a document. Its relaxation has mean
absolute values in place of p_j; unlike ℓ₁ it prefers coordinates that are active equally often.
"""

import jax.numpy as jnp

from geoemb.typing import Array, Scalar


def flops(z: Array) -> Array:
  """Σ_j (mean_i |z_ij|)² of codes z [b, h], []: the relaxation [paria2020flops] §3."""
  return jnp.sum(jnp.mean(jnp.abs(z), axis=0) ** 2)


def l1(z: Array) -> Array:
  """Σ_j mean_i |z_ij| of codes z [b, h], []."""
  return jnp.sum(jnp.mean(jnp.abs(z), axis=0))


def expected_flops(z: Array) -> Array:
  """Σ_j p_j², []: multiplications a document if queries are like documents."""
  return jnp.sum(_active(z) ** 2)


def imbalance(z: Array) -> Array:
  """The ratio h Σ p_j² / (Σ p_j)², []: 1 if all h coordinates are equally active, h if one is.

  Of no active coordinate at all it is 1.
  """
  p = _active(z)
  total = jnp.sum(p) ** 2
  ratio = z.shape[-1] * jnp.sum(p**2) / jnp.where(total > 0, total, 1)
  return jnp.where(total > 0, ratio, 1)


def ramp(step: Array, steps: Scalar) -> Array:
  """min(1, (step/steps)²), []: what a regulariser's weight rises with, lest codes die early."""
  return jnp.minimum(1, (step / steps) ** 2)


def _active(z):
  return jnp.mean((z != 0).astype(z.dtype), axis=0)
