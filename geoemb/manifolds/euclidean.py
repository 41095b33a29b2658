"""Flat space ℝ^d, K = 0; `c` has no effect and is there so that all geometries are called alike.

Points and tangents are [..., d]; leading axes broadcast.
"""

import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base
from geoemb.typing import Array, Key, Scalar


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]."""
  limit = numerics.root_max(u.dtype, u.shape[-1])
  uv = jnp.sum(numerics.bound(u, limit) * numerics.bound(v, limit), axis=-1)
  return jnp.broadcast_to(uv, jnp.broadcast_shapes(x.shape[:-1], uv.shape))


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  return numerics.safe_norm(u)


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squares of the coordinates, [..., d]: ℝ^d is a product of d lines, so RAdam here is Adam."""
  u = numerics.bound(u, numerics.root_max(u.dtype))
  return u * u


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distance ‖x − y‖, [...]; its gradient is 0 at x = y."""
  return numerics.safe_norm(x - y)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared distance ‖x − y‖², [...]."""
  delta = numerics.bound(x - y, numerics.root_max(x.dtype, x.shape[-1]))
  return jnp.sum(delta * delta, axis=-1)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """The point x + v, [..., d], with tangents longer than `limit` shortened to it."""
  return x + (v if limit is None else numerics.shorten(v, norm(x, v), limit))


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """The difference y − x, [..., d]."""
  return y - x


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The vector v itself, [..., d]."""
  return jnp.broadcast_to(v, jnp.broadcast_shapes(x.shape, y.shape, v.shape))


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point x itself, [..., d]."""
  return x


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """The gradient g itself, [..., d]."""
  return jnp.broadcast_to(g, jnp.broadcast_shapes(x.shape, g.shape))


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d]; longer steps are cut to `limit`."""
  return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point x + v, [..., d]."""
  return x + v


def random(
  key: Key,
  shape: tuple[int, ...],
  dim: int,
  *,
  scale: Scalar = 1e-3,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Points uniform in [−scale, scale] per coordinate, [*shape, dim]."""
  return scale * jax.random.uniform(key, (*shape, dim), dtype, minval=-1, maxval=1)


def origin(
  shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Scalar = 1.0
) -> Array:
  """Zeros, [*shape, dim]."""
  return jnp.zeros((*shape, dim), dtype)


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, d] to y [..., m, d], [..., n, m], from ‖x‖² + ‖y‖² − 2x·y.

  The square has an absolute error of a few eps·(‖x‖² + ‖y‖²): below that, pairs count as
  coincident, at distance 0 with gradient 0. `dist` has no such floor.
  """
  x, y = (numerics.bound(z, numerics.root_max(z.dtype, z.shape[-1])) for z in (x, y))
  xx, yy = jnp.sum(x * x, axis=-1)[..., :, None], jnp.sum(y * y, axis=-1)[..., None, :]
  square = xx + yy - 2 * numerics.dots(x, y)
  return numerics.safe_sqrt(square, numerics.noise(x.dtype) * (xx + yy))


def pairwise_affinity(x: Array, y: Array, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m]."""
  return jnp.exp(-pairwise(x, y, c=c))


def query(x: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] with inner product ‖y‖²/2 − x·y: half the square less ‖x‖²/2.

  Resolves squared distances to about eps·(‖x‖² + ‖y‖²).
  """
  return jnp.concatenate([-x, jnp.ones_like(x[..., :1])], axis=-1)


def key(y: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] for `query`."""
  y = numerics.bound(y, numerics.root_max(y.dtype, y.shape[-1]))
  return jnp.concatenate([y, 0.5 * jnp.sum(y * y, axis=-1, keepdims=True)], axis=-1)


def log_volume(x: Array, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the volume element, [...]: 0."""
  return jnp.zeros_like(x[..., 0])


SIGN = 0  # of the sectional curvature


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
