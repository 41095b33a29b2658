"""Uniform distributions: on the sphere, and on geodesic balls of hyperbolic and flat space.

Curvature is K = c on the sphere and −c in the balls, which are those of the hyperbolic charts,
`stereographic` at c ≥ 0 and `euclidean`.
"""

import jax
import jax.numpy as jnp

from geoemb.distributions import radial
from geoemb.manifolds import Manifold, sphere
from geoemb.typing import Array, Key, Scalar


def sphere_sample(
  key: Key,
  shape: tuple[int, ...],
  dim: int,
  *,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Points on the sphere of radius 1/√c, [*shape, dim + 1]."""
  return sphere.random(key, shape, dim, c=c, dtype=dtype)


def sphere_log_prob(x: Array, *, c: Scalar = 1.0) -> Array:
  """Log-density by Riemannian volume, [...], in nats: less the log-area of the sphere."""
  dim = x.shape[-1] - 1
  value = 0.5 * dim * jnp.log(jnp.asarray(c, x.dtype)) - radial.log_area(dim)
  return jnp.broadcast_to(value, x.shape[:-1])


def ball_log_volume(radius: Array, dim: int, *, c: Scalar = 1.0) -> Array:
  """Log-volume of balls of radius [...] > 0 in hyperbolic space, flat for c = 0, [...].

  The logarithm of ω ∫ s(r)^(d−1) dr, ω the area of the unit sphere and s(r) = sinh(√c r)/√c, by 64
  nodes on the part of [0, radius] that counts: from the surface inwards the integrand falls faster
  than e^(−y (d − 1) s'/s), so the depth y where that is e^−40 is deep enough.
  """
  radius = jnp.asarray(radius)
  k = jnp.asarray(c, radius.dtype)
  depth = radius
  if dim > 1:
    enough = 40 / ((dim - 1) * radial.log_sine_slope(radius, k))
    depth = jnp.where(enough < radius, enough, radius)
  t, log_w = (jnp.asarray(a, radius.dtype) for a in radial.quadrature())
  # over the value at the surface, whose size would drown the differences
  surface = radial.log_sine(radius, k)
  share = radial.log_sine(radius[..., None] - depth[..., None] * t, k) - surface[..., None]
  inner = jax.nn.logsumexp((dim - 1) * share + log_w, axis=-1)
  return radial.log_area(dim - 1) + (dim - 1) * surface + jnp.log(depth) + inner


def ball_sample(
  key: Key, m: Manifold, center: Array, radius: Scalar, shape: tuple[int, ...] = ()
) -> Array:
  """Points within `radius` of `center` [..., point], [*shape, ..., point].

  Radii are exact: proposed with the exponential tangent of s(r)^(d−1) at the surface, they are
  accepted with what s falls short by. With derivatives by the center only.

  Raises:
    ValueError: the manifold is the sphere.
  """
  dim = _check(m, center)
  k = jax.lax.stop_gradient(m.bend(center.dtype))
  radius = jax.lax.stop_gradient(jnp.asarray(radius, center.dtype))
  batch = jnp.broadcast_shapes(center.shape[:-1], radius.shape)
  top = jnp.broadcast_to(radius, (*shape, *batch))
  key_r, key_n = jax.random.split(key)

  def draw(key: Key) -> tuple[Array, Array]:
    u = jax.random.uniform(key, top.shape, top.dtype)
    if dim == 1:
      return u * top, jnp.zeros_like(top)
    slope = (dim - 1) * radial.log_sine_slope(top, k)
    r = top + jnp.log1p(u * jnp.expm1(-slope * top)) / slope
    inside = r > 0
    gap = (dim - 1) * radial.tangent_gap(jnp.where(inside, r, top), top, k)
    return r, jnp.where(r <= 0, -jnp.inf, gap)

  r = radial.accepted(key_r, top, draw)
  w = r[..., None] * radial.direction(key_n, top.shape, dim, top.dtype)
  center = jnp.broadcast_to(center, (*batch, center.shape[-1]))
  return m.exp(center, m.from_frame(center, w))


def ball_log_prob(m: Manifold, x: Array, center: Array, radius: Scalar) -> Array:
  """Log-density by Riemannian volume, [...], in nats; −inf outside, with gradient 0 by x.

  Raises:
    ValueError: the manifold is the sphere.
  """
  dim = _check(m, center)
  radius = jnp.asarray(radius, center.dtype)
  inside = m.dist(center, x) <= radius
  log_volume = ball_log_volume(radius, dim, c=m.bend(center.dtype))
  return jnp.where(inside, -log_volume, -jnp.inf)


def _check(m: Manifold, x: Array) -> int:
  if m.sign == 1:
    raise ValueError("balls are of hyperbolic or flat space, got the sphere")
  return m.dimension(x)
