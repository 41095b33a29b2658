"""Grassmann manifold: p-planes of ℝⁿ, each given by a frame x [..., n, p] with xᵀx = I.

x and x Q stand for one plane, for every orthogonal Q. Tangents at the frame x are horizontal,
xᵀv = 0, with ⟨u, v⟩ = tr uᵀv; at x Q the same tangent is v Q. The distance is the root of the sum
of the squared principal angles, in radians; sectional curvatures lie in [0, 2]. Leading axes
broadcast; points are taken to be frames. `c` has no effect, as the curvature varies from plane to
plane, and is there so that all geometries are called alike.
Where an angle is π/2 there are two shortest geodesics, and log is one of them.
Source: [edelman1998geometry] §2.5 and §4.3; logarithm from [bendokat2024grassmann] §5.2; angles by
sine and cosine [bjorck1973angles].
"""

import functools
import math
import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base, matrix
from geoemb.manifolds.matrix import tr
from geoemb.manifolds.stiefel import origin as origin
from geoemb.manifolds.stiefel import random as random
from geoemb.numerics import matmul as mm
from geoemb.typing import Array, Scalar

POINT_NDIM = 2


def _horizontal(x: Array, v: Array) -> Array:
  """The part of v that is a tangent at x, [..., n, p]."""
  return v - mm(x, mm(tr(x), v))


def _principal(x: Array, y: Array) -> tuple[Array, ...]:
  """Principal angles and vectors of two planes.

  Returns:
    θ [..., p] in radians; sin θ [..., p]; W, Z [..., p, p] with xᵀy = W cos θ Zᵀ; and S W [..., n,
    p], where S is the part of the frame y Z Wᵀ, the one of y's plane that is nearest to x, normal
    to x. Its columns are orthogonal and sin θ long. What is within rounding of the same plane is 0.
  """
  x, y = matrix.leading(x, y)
  w, cosine, zt = jnp.linalg.svd(mm(tr(x), y))
  z = tr(zt)
  s = _horizontal(x, _horizontal(x, mm(y, z)))  # twice, as x is orthonormal to rounding only
  sine = numerics.safe_norm(tr(s))
  floor = 4 * numerics.eps(x.dtype) * x.shape[-1] ** 0.5  # of rounding: entries are near 1
  some = matrix.norm(s) > floor
  sine = jnp.where(some[..., None], sine, 0)
  return numerics.atan2(sine, cosine), sine, w, z, jnp.where(some[..., None, None], s, 0)


@jax.custom_jvp
def _log(x: Array, y: Array) -> Array:
  """Velocity at x of the geodesic to y's plane, [..., n, p]."""
  angle, sine, w, _, s = _principal(x, y)
  ratio = jnp.where(sine > 0, angle / jnp.where(sine > 0, sine, 1), 1)
  return mm(s * ratio[..., None, :], tr(w))


@_log.defjvp
def _log_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """By Jacobi fields: dlog = −κ cot κ dx + κ/sin κ P dy in directions of curvature κ².

  With V = U θ Wᵀ these are u_i w_jᵀ ± u_j w_iᵀ, of κ = θ_i ∓ θ_j, and n w_jᵀ, of κ = θ_j, for n
  normal to x and U; P is the transport to x. The frame's own turns xᵀdx turn the tangent, too.
  """
  (x, y), (dx, dy) = primals, tangents
  v = _log(x, y)
  angle, sine, w, z, s = _principal(x, y)
  u = s / jnp.where(sine > 0, sine, 1)[..., None, :]  # 0 for angle 0: all κ are then θ_j
  x, y = matrix.leading(x, y)
  by_x = mm(_horizontal(x, dx), w)
  by_y = mm(_horizontal(y, dy), z)
  # transport along −V from y to x: the part along the geodesics' ends turns back to U
  end = u * jnp.cos(angle)[..., None, :] - mm(x, w) * jnp.sin(angle)[..., None, :]
  by_y = _horizontal(x, by_y + mm(u - end, tr(end), by_y))

  def field(f, e: Array) -> Array:
    inside = mm(tr(u), e)
    a, b = angle[..., :, None], angle[..., None, :]
    even, odd = 0.5 * (inside + tr(inside)), 0.5 * (inside - tr(inside))
    scaled = f(a - b) * even + f(a + b) * odd
    return mm(u, scaled) + (e - mm(u, inside)) * f(angle)[..., None, :]

  def by_sine(k: Array) -> Array:
    over = numerics.sin_over(k)
    some = over > numerics.eps(k.dtype)  # else conjugate: no derivative
    return jnp.where(some, 1 / jnp.where(some, over, 1), 0)

  total = field(by_sine, by_y) - field(lambda k: jnp.cos(k) * by_sine(k), by_x)
  turn = mm(v, mm(tr(x), dx)) - mm(x, mm(tr(dx), v))
  return v, mm(total, tr(w)) + turn


_dist, _sqdist = matrix.distances(
  lambda x, y: numerics.safe_norm(_principal(x, y)[0]), lambda x, y: -_log(x, y)
)


def angles(x: Array, y: Array) -> Array:
  """Principal angles, [..., p] in radians, rising; small ones by their sines, others by cosines.

  No derivative where two are equal; `dist` has one.
  """
  return _principal(x, y)[0]


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]."""
  return matrix.inner(x, u, v)


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  return matrix.norm(u)


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1, 1]."""
  return inner(x, u, u, c=c)[..., None, None]


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...]: the root of the squared principal angles' sum.

  Planes within rounding, 4√p eps, are at distance 0 with gradient 0.
  """
  return _dist(x, y)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], twice differentiable at equal planes, unlike dist²."""
  return _sqdist(x, y)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., n, p]; longer ones are cut to `limit`.

  And all to a length of 1024.
  """
  v = matrix.capped(_horizontal(x, v), functools.partial(norm, x), limit)
  return matrix.rotate_frame(x, _zero(v), v)


def _zero(v: Array) -> Array:
  return jnp.zeros((*v.shape[:-2], v.shape[-1], v.shape[-1]), v.dtype)


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to the plane of y, [..., n, p]."""
  return _log(x, y)


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., n, p] [edelman1998geometry] eq. 2.68.

  The geodesic's own rotation of ℝⁿ takes v to a tangent at the frame in which the geodesic arrives;
  it is turned to the frame y.
  """
  to = _log(x, y)
  moved = matrix.rotate(x, _zero(to), to, _horizontal(x, v))
  arrival = matrix.rotate_frame(x, _zero(to), to)
  return _horizontal(y, mm(moved, mm(tr(arrival), y)))


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The nearest frame, [..., n, p]."""
  return matrix.polar(x)


def tangent(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The horizontal part of v, [..., n, p]."""
  return _horizontal(x, v)


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """The horizontal part of g, [..., n, p]."""
  return _horizontal(x, numerics.bound(g, numerics.root_max(g.dtype)))


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., n, p]; longer steps are cut to `limit`."""
  return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The frame of x + v by QR with a positive diagonal, [..., n, p]; v up to 100 long."""
  return matrix.qr_step(x, _horizontal(x, v))


def injectivity_radius(*, c: Scalar = 1.0) -> Array:
  """The distance within which geodesics are shortest: π/2, one angle."""
  return jnp.asarray(math.pi / 2)


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., a, n, p] to y [..., b, n, p], [..., a, b], in blocks; exact as `dist`."""
  return matrix.pairwise(dist, x, y)


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to `c`, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
