"""Beltrami–Klein ball: points x with c‖x‖² < 1, sectional curvature K = −c, c > 0.

Points and tangents are [..., d]; leading axes broadcast. `c` may be traced, so it can be learned.
Geodesics are straight: exp moves x along v, log is a multiple of y − x. The metric is
dx²/α + c (x·dx)²/α². As c → 0 every formula tends to the flat one.
A radius r has α = 1/cosh²(√c r), the square of what it has in the Poincaré ball, so rounding the
coordinates moves a point by eps·e^(2√c r)/4: half the depth of the ball for the same digits.
Notation: α_x = 1 − c‖x‖², δ = y − x, s = √(α_x α_y) and g = √(α_x‖δ‖² + c(x·δ)²), for which
sinh(√c d) = √c g/s. α is the one difference that has to be taken.
Points outside the ball are treated as if α were the smallest number it can round to.
Source: the Klein model of [cannon1997hyperbolic] §7; exp, log and transport are those of the
Lorentz model, divided by time.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base, lorentz
from geoemb.typing import Array, Key, Scalar

# proj puts points at √c‖x‖ = 1 − 4 eps and leaves those below 1 − 2 eps alone, as in the Poincaré
# ball. α is then 8 eps, and the farthest radius log(4/8 eps)/2√c: 7.6/√c in float32, 17.7/√c in
# float64.
_MARGIN = 4


def _alpha(x: Array, c: Array) -> Array:
  """α = 1 − c‖x‖², [...], at least eps/2."""
  alpha, least = numerics.co_square(x, c), 0.5 * numerics.eps(x.dtype)
  return jnp.where(alpha > least, alpha, least)


def _tangent(v: Array, c: Array) -> Array:
  """The tangent v with entries up to a size no tangent in the ball has: 1.6e4/√c in float32.

  It leaves room for the powers of 1/α ≤ 2/eps in the metric, in transport and in their derivatives.
  """
  return numerics.bound(v, numerics.root_max(v.dtype) * numerics.eps(v.dtype) ** 2 / jnp.sqrt(c))


def _point(x: Array, c: Array) -> Array:
  """The point x with entries up to 2/√c: in the ball they are at most 1/√c."""
  return numerics.bound(x, 2 / jnp.sqrt(c))


def _dot(x: Array, y: Array) -> Array:
  """Inner products over the last axis, [...]."""
  return jnp.sum(x * y, axis=-1)


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]: u·v/α + c(x·u)(x·v)/α²."""
  c = jnp.asarray(c, x.dtype)
  alpha, x, u, v = _alpha(x, c), _point(x, c), _tangent(u, c), _tangent(v, c)
  return (_dot(u, v) + c * (_dot(x, u) / alpha) * _dot(x, v)) / alpha


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  c = jnp.asarray(c, x.dtype)
  alpha, x, u = _alpha(x, c), _point(x, c), _tangent(u, c)
  # as a length of d + 1 entries: their squares alone would underflow
  along = jnp.sqrt(c) * _dot(x, u)[..., None]
  u = jnp.broadcast_to(jnp.sqrt(alpha)[..., None] * u, (*along.shape[:-1], u.shape[-1]))
  return numerics.safe_norm(jnp.concatenate([u, along], axis=-1)) / alpha


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1]: one second moment per point, so directions stay."""
  return inner(x, u, u, c=c)[..., None]


class Lifted(NamedTuple):
  """Points with their α, which is costly to find."""

  x: Array  # [..., d]
  alpha: Array  # [...]


def lift(x: Array | Lifted, *, c: Scalar = 1.0) -> Lifted:
  """Points in the form in which distances from one to many share work, or those already in it."""
  return x if isinstance(x, Lifted) else Lifted(x, _alpha(x, jnp.asarray(c, x.dtype)))


def _gap(x: Lifted, y: Lifted, c: Array) -> tuple[Array, Array, Array]:
  """δ [..., d] and s, g/s, [...]."""
  (x, alpha_x), (y, alpha_y) = x, y
  x, y = _point(x, c), _point(y, c)
  delta = y - x
  along = _dot(x, delta)
  g = numerics.safe_sqrt(alpha_x * _dot(delta, delta) + c * along * along, 0)
  s = jnp.sqrt(alpha_x) * jnp.sqrt(alpha_y)
  return delta, s, g / s


def dist(x: Array | Lifted, y: Array | Lifted, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...]: arcsinh(√c g/s)/√c; its gradient at x = y is 0.

  (1 − c x·y)² − α_x α_y = c g² is a sum of squares in δ, so nothing cancels for close points.
  """
  x, y = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, x.x.dtype)
  return 0.5 * numerics.arc(_gap(x, y, c)[2], c)


