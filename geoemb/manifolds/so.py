"""Rotations SO(n): x [..., n, n] with xᵀx = I and det x = 1, metric ⟨u, v⟩ = tr uᵀv / 2.

Tangents are ambient, v = x A with A skew. The metric is bi-invariant, of non-negative curvature,
and its half makes the distance on SO(2) and SO(3) the angle, in radians; in general its square is
the sum of those of the angles. Leading axes broadcast; points are taken to be rotations. `c` has no
effect, as the curvature varies from plane to plane, and is there so that all geometries are called
alike.
Where a plane is turned by π there are several shortest geodesics, of which log is one.
Source: [edelman1998geometry] §2.2; logarithm for n = 3 by quaternions [shepperd1978quaternion].
"""

import functools
import math
import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base, matrix
from geoemb.manifolds.matrix import skew, tr
from geoemb.manifolds.spd import origin as origin  # the identity too
from geoemb.numerics import matmul as mm
from geoemb.typing import Array, Key, Scalar

POINT_NDIM = 2


def _rotation(a: Array) -> Array:
  """Exponential of skew a, [..., n, n]; Rodrigues' formula for n = 2 and 3."""
  if a.shape[-1] > 3:
    return matrix.expm(a)
  z = -0.5 * matrix.dot(a, a)  # −θ²
  first = numerics.sinh_root_over(z)
  second = 0.5 * jnp.square(numerics.sinh_root_over(0.25 * z))  # (1 − cos θ)/θ²
  return matrix.eye(a) + first[..., None, None] * a + second[..., None, None] * mm(a, a)


@jax.custom_jvp
def _log(x: Array, y: Array) -> Array:
  """Skew logarithm of xᵀy, [..., n, n]."""
  return matrix.log_rotation(mm(tr(x), y - x))[0]


@_log.defjvp
def _log_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """With R = exp A: RᵀdR = φ(ad_A) dA, φ(z) = (1 − e⁻ᶻ)/z, in an eigenbasis of −iA.

  There ad_A is i times a difference of angles; at ±2π, the cut locus, φ is 0, and so the answer.
  """
  (x, y), (dx, dy) = primals, tangents
  a = _log(x, y)
  r = mm(tr(x), y)
  turn = skew(mm(tr(r), mm(tr(dx), y) + mm(tr(x), dy)))
  w, q = jnp.linalg.eigh(jax.lax.complex(0 * a, -a), symmetrize_input=False)
  half = 0.5 * (w[..., :, None] - w[..., None, :])
  sinc = numerics.sin_over(half)
  some = sinc > numerics.eps(x.dtype)
  size = jnp.where(some, 1 / jnp.where(some, sinc, 1), 0)
  h = jnp.conj(tr(q))
  factor = jax.lax.complex(size * jnp.cos(half), size * jnp.sin(half))
  inside = mm(h, turn.astype(q.dtype), q) * factor
  return a, skew(jnp.real(mm(q, inside, h)))


_dist, _sqdist = matrix.distances(
  lambda x, y: matrix.log_rotation(mm(tr(x), y - x))[1], lambda x, y: -0.5 * mm(x, _log(x, y))
)


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]."""
  return 0.5 * matrix.inner(x, u, v)


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  return math.sqrt(0.5) * matrix.norm(u)


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1, 1]."""
  return inner(x, u, u, c=c)[..., None, None]


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...] in radians: the root of the angles' squares, each of a plane.

  From x − y, so accurate near 0, and near π; gradient 0 at x = y.
  """
  return _dist(x, y)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], twice differentiable at x = y, unlike dist²."""
  return _sqdist(x, y)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., n, n]; longer ones are cut to `limit`.

  And all to a length of 1024.
  """
  v = matrix.capped(v, functools.partial(norm, x), limit)
  return matrix.polish(mm(x, _rotation(skew(mm(tr(x), v)))))


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., n, n]; see above for half turns."""
  return mm(x, _log(x, y))


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v = x B from x to y, [..., n, n]: y Eᵀ B E with E = (xᵀy)^½.

  An isometry for every input.
  """
  e = _rotation(0.5 * _log(x, y))
  return mm(y, tr(e), skew(mm(tr(x), v)), e)


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The nearest rotation, [..., n, n]."""
  return matrix.polar(x, True)


def tangent(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent nearest to v, [..., n, n]: x times the skew part of xᵀv."""
  return mm(x, skew(mm(tr(x), v)))


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient x (xᵀg − gᵀx), [..., n, n]: twice the tangent part of g."""
  return mm(x, 2 * skew(mm(tr(x), numerics.bound(g, numerics.root_max(g.dtype)))))


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., n, n]; longer steps are cut to `limit`."""
  return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Cayley's transform x (I − A/2)⁻¹ (I + A/2), v = x A, [..., n, n]: exp to second order."""
  v = matrix.capped(v, functools.partial(norm, x))
  half = 0.5 * skew(mm(tr(x), v))
  one = matrix.eye(x)
  return matrix.polish(mm(x, jnp.linalg.solve(one - half, one + half)))


def random(
  key: Key,
  shape: tuple[int, ...],
  dim: int,
  *,
  scale: Scalar = 1e-3,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Uniform rotations, [*shape, dim, dim]; `scale` needs a chart and has no effect."""
  return matrix.polar(jax.random.normal(key, (*shape, dim, dim), dtype), True)


def injectivity_radius(*, c: Scalar = 1.0) -> Array:
  """The distance within which geodesics are shortest: π, a half turn of one plane."""
  return jnp.asarray(math.pi)


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., a, n, n] to y [..., b, n, n], [..., a, b], in blocks; exact as `dist`."""
  return matrix.pairwise(dist, x, y)


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to `c`, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
