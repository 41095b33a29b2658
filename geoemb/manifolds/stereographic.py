"""Constant curvature K = −c of either sign in one chart: ball, flat space and sphere by projection.

Points and tangents are [..., d]; leading axes broadcast. `c` may be traced, so it can be learned,
and learning may take it through 0: every function is analytic in c there.
c > 0: the Poincaré ball, c‖x‖² < 1. c = 0: ℝ^d with 4 times its metric. c < 0: the sphere of radius
1/√−c, projected from the antipode of the origin, which alone has no coordinates; points are kept
2√eps/√−c away from it. At antipodes log is 0 and the gradient of dist is 0.
Notation: α_x = 1 − c‖x‖², λ_x = 2/α_x, δ = y − x, h = ‖δ‖/√(α_x α_y), z = c h², which is
sinh²(√c d/2) or −sin²(√−c d/2).
Source: the formulas of [ganea2018hnn] §2, which are algebraic in c but for tanh and its inverse.
"""

import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base
from geoemb.manifolds.ball import MARGIN, Lifted
from geoemb.manifolds.ball import origin as origin
from geoemb.typing import Array, Key, Scalar

# Limits on the entries of tangents, and of points as c → 0, as powers of `numerics.root_max`.
_LONGEST, _FARTHEST = 7 / 16, 3 / 8


def _root(c: Array) -> Array:
  """√|c|, or 1 for c = 0; a constant to derivatives."""
  size = jax.lax.stop_gradient(jnp.abs(c))
  return jnp.sqrt(jnp.where(size > 0, size, 1))


def co_square(x: Array, c: Array) -> Array:
  """α = 1 − c‖x‖², [...], at least eps/2."""
  least, ball = 0.5 * numerics.eps(x.dtype), c > 0
  x = bounded(x, c)
  inside = numerics.co_square(x, jnp.where(ball, c, 1))
  inside = jnp.where(inside > least, inside, least)
  return jnp.where(ball, inside, 1 - jnp.where(ball, 0, c) * numerics.dot(x, x))


def _tangent(v: Array, c: Array) -> Array:
  """The tangent v with entries up to a size no tangent has.

  In float32 that is 1.6e4/√c in the ball and 8e7/√−c on the sphere, but at most 8e7, which is the
  limit in flat space: it leaves room for derivatives by c, which have ‖x‖²‖v‖².
  """
  largest = numerics.root_max(v.dtype)
  most = largest**_LONGEST
  limit = jnp.where(c > 0, largest * numerics.eps(v.dtype) ** 2, most) / _root(c)
  return numerics.bound(v, jnp.where(limit < most, limit, most))


def bounded(x: Array, c: Array) -> Array:
  """The point x with entries up to 2/√c in the ball, else up to twice the cap of `proj`."""
  most = numerics.root_max(x.dtype) ** _FARTHEST
  limit = jnp.where(c > 0, 2, 2 * numerics.eps(x.dtype) ** -0.5) / _root(c)
  return numerics.bound(x, jnp.where((c != 0) & (limit < most), limit, most))


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]: λ² u·v."""
  c = jnp.asarray(c, x.dtype)
  lam = 2 / co_square(x, c)
  return lam * lam * numerics.dot(_tangent(u, c), _tangent(v, c))


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]: λ‖u‖; its gradient is 0 at u = 0."""
  c = jnp.asarray(c, x.dtype)
  return 2 / co_square(x, c) * numerics.safe_norm(_tangent(u, c))


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1]: one second moment per point, so directions stay."""
  return inner(x, u, u, c=c)[..., None]


def lift(x: Array | Lifted, *, c: Scalar = 1.0) -> Lifted:
  """Points in the form in which distances from one to many share work, or those already in it."""
  return x if isinstance(x, Lifted) else Lifted(x, co_square(x, jnp.asarray(c, x.dtype)))


def _gap(x: Lifted, y: Lifted, c: Array) -> tuple[Array, Array, Array, Array, Array]:
  """δ [..., d]; then, [...], h, h², d/(2h) and √(1 + z), z = c h².

  Beyond a right angle on the sphere, z < −1/2, the last is ‖x − c‖x‖² y‖/(‖x‖ √(α_x α_y)), a sum of
  squares, with x the longer: all that is known of the angle near antipodes.
  """
  (x, alpha_x), (y, alpha_y) = x, y
  x, y = bounded(x, c), bounded(y, c)
  delta = y - x
  both = jnp.sqrt(alpha_x) * jnp.sqrt(alpha_y)
  h = numerics.norm(delta) / both
  hh = numerics.dot(delta, delta) / alpha_x / alpha_y  # smooth at 0
  z = c * hh
  far = z < -0.5
  near = jnp.where(far, 0, z)
  first = (alpha_x > alpha_y)[..., None]
  long, short = jnp.where(first, x, y), jnp.where(first, y, x)
  long, short = (jnp.where(far[..., None], a, 1) for a in (long, short))
  c = jnp.where(far, c, -1)
  square = numerics.dot(long, long)
  cosine = numerics.norm(long - (c * square)[..., None] * short)
  cosine = cosine / (jnp.sqrt(square) * jnp.where(far, both, 1))
  sine = jnp.sqrt(-c) * jnp.where(far, h, 1)
  over = jnp.where(far, numerics.atan2(sine, cosine) / sine, numerics.asinh_root_over(near))
  return delta, h, hh, over, jnp.where(far, cosine, jnp.sqrt(1 + near))


def dist(x: Array | Lifted, y: Array | Lifted, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...]: 2 h F(c h²), F(z) = arcsinh(√z)/√z, or arcsin(√−z)/√−z for z < 0."""
  x, y = lift(x, c=c), lift(y, c=c)
  _, h, _, over, _ = _gap(x, y, jnp.asarray(c, x.x.dtype))
  return 2 * h * over