def sqdist(x: Array | Lifted, y: Array | Lifted, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist²."""
  (x, alpha_x), (y, alpha_y) = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, x.dtype)
  x, y = _point(x, c), _point(y, c)
  delta = y - x
  along = _dot(x, delta)
  square = (_dot(delta, delta) + c * along * (along / alpha_x)) / alpha_y  # g²/s²
  return 0.25 * numerics.arc_square(square, c)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., d], projected as by `proj`.

  x + t v/(1 + t q) with t = tanh(L)/L, L = √c‖v‖_x, and q = c(x·v)/α; for q < 0 the sum is
  (1/cosh² L + t² c‖v‖²/α)/(1 − t q). Long tangents end at the cap, those longer than `limit` are
  shortened to it.
  """
  c = jnp.asarray(c, x.dtype)
  length = norm(x, v, c=c)
  v = v if limit is None else numerics.shorten(v, length, limit)
  length = length if limit is None else jnp.where(length > limit, limit, length)
  x, v = _point(x, c), _tangent(v, c)
  alpha, length = _alpha(x, c), jnp.sqrt(c) * length
  # tanh is 1 in float64 too from 20 on, and 1/cosh² still a number at 40
  over = length > 40
  short = jnp.where(over, 40 / jnp.where(over, length, 1), 1)
  v, length = v * short[..., None], jnp.where(over, 40, length)
  t, q = numerics.tanh_over(length), c * _dot(x, v) / alpha
  outward = q > 0
  inward = jnp.where(outward, 0, t * q)
  square = jnp.square(1 / jnp.cosh(length)) + t * t * c * _dot(v, v) / alpha
  den = jnp.where(outward, 1 + t * jnp.where(outward, q, 0), square / (1 - inward))
  return proj(x + numerics.divide(t, den)[..., None] * v, c=c)


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., d]: √(α_x/α_y) (D/sinh D) δ, D = √c d."""
  x, y = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, x.x.dtype)
  delta, _, sinh = _gap(x, y, c)
  scale = jnp.sqrt(x.alpha) / jnp.sqrt(y.alpha) * numerics.asinh_over(jnp.sqrt(c) * sinh)
  return scale[..., None] * delta


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., d].

  √(α_y/α_x) (v − c (x·v (1 + s/α_x) + δ·v)/(s (1 + cosh √c d)) δ).
  """
  x, y = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, v.dtype)
  v = _tangent(v, c)
  delta, s, sinh = _gap(x, y, c)
  cosh = numerics.hypot1(jnp.sqrt(c) * sinh)
  turn = _dot(_point(x.x, c), v) * (1 + s / x.alpha) + _dot(delta, v)
  turn = c * turn / (s * (1 + cosh))
  return (jnp.sqrt(y.alpha) / jnp.sqrt(x.alpha))[..., None] * (v - turn[..., None] * delta)


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point x, or where it is beyond √c‖x‖ = 1 − 2 eps its multiple at 1 − 4 eps, [..., d]."""
  c = jnp.asarray(c, x.dtype)
  small = numerics.eps(x.dtype)
  n = jnp.sqrt(c) * numerics.safe_norm(x)
  out = n > 1 - _MARGIN // 2 * small
  return x * jnp.where(out, (1 - _MARGIN * small) / jnp.where(out, n, 1), 1)[..., None]


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient, [..., d]: α (g − c(x·g) x), the inverse metric α (I − c x xᵀ)."""
  c = jnp.asarray(c, x.dtype)
  alpha, x = _alpha(x, c), _point(x, c)
  return alpha[..., None] * (g - (c * _dot(x, g))[..., None] * x)


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


def origin(
  shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Scalar = 1.0
) -> Array:
  """Zeros, [*shape, dim]."""
  return jnp.zeros((*shape, dim), dtype)


def pairwise(x: Array | Lifted, y: Array | Lifted, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, d] to y [..., m, d], [..., n, m], by products in the Lorentz chart.

  They resolve what those of `lorentz.pairwise` do: pairs closer than about √eps·e^r at radius r
  count as coincident, at distance 0 with gradient 0. `dist` has no such floor.
  """
  return lorentz.pairwise(to_lorentz(x, c=c), to_lorentz(y, c=c), c=c)


def pairwise_affinity(x: Array | Lifted, y: Array | Lifted, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m], by products where 2/√c is whole; c is a fixed number."""
  return lorentz.pairwise_affinity(to_lorentz(x, c=c), to_lorentz(y, c=c), c=c)


def query(x: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] as of `lorentz.query`, with inner product (cosh(√c d) − T_x)/c."""
  return lorentz.query(to_lorentz(x, c=c), c=c)


def key(y: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] for `query`."""
  return lorentz.key(to_lorentz(y, c=c), c=c)


def to_lorentz(x: Array | Lifted, *, c: Scalar = 1.0) -> Array:
  """The same point in the Lorentz chart, [..., d]: x/√α."""
  x, alpha = lift(x, c=c)
  return _point(x, jnp.asarray(c, x.dtype)) / jnp.sqrt(alpha)[..., None]


def from_lorentz(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point of the Lorentz chart in this one, [..., d]: x/T. Far ones round to its boundary."""
  c = jnp.asarray(c, x.dtype)
  root = jnp.sqrt(c)
  x = numerics.bound(x, numerics.root_max(x.dtype) / jnp.where(root > 1, root, 1))
  return proj(x / jnp.sqrt(1 + c * _dot(x, x))[..., None], c=c)


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
