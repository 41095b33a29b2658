"""Symmetric positive definite matrices with the affine-invariant metric ⟨u, v⟩ = tr x⁻¹ u x⁻¹ v.

Points x and tangents v are [..., n, n], tangents symmetric. Complete, of non-positive curvature;
x ↦ a x aᵀ is an isometry for every invertible a. `c` has no effect, as the curvature varies from
plane to plane, and is there so that all geometries are called alike.
Notation: x = L Lᵀ, Cholesky's factor; a tangent or point is whitened to L⁻¹ · L⁻ᵀ.
A matrix that is not positive definite to rounding has no factor, and counts as the identity: see
`proj`. Eigenvalues of points are kept within √(largest number)/16 and its inverse.
Source: [pennec2006riemannian] §3.
"""

import math
import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base, matrix
from geoemb.manifolds.matrix import sym, tr
from geoemb.numerics import matmul as mm
from geoemb.typing import Array, Key, Scalar

POINT_NDIM = 2


def _factor(x: Array) -> Array:
  """L with x = L Lᵀ, [..., n, n]; of the identity where there is none; NaN stays NaN."""
  x = sym(x)
  fine = jnp.linalg.cholesky(jax.lax.stop_gradient(x), symmetrize_input=False)
  fine = jnp.all(jnp.isfinite(fine), axis=(-2, -1), keepdims=True)
  other = matrix.eye(x) + jax.lax.stop_gradient(0 * x)
  return jnp.linalg.cholesky(jnp.where(fine, x, other), symmetrize_input=False)


def _inverse(f: Array) -> Array:
  """L⁻¹, [..., n, n], with entries that `_whiten` can multiply with."""
  one = jnp.broadcast_to(matrix.eye(f), f.shape)
  inverse = jax.lax.linalg.triangular_solve(f, one, left_side=True, lower=True)
  return numerics.bound(inverse, numerics.root_max(f.dtype))


def _whiten(inverse: Array, v: Array) -> Array:
  """L⁻¹ v L⁻ᵀ, symmetric, [..., n, n]."""
  limit = numerics.root_max(v.dtype)
  v = numerics.bound(mm(inverse, numerics.bound(v, limit)), limit)
  return numerics.bound(sym(mm(v, tr(inverse))), limit)


@jax.custom_jvp
def _log(f: Array, x: Array, y: Array) -> Array:
  """Logarithm of the whitened y, for x = L Lᵀ with L = f, [..., n, n].

  Near x by the eigenvalues of the whitened y − x, of which close points keep their digits; else by
  the singular values of L⁻¹M for y = M Mᵀ, whose condition is the root of that of their squares.
  """
  inverse = _inverse(f)
  delta = _whiten(inverse, sym(y) - sym(x))
  near = matrix.norm(delta) < 0.5
  w, q = jnp.linalg.eigh(jnp.where(near[..., None, None], delta, 0), symmetrize_input=False)
  by_difference = mm(q * jnp.log1p(w)[..., None, :], tr(q))
  u, s, _ = jnp.linalg.svd(mm(inverse, _factor(y)))
  tiny = float(jnp.finfo(s.dtype).tiny)
  by_quotient = mm(u * 2 * jnp.log(jnp.where(s > tiny, s, tiny))[..., None, :], tr(u))
  return sym(jnp.where(near[..., None, None], by_difference, by_quotient))


@_log.defjvp
def _log_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """With W the whitened y: dW = L⁻¹ dy L⁻ᵀ − C W − W Cᵀ, C = L⁻¹ dL."""
  (f, x, y), (df, _, dy) = primals, tangents
  s = _log(f, x, y)
  inverse = _inverse(f)
  c = mm(inverse, df, matrix.exp_sym(s))
  return s, matrix.slope_log(s, sym(mm(inverse, dy, tr(inverse)) - 2 * c))


def _pull(x: Array, y: Array) -> Array:
  """−x⁻¹ log_x(y) x⁻¹, the derivative of half the squared distance, [..., n, n]."""
  f = _factor(x)
  inverse = _inverse(f)
  return -mm(tr(inverse), _log(f, x, y), inverse)


