"""Symmetric positive definite matrices with the log-Euclidean metric: flat in log x.

Points x and tangents v are [..., n, n], tangents symmetric. The matrix logarithm is an isometry to
the symmetric matrices with the Frobenius norm, ⟨u, v⟩ = tr dlog_x(u) dlog_x(v); rotations, scalings
and inversion keep distances, other congruences do not. `c` has no effect, as the space is flat, and
is there so that all geometries are called alike.
Points are as in `spd`, whose `proj` they share; eigenvalues below eps of the largest count as that.
Source: [arsigny2007geometric] §3.
"""

import math
import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base, matrix, spd
from geoemb.manifolds.matrix import sym
from geoemb.manifolds.spd import origin as origin
from geoemb.manifolds.spd import random as random
from geoemb.typing import Array, Scalar

POINT_NDIM = 2


def _flat(x: Array) -> Array:
  """The logarithm of x, [..., n, n]."""
  return matrix.log_spd(numerics.bound(sym(x), numerics.root_max(x.dtype)))


def _tangent(v: Array) -> Array:
  """The symmetric part of v with entries up to √(largest number)/16."""
  return numerics.bound(sym(v), numerics.root_max(v.dtype))


def _point(s: Array) -> Array:
  """The exponential of s, [..., n, n], for s up to log(√(largest number)/16) long."""
  s = matrix.shorten(s, matrix.norm(s), math.log(numerics.root_max(s.dtype)))
  return spd.proj(matrix.exp_sym(sym(s)))


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]."""
  s = _flat(x)
  return matrix.inner(x, *(matrix.slope_log(s, _tangent(t)) for t in (u, v)))


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  return matrix.norm(matrix.slope_log(_flat(x), _tangent(u)))


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1, 1]: one moment a point, so rotations change nothing."""
  return inner(x, u, u, c=c)[..., None, None]


def _difference(x: Array, y: Array) -> Array:
  """The difference log y − log x, [..., n, n]; exactly 0 at x = y."""
  same = jnp.all(x == y, axis=(-2, -1), keepdims=True)
  delta = _flat(y) - _flat(x)
  return delta - jax.lax.stop_gradient(jnp.where(same, delta, 0))  # its derivatives stay


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance ‖log x − log y‖, [...]; its gradient is 0 at x = y.

  The logarithms are rounded: the error is a few eps of their size, however close the points.
  """
  return matrix.norm(_difference(x, y))


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], twice differentiable everywhere, unlike dist²."""
  delta = _difference(x, y)
  return matrix.dot(delta, delta)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., n, n]; longer ones are cut to `limit`."""
  s = _flat(x)
  u = matrix.slope_log(s, _tangent(v))
  return _point(s + (u if limit is None else matrix.shorten(u, matrix.norm(u), limit)))


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., n, n]."""
  return matrix.slope_exp(_flat(x), _difference(x, y))


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., n, n]; in the flat chart it is the identity."""
  return matrix.slope_exp(_flat(y), matrix.slope_log(_flat(x), _tangent(v)))


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The symmetric part of x with its eigenvalues bounded from below, [..., n, n]: `spd.proj`."""
  return spd.proj(x)


def tangent(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The symmetric part of v, [..., n, n]."""
  return sym(v)


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient of the symmetric part of g, [..., n, n]: dexp at log x, twice."""
  s = _flat(x)
  return matrix.slope_exp(s, _tangent(matrix.slope_exp(s, _tangent(g))))


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., n, n]; longer steps are cut to `limit`."""
  s = _flat(x)
  u = -rate * matrix.slope_exp(s, _tangent(g))
  return _point(s + (u if limit is None else matrix.shorten(u, matrix.norm(u), limit)))


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point exp(x, v), [..., n, n]: nothing is much cheaper here."""
  return exp(x, v, c=c)


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., a, n, n] to y [..., b, n, n], [..., a, b].

  Exact as `dist`, from differences of the a + b logarithms, in blocks.
  """
  return matrix.pairwise(lambda x, y: matrix.norm(x - y), _flat(x), _flat(y))


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to `c`, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