def sqdist(x: Array | Lifted, y: Array | Lifted, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist²."""
  (x, alpha_x), (y, alpha_y) = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, x.dtype)
  delta = bounded(x, c) - bounded(y, c)
  square = numerics.dot(delta, delta) / alpha_x / alpha_y
  far = (c * square < -0.5)[..., None]  # beyond a right angle on the sphere
  apart = jnp.where(far, x, 0), jnp.where(far, y, 0.1)  # where dist has all derivatives
  near = numerics.arc_square(jnp.where(far[..., 0], 0, square), c)
  return jnp.where(far[..., 0], jnp.square(dist(*apart, c=c)), near)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., d], projected as by `proj`.

  With a = v/α_x, w = c‖a‖², C = cosh √w and S = sinh(√w)/√w, it is
  x + α_x (S C a + c S²‖a‖² x)/D, D = C² + 2 c S C x·a + c² S²‖x‖²‖a‖². D is c‖C x + S a‖² + α_x in
  the ball, ‖C x̂ + c S ‖x‖ a‖² elsewhere: sums of positive terms. Long tangents end at the cap of
  the ball, those longer than `limit` are shortened to it.
  """
  c = jnp.asarray(c, x.dtype)
  v = v if limit is None else numerics.shorten(v, norm(x, v, c=c), limit)
  x, v = bounded(x, c), _tangent(v, c)
  alpha, ball = co_square(x, c), c > 0
  a = v / alpha[..., None]
  w = c * numerics.dot(a, a)
  over = w > 1024  # √w = 32: tanh is 1 in float64 too from 20 on
  short = jnp.where(over, 32 / jnp.sqrt(jnp.where(over, w, 1)), 1)
  a, w = a * short[..., None], jnp.where(over, 1024, w)
  cosh, sinh = numerics.cosh_root(w), numerics.sinh_root_over(w)
  step, turn = sinh[..., None] * a, w * sinh * sinh
  inside = jnp.where(ball, c, 0) * jnp.sum(jnp.square(cosh[..., None] * x + step), -1) + alpha
  d = cosh * (cosh + 2 * c * numerics.dot(x, step)) + (c * numerics.dot(x, x)) * turn
  # Elsewhere this derivative, and a value that is accurate where the end is far out.
  r = numerics.norm(x)
  n = x / jnp.where(r > 0, r, 1)[..., None]
  sum_n = jnp.sum(jnp.square(cosh[..., None] * n + (c * r)[..., None] * step), axis=-1)
  d = d + jax.lax.stop_gradient(jnp.where(r > 0, sum_n, cosh * cosh) - d)
  least = numerics.eps(x.dtype)  # a point beyond the cap
  d = jnp.where(ball, inside, jnp.where(d > least, d, least))
  move = cosh[..., None] * step + turn[..., None] * x
  return proj(x + numerics.divide(alpha, d)[..., None] * move, c=c)


def log(x: Array | Lifted, y: Array | Lifted, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., d]; 0 at the antipode.

  Its direction is α_x δ − c‖δ‖² x, whose length is ‖δ‖√(α_x α_y (1 + z)).
  """
  x, y = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, x.x.dtype)
  delta, _, hh, over, cosh = _gap(x, y, c)
  some = cosh > numerics.eps(c.dtype)  # else the direction is rounding noise
  scale = jnp.where(some, over / jnp.where(some, cosh, 1), 0)
  along = scale * c * x.alpha * hh
  return (scale * x.alpha / y.alpha)[..., None] * delta - along[..., None] * bounded(x.x, c)


def transport(x: Array | Lifted, y: Array | Lifted, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., d]: (λ_x/λ_y) gyr[y, −x] v.

  The formula of `poincare.transport`, whose divisor is α_x α_y (1 + z); at the antipode, where that
  is 0, v itself by the quotient of the λ.
  """
  x, y = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, v.dtype)
  delta, _, _, _, cosh = _gap(x, y, c)
  alpha, at, v = x.alpha, bounded(x.x, c), _tangent(v, c)
  some = cosh > numerics.eps(c.dtype)
  p, s, n = numerics.dot(at, v), numerics.dot(delta, v), c * numerics.dot(delta, delta)
  along = (2 * c * numerics.dot(at, delta) - alpha) * p - (1 - alpha) * s
  cosh = jnp.where(some, cosh, 1)
  scale = jnp.where(some, 2 * c / (alpha * y.alpha) / (cosh * cosh), 0)
  turn = (scale * along)[..., None] * delta + (scale * (alpha * s - n * p))[..., None] * at
  return (y.alpha / alpha)[..., None] * (v + turn)


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point x, or its multiple at the cap where it is beyond, [..., d].

  In the ball the cap is √c‖x‖ = 1 − 4 eps, for points beyond 1 − 2 eps; on the sphere it is
  √−c‖x‖ = 1/√eps. At c = 0 entries are limited to 6e6 in float32.
  """
  c = jnp.asarray(c, x.dtype)
  small = numerics.eps(x.dtype)
  most = jnp.where(c != 0, jnp.finfo(x.dtype).max, numerics.root_max(x.dtype) ** _FARTHEST)
  x = numerics.bound(x, most.astype(x.dtype))
  n = _root(c) * numerics.safe_norm(x)
  out = (c != 0) & (n > jnp.where(c > 0, 1 - MARGIN // 2 * small, small**-0.5))
  cap = jnp.where(c > 0, 1 - MARGIN * small, small**-0.5)
  return x * jnp.where(out, cap / jnp.where(out, n, 1), 1)[..., None]


def _round_root(c: Array) -> Array:
  """√−c, or 1 for c ≥ 0; a constant where derivatives by c, which are up to |c|^-1.5, overflow."""
  flat = -c < float(jnp.finfo(c.dtype).tiny) ** 0.5  # 1e-19 in float32
  c = jnp.where(flat, jax.lax.stop_gradient(c), c)
  return jnp.sqrt(jnp.where(c < 0, -c, 1))


def to_sphere(x: Array, *, c: Scalar = -1.0) -> Array:
  """The point x as one of `sphere` with curvature −c, [..., d + 1]; its origin is their pole.

  For c < 0; otherwise as for c = −1.
  """
  c = jnp.asarray(c, x.dtype)
  root = _round_root(c)
  x = bounded(x, jnp.where(c < 0, c, -1))
  s = root * root * numerics.dot(x, x)
  height = (1 - s) / root
  return jnp.concatenate([height[..., None], 2 * x], axis=-1) / (1 + s)[..., None]


def from_sphere(p: Array, *, c: Scalar = -1.0) -> Array:
  """The point p [..., d + 1] of `sphere` with curvature −c in this chart, [..., d].

  The antipode of the pole, which has no coordinates, comes out along the first axis, at the cap of
  `proj`. For c < 0; otherwise as for c = −1.
  """
  root = _round_root(jnp.asarray(c, p.dtype))
  p = root * numerics.bound(p, 2 / root)
  a, r = p[..., 0], p[..., 1:]
  far = a < 0  # where 1 + a cancels, and is ‖r‖²/(1 − a)
  q = numerics.safe_norm(r)
  least = 2 * numerics.eps(p.dtype) ** 0.5
  axis = jnp.zeros_like(r).at[..., 0].set(1)
  unit = jnp.where((q > 0)[..., None], numerics.unit(r), axis)
  beyond = unit * ((1 - a) / jnp.where(far & (q > least), q, least))[..., None]
  return jnp.where(far[..., None], beyond, r / jnp.where(far, 1, 1 + a)[..., None]) / root


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient, [..., d]: g/λ²."""
  c = jnp.asarray(c, x.dtype)
  return ((0.5 * co_square(x, c)) ** 2)[..., None] * numerics.bound(g, numerics.root_max(x.dtype))


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d]; longer steps are cut to `limit`."""
  return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point x + v, projected, [..., d]."""
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
  """Points uniform in [−scale, scale] per coordinate, projected, [*shape, dim]."""
  return proj(scale * jax.random.uniform(key, (*shape, dim), dtype, minval=-1, maxval=1), c=c)


