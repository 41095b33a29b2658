"""Axis-aligned boxes ∏ [zᵢ, Zᵢ]: parametrisations, intersections, joins and pools.

Corners are [..., d]; leading axes broadcast. A box with zᵢ > Zᵢ in some dimension is empty to the
hard operations, and ordinary to the smooth ones: a Gumbel box's corners are the locations of
random ones.
Free parameters θ are [..., 2d] arrays or pairs of [..., d] arrays.
Source: [vilnis2018probabilistic]; Gumbel boxes from [dasgupta2020gumbel].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.typing import Array, Scalar


class Box(NamedTuple):
  """Boxes by their corners."""

  lower: Array  # z, [..., d]
  upper: Array  # Z, [..., d]


def side(box: Box) -> Array:
  """Side lengths Z − z, [..., d]; negative where the corners are in the wrong order."""
  return numerics.finite(box.upper - box.lower)


def center(box: Box) -> Array:
  """Centres (z + Z)/2, [..., d]."""
  return 0.5 * box.lower + 0.5 * box.upper


def _pair(theta: Array | tuple[Array, Array]) -> tuple[Array, Array]:
  """The two halves of free parameters, [..., d] each."""
  if isinstance(theta, tuple):
    return theta
  if theta.shape[-1] % 2:
    raise ValueError(
      f"the last axis of theta must be even (two numbers a dimension), got shape {theta.shape}"
    )
  return tuple(jnp.split(theta, 2, axis=-1))


def min_max(theta: Array | tuple[Array, Array]) -> Box:
  """The box with corners z = θ₁ and Z = θ₂, in whichever order they are."""
  return Box(*_pair(theta))


def min_max_inverse(box: Box) -> Array:
  """Free parameters of `min_max`, [..., 2d]."""
  return jnp.concatenate(box, axis=-1)


def min_side(theta: Array | tuple[Array, Array]) -> Box:
  """The box z = θ₁, Z = z + log(1 + exp θ₂): "min-delta" of [chheda2021box]."""
  z, v = _pair(theta)
  return Box(z, numerics.finite(z + jax.nn.softplus(v)))


def min_side_inverse(box: Box) -> Array:
  """Free parameters of `min_side`, [..., 2d]; sides of 0 or less become the least positive one."""
  return jnp.concatenate([box.lower, numerics.softplus_inverse(side(box))], axis=-1)


def center_offset(theta: Array | tuple[Array, Array]) -> Box:
  """The box θ₁ ∓ log(1 + exp θ₂) around its centre."""
  c, v = _pair(theta)
  offset = jax.nn.softplus(v)
  return Box(numerics.finite(c - offset), numerics.finite(c + offset))


def center_offset_inverse(box: Box) -> Array:
  """Free parameters of `center_offset`, [..., 2d]; as `min_side_inverse` for empty sides."""
  offset = numerics.softplus_inverse(0.5 * box.upper - 0.5 * box.lower)
  return jnp.concatenate([center(box), offset], axis=-1)


def unit_cube(theta: Array | tuple[Array, Array]) -> Box:
  """The box z = σ(θ₁), Z = z + σ(θ₂)(1 − z) in the unit cube: "sigmoid" of [chheda2021box]."""
  u, v = _pair(theta)
  z = jax.nn.sigmoid(u)
  return Box(z, z + jax.nn.sigmoid(v) * jax.nn.sigmoid(-u))


def unit_cube_inverse(box: Box) -> Array:
  """Free parameters of `unit_cube`, [..., 2d]; what touches a face or is empty is moved by 2^-126.

  2^-1022 in float64.
  """
  z, Z = box
  least = float(jnp.finfo(z.dtype).tiny)
  log = lambda x: jnp.log(jnp.where(x > least, x, least))
  return jnp.concatenate([log(z) - log(1 - z), log(side(box)) - log(1 - Z)], axis=-1)


def intersection(a: Box, b: Box) -> Box:
  """The box a ∧ b of the points in both, or an empty one [vilnis2018probabilistic]."""
  return Box(jnp.maximum(a.lower, b.lower), jnp.minimum(a.upper, b.upper))


def join(a: Box, b: Box) -> Box:
  """The smallest box a ∨ b around both [vilnis2018probabilistic]."""
  return Box(jnp.minimum(a.lower, b.lower), jnp.maximum(a.upper, b.upper))


def gumbel_intersection(a: Box, b: Box, *, temperature: Scalar) -> Box:
  """Locations of the intersection of Gumbel boxes of scale β = `temperature` [dasgupta2020gumbel].

  z = β log(exp(z_a/β) + exp(z_b/β)) and Z = −β log(exp(−Z_a/β) + exp(−Z_b/β)). It lies within the
  hard intersection, to the last digit, as the maximum is taken out first; the authors' code has to
  clip it.

  Args:
    a: boxes.
    b: boxes.
    temperature: β > 0, broadcast against [..., d].
  """
  corners = jnp.broadcast_arrays(a.lower, b.lower, a.upper, b.upper)
  beta = jnp.broadcast_to(jnp.asarray(temperature, a.lower.dtype), corners[0].shape)
  z_a, z_b, Z_a, Z_b = corners
  return Box(numerics.soft_max(z_a, z_b, beta), -numerics.soft_max(-Z_a, -Z_b, beta))


def intersection_pool(box: Box, *, axis: int = -2, mask: Array | None = None) -> Box:
  """The intersection of the boxes along `axis` [chheda2021box].

  Args:
    box: [..., n, d] for the default axis; a negative axis counts from the coordinates' axis −1.
    axis: the axis that goes.
    mask: True for the boxes that count, of the shape of the boxes without d. If none does, the
      result has the largest numbers for corners.
  """
  most = float(jnp.finfo(box.lower.dtype).max)
  keep = True if mask is None else mask[..., None]
  return Box(
    jnp.max(jnp.where(keep, box.lower, -most), axis=axis),
    jnp.min(jnp.where(keep, box.upper, most), axis=axis),
  )


def mean_pool(box: Box, *, axis: int = -2, weights: Array | None = None) -> Box:
  """The box of weighted mean corners along `axis`: "bag of boxes" of [chheda2021box].

  Args:
    box: [..., n, d] for the default axis.
    axis: the axis that goes.
    weights: ≥ 0, of the shape of the boxes without d; where all are 0 the corners are 0.
  """
  w = jnp.ones(box.lower.shape[:-1], box.lower.dtype) if weights is None else weights
  w = jnp.broadcast_to(w[..., None], box.lower.shape)
  top = jnp.max(w, axis=axis, keepdims=True)
  w = numerics.divide(w, jnp.where(top > 0, top, 1))  # at most 1, at least one of them 1 or all 0
  total = jnp.sum(w, axis=axis, keepdims=True)
  w = w / jnp.where(total > 0, total, 1)
  return Box(jnp.sum(w * box.lower, axis=axis), jnp.sum(w * box.upper, axis=axis))