_dist, _sqdist = matrix.distances(lambda x, y: matrix.norm(_log(_factor(x), x, y)), _pull)


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]."""
  inverse = _inverse(_factor(x))
  return matrix.inner(x, _whiten(inverse, u), _whiten(inverse, v))


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  return matrix.norm(_whiten(_inverse(_factor(x)), u))


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1, 1]."""
  return inner(x, u, u, c=c)[..., None, None]


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance ‖log L⁻¹ y L⁻ᵀ‖, [...], accurate for close points; gradient 0 at x = y."""
  return _dist(x, y)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], twice differentiable everywhere, unlike dist²."""
  return _sqdist(x, y)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., n, n]; longer ones are cut to `limit`."""
  f = _factor(x)
  return _exp(f, _whiten(_inverse(f), v), limit)


def _exp(f: Array, s: Array, limit: Scalar | None) -> Array:
  """L exp(s) Lᵀ, [..., n, n], of a whitened tangent s.

  Its eigenvalues can change by factors up to √(largest number)/16.
  """
  s = s if limit is None else matrix.shorten(s, matrix.norm(s), limit)
  most = math.log(numerics.root_max(s.dtype))
  s = matrix.shorten(s, matrix.norm(s), most)
  b = mm(f, matrix.exp_sym(0.5 * s))
  return proj(mm(b, tr(b)))


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., n, n]."""
  f = _factor(x)
  return sym(mm(f, _log(f, x, y), tr(f)))


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., n, n]: E v Eᵀ with E = (y x⁻¹)^½."""
  f = _factor(x)
  b = mm(f, matrix.exp_sym(0.5 * _log(f, x, y)))
  return sym(mm(b, _whiten(_inverse(f), v), tr(b)))


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The symmetric part of x with its eigenvalues bounded from below, [..., n, n].

  By 4n eps of the largest: below about n eps rounding may make the matrix indefinite. All are kept
  within √(largest number)/16 and its inverse. The derivative is that of the symmetric part.
  """
  return _proj(x)


@jax.custom_jvp
def _proj(x: Array) -> Array:
  most = numerics.root_max(x.dtype)
  x = numerics.bound(sym(0.5 * x) * 2, most)
  w, q = jnp.linalg.eigh(x, symmetrize_input=False)
  top = jnp.clip(w[..., -1:], 1 / most, most)
  least = jnp.maximum(4 * x.shape[-1] * numerics.eps(x.dtype) * top, 1 / most)
  fine = (w[..., :1] >= least) & (w[..., -1:] <= most)
  w = jnp.clip(w, least, jnp.maximum(top, least))
  return jnp.where(fine[..., None], x, sym(mm(q * w[..., None, :], tr(q))))


@_proj.defjvp
def _proj_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  return _proj(*primals), sym(tangents[0])


def tangent(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The symmetric part of v, [..., n, n]."""
  return sym(v)


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient x g x for symmetric g, of the symmetric part of any g, [..., n, n]."""
  most = numerics.root_max(g.dtype)
  x, g = numerics.bound(x, most), numerics.bound(g, most)
  return sym(mm(numerics.bound(mm(x, sym(g)), most), x))


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., n, n]; longer steps are cut to `limit`.

  Whitened, the step is −rate · Lᵀ g L, which takes no inverse.
  """
  most = numerics.root_max(g.dtype)
  f = _factor(x)
  s = sym(mm(tr(f), numerics.bound(g, most), f))
  return _exp(f, -rate * numerics.bound(s, most), limit)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point x + v + v x⁻¹ v / 2, [..., n, n]: to second order, and positive definite."""
  f = _factor(x)
  s = _whiten(_inverse(f), v)
  # A larger root could not be squared; its fourth root, as it is multiplied by factors of x.
  s = matrix.shorten(s, matrix.norm(s), math.sqrt(numerics.root_max(s.dtype)))
  one = matrix.eye(s)
  return proj(mm(f, one + s + 0.5 * mm(s, s), tr(f)))


def random(
  key: Key,
  shape: tuple[int, ...],
  dim: int,
  *,
  scale: Scalar = 1e-3,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Exponentials of matrices with entries uniform in [−scale, scale], [*shape, dim, dim]."""
  s = jnp.tril(jax.random.uniform(key, (*shape, dim, dim), dtype, minval=-1, maxval=1))
  return exp(origin(shape, dim, dtype), scale * (s + tr(jnp.tril(s, -1))))


def origin(
  shape: tuple[int, ...],
  dim: int | tuple[int, int],
  dtype: jnp.dtype = jnp.float32,
  *,
  c: Scalar = 1.0,
) -> Array:
  """The identity, [*shape, dim, dim]."""
  n = dim if isinstance(dim, int) else dim[0]
  return jnp.broadcast_to(jnp.eye(n, dtype=dtype), (*shape, n, n))


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., a, n, n] to y [..., b, n, n], [..., a, b], in blocks; exact as `dist`."""
  return matrix.pairwise(dist, x, y)


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to `c`, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