def pairwise(x: Array | Lifted, y: Array | Lifted, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, d] to y [..., m, d], [..., n, m], from ‖x‖² + ‖y‖² − 2x·y.

  h² has an absolute error of about eps·(‖x‖² + ‖y‖²)/(α_x α_y), and pairs as close as that count as
  coincident, at distance 0 with gradient 0; so do, at distance π/√−c, pairs on the sphere within
  about 2√eps of being antipodes. `dist` has no such floor.
  """
  (x, alpha_x), (y, alpha_y) = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, x.dtype)
  x, y = bounded(x, c), bounded(y, c)
  total = numerics.dot(x, x)[..., :, None] + numerics.dot(y, y)[..., None, :]
  length = numerics.safe_sqrt(total - 2 * numerics.dots(x, y), numerics.noise(x.dtype) * total)
  h = length / (jnp.sqrt(alpha_x)[..., :, None] * jnp.sqrt(alpha_y)[..., None, :])
  z = c * h * h
  antipodes = z < numerics.noise(x.dtype) - 1
  over = numerics.asinh_root_over(jnp.where(antipodes, 0, z))
  half = jnp.pi / (2 * _root(c))
  return 2 * jnp.where(antipodes, half.astype(x.dtype), h * over)


def pairwise_affinity(x: Array | Lifted, y: Array | Lifted, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m]."""
  return jnp.exp(-pairwise(x, y, c=c))


