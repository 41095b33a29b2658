"""Sphere of radius 1/√c in ℝ^{d+1}: points x with c‖x‖² = 1, sectional curvature K = c > 0.

Points are ambient, [..., d + 1] for dimension d; tangents v at x are ambient with x·v = 0.
Leading axes broadcast. `c` may be traced, so it can be learned.
At antipodes, where the geodesic is not unique, log is 0 and the gradient of dist is 0.
"""

import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base
from geoemb.typing import Array, Key, Scalar


def _point(x: Array, c: Array) -> Array:
  """The point x with entries up to 2/√c: on the sphere they are at most 1/√c."""
  return numerics.bound(x, 2 / jnp.sqrt(c))


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]."""
  limit = numerics.root_max(u.dtype, u.shape[-1])
  uv = jnp.sum(numerics.bound(u, limit) * numerics.bound(v, limit), axis=-1)
  return jnp.broadcast_to(uv, jnp.broadcast_shapes(x.shape[:-1], uv.shape))


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  return numerics.safe_norm(u)


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1]."""
  return inner(x, u, u, c=c)[..., None]


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...]: (2/√c) atan2(‖x − y‖, ‖x + y‖), accurate at 0 and at antipodes."""
  c = jnp.asarray(c, x.dtype)
  x, y = _point(x, c), _point(y, c)
  return 2 / jnp.sqrt(c) * numerics.atan2(numerics.safe_norm(x - y), numerics.safe_norm(x + y))


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist².

  Below an angle of 60° by arcsin² of the share of ‖x − y‖² in it and ‖x + y‖².
  """
  c = jnp.asarray(c, x.dtype)
  a, b = _point(x, c), _point(y, c)
  chord, rest = (jnp.sum(jnp.square(z), axis=-1) for z in (a - b, a + b))
  total = chord + rest
  square = chord / jnp.where(total > 0, total, 1)  # sin² of half the angle
  near = square < 0.25
  square = jnp.where(near, square, 0)
  far = jnp.where(near[..., None], -x, y)  # where dist has a derivative
  by_series = 4 / c * square * jnp.square(numerics.asinh_root_over(-square))
  return jnp.where(near, by_series, jnp.square(dist(x, far, c=c)))


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., d + 1]; longer ones are cut to `limit`."""
  c = jnp.asarray(c, x.dtype)
  v = v if limit is None else numerics.shorten(v, norm(x, v, c=c), limit)
  x, v = _point(x, c), numerics.bound(v, numerics.root_max(v.dtype))
  length = jnp.sqrt(c) * numerics.safe_norm(v)[..., None]
  return proj(jnp.cos(length) * x + numerics.sin_over(length) * v, c=c)


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., d + 1]; 0 at the antipode."""
  c = jnp.asarray(c, x.dtype)
  x, y = _point(x, c), _point(y, c)
  delta = y - x
  n = numerics.safe_norm(delta)
  # y's part normal to x is y − c(x·y)x; with x·(y−x) = −‖y−x‖²/2 nothing cancels near x = y. Of a
  # short one, what the rounding of x and y leaves along x is not little.
  u = egrad2rgrad(x, delta + (0.5 * c * n * n)[..., None] * x, c=c)
  half = 0.5 * jnp.sqrt(c) * n  # the sine of half the angle
  near = half < 0.5
  half = jnp.where(near, half, 0)
  by_series = numerics.asin_over(half) / jnp.sqrt(1 - half * half)  # angle over its sine
  # beyond, the sine is measured, as it is all that is known near the antipode
  length = numerics.safe_norm(u)
  far = ~near & (jnp.sqrt(c) * length > numerics.eps(x.dtype))  # else u is rounding noise
  by_length = numerics.divide(dist(x, y, c=c), jnp.where(far, length, 1))
  return jnp.where(near, by_series, jnp.where(far, by_length, 0))[..., None] * u


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., d + 1]; v itself at the antipode.

  The reflection v − 2ŵ(ŵ·v) in the bisector w = x + y: it takes x to −y, turns the geodesic's
  direction at x into the one at y, and fixes the rest. An isometry to rounding for every tangent.
  """
  c = jnp.asarray(c, x.dtype)
  x, y = _point(x, c), _point(y, c)
  w = x + y
  some = jnp.sqrt(c) * numerics.safe_norm(w) > numerics.eps(w.dtype)  # else w is rounding noise
  w = numerics.unit(jnp.where(some[..., None], w, 0))
  turned = v - 2 * numerics.dot(w, v)[..., None] * w
  return egrad2rgrad(y, turned, c=c)  # near the antipode w is uncertain


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The multiple of x of length 1/√c, [..., d + 1]; the pole for x = 0."""
  c = jnp.asarray(c, x.dtype)
  pole = origin(x.shape[:-1], x.shape[-1] - 1, x.dtype, c=c)
  length = numerics.safe_norm(x)[..., None]
  return jnp.where(length > 0, numerics.unit(x) / jnp.sqrt(c), pole)


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """The part of g that is tangent at x, [..., d + 1]."""
  c = jnp.asarray(c, x.dtype)
  x = _point(x, c)
  return g - c * jnp.sum(x * g, axis=-1, keepdims=True) * x


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d + 1]; longer steps are cut to `limit`."""
  return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point x + v scaled back to the sphere, [..., d + 1]."""
  return proj(x + v, c=c)