def query(x: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] with inner product ‖x − y‖²/α_y − ‖x‖², that is α_x h² − ‖x‖².

  Resolves that to about eps·(‖x‖² + ‖y‖²)/α_y.
  """
  c = jnp.asarray(c, x.dtype)
  x = bounded(x, c)
  return jnp.concatenate([-2 * x, 1 + c * numerics.dot(x, x)[..., None]], axis=-1)


def key(y: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] for `query`: y/α_y and ‖y‖²/α_y."""
  c = jnp.asarray(c, y.dtype)
  alpha, y = co_square(y, c), bounded(y, c)
  features = jnp.concatenate([y, numerics.dot(y, y)[..., None]], axis=-1)
  return features / alpha[..., None]


def log_volume(x: Array, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the volume element √det g, [...]: d log λ_x."""
  return x.shape[-1] * jnp.log(2 / co_square(x, jnp.asarray(c, x.dtype)))


def injectivity_radius(*, c: Scalar = 1.0) -> Array:
  """The distance within which geodesics are shortest: ∞ for c ≥ 0, π/√−c on the sphere."""
  c = jnp.asarray(c)
  return jnp.where(c < 0, jnp.pi / jnp.sqrt(jnp.where(c < 0, -c, 1)), jnp.inf)


def saturated(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where points are at the cap of `proj`, [...] bool."""
  c, small = jnp.asarray(c, x.dtype), numerics.eps(x.dtype)
  cap = jnp.where(c > 0, 1 - (MARGIN + 2) * small, small**-0.5 * (1 - 4 * small))
  return (c != 0) & (_root(c) * numerics.safe_norm(bounded(x, c)) >= cap)


SIGN = None  # of the sectional curvature: that of −c


def from_frame(w: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent w/2 at the origin, [..., d], of coordinates w in an orthonormal frame."""
  return 0.5 * w


def to_frame(v: Array, *, c: Scalar = 1.0) -> Array:
  """Coordinates in that frame of the tangent v at the origin, [..., d]."""
  return 2 * v


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