def random(
  key: Key,
  shape: tuple[int, ...],
  dim: int,
  *,
  scale: Scalar = 1e-3,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Points uniform on the sphere, [*shape, dim + 1]; `scale` needs a chart and has no effect."""
  return proj(jax.random.normal(key, (*shape, dim + 1), dtype), c=c)


def origin(
  shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Scalar = 1.0
) -> Array:
  """The pole (1/√c, 0, …, 0), [*shape, dim + 1]."""
  c = jnp.asarray(c, dtype)
  return jnp.zeros((*shape, dim + 1), dtype).at[..., 0].set(1 / jnp.sqrt(c))


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, d + 1] to y [..., m, d + 1], [..., n, m], from x·y.

  Angles below about 2√eps, and angles that close to π, count as 0 and π, with gradient 0.
  """
  c = jnp.asarray(c, x.dtype)
  cosine = c * numerics.dots(_point(x, c), _point(y, c))
  end = 1 - numerics.noise(x.dtype)
  cosine = jnp.where(jnp.abs(cosine) > end, jnp.sign(cosine), cosine)
  return numerics.arccos(cosine) / jnp.sqrt(c)


def pairwise_affinity(x: Array, y: Array, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m]."""
  return jnp.exp(-pairwise(x, y, c=c))


def query(x: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] with inner product −x·y. Resolves angles to about √eps."""
  return -x


def key(y: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] for `query`."""
  return y


def tangent(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent nearest to the ambient vector v, [..., d + 1]: v less its part along x."""
  n = numerics.unit(x)
  return v - numerics.dot(n, v)[..., None] * n


def injectivity_radius(*, c: Scalar = 1.0) -> Array:
  """The distance within which geodesics are shortest: π/√c."""
  return jnp.pi / jnp.sqrt(jnp.asarray(c))


RULE = "c‖x‖² = 1"


def broken(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where RULE does not hold but for rounding, 16 eps, [...] bool."""
  c = jnp.asarray(c, x.dtype)
  return ~(jnp.abs(jnp.sqrt(c) * numerics.safe_norm(x) - 1) < 16 * numerics.eps(x.dtype))


SIGN = 1  # of the sectional curvature


def from_frame(w: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent at the pole, [..., d + 1], of coordinates w [..., d] in an orthonormal frame."""
  return jnp.concatenate([jnp.zeros_like(w[..., :1]), w], axis=-1)


def to_frame(v: Array, *, c: Scalar = 1.0) -> Array:
  """Coordinates in that frame of the tangent v at the pole, [..., d]."""
  return v[..., 1:]


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
