"""Beltrami–Klein ball: points x with c‖x‖² < 1, sectional curvature K = −c, c > 0.

Points and tangents are [..., d]; leading axes broadcast. `c` may be traced, so it can be learned.
Geodesics are straight: exp moves x along v, log is a multiple of y − x. The metric is
dx²/α + c (x·dx)²/α². As c → 0 every formula tends to the flat one.
A radius r has α = 1/cosh²(√c r), the square of what it has in the Poincaré ball, so rounding the
coordinates moves a point by eps·e^(2√c r)/4: half the depth of the ball for the same digits.
Notation: α_x = 1 − c‖x‖², δ = y − x, s = √(α_x α_y) and g = √(α_x‖δ‖² + c(x·δ)²), for which
sinh(√c d) = √c g/s. α is the one difference that has to be taken.
The farthest radius, at `ball.proj`'s α of 8 eps, is 7.6/√c in float32 and 17.7/√c in float64.
Points outside the ball are treated as if α were the smallest number it can round to.
Source: the Klein model of [cannon1997hyperbolic] §7; exp, log and transport are those of the
Lorentz model, divided by time.
"""

import sys

import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import ball, base, lorentz
from geoemb.manifolds.ball import RULE as RULE
from geoemb.manifolds.ball import Lifted as Lifted
from geoemb.manifolds.ball import broken as broken
from geoemb.manifolds.ball import lift as lift
from geoemb.manifolds.ball import origin as origin
from geoemb.manifolds.ball import proj as proj
from geoemb.manifolds.ball import random as random
from geoemb.manifolds.ball import retract as retract
from geoemb.manifolds.ball import saturated as saturated
from geoemb.typing import Array, Scalar


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]: u·v/α + c(x·u)(x·v)/α²."""
  c = jnp.asarray(c, x.dtype)
  alpha, x, u, v = ball.alpha(x, c), ball.point(x, c), ball.tangent(u, c), ball.tangent(v, c)
  return (numerics.dot(u, v) + c * (numerics.dot(x, u) / alpha) * numerics.dot(x, v)) / alpha


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  c = jnp.asarray(c, x.dtype)
  alpha, x, u = ball.alpha(x, c), ball.point(x, c), ball.tangent(u, c)
  # as a length of d + 1 entries: their squares alone would underflow
  along = jnp.sqrt(c) * numerics.dot(x, u)[..., None]
  u = jnp.broadcast_to(jnp.sqrt(alpha)[..., None] * u, (*along.shape[:-1], u.shape[-1]))
  return numerics.safe_norm(jnp.concatenate([u, along], axis=-1)) / alpha


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1]: one second moment per point, so directions stay."""
  return inner(x, u, u, c=c)[..., None]


def _gap(x: Lifted, y: Lifted, c: Array) -> tuple[Array, Array, Array]:
  """δ [..., d] and s, g/s, [...]."""
  (x, alpha_x), (y, alpha_y) = x, y
  x, y = ball.point(x, c), ball.point(y, c)
  delta = y - x
  along = numerics.dot(x, delta)
  g = numerics.safe_sqrt(alpha_x * numerics.dot(delta, delta) + c * along * along, 0)
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
  x, y = ball.point(x, c), ball.point(y, c)
  delta = y - x
  along = numerics.dot(x, delta)
  square = (numerics.dot(delta, delta) + c * along * (along / alpha_x)) / alpha_y  # g²/s²
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
  x, v = ball.point(x, c), ball.tangent(v, c)
  alpha, length = ball.alpha(x, c), jnp.sqrt(c) * length
  # tanh is 1 in float64 too from 20 on, and 1/cosh² still a number at 40
  over = length > 40
  short = jnp.where(over, 40 / jnp.where(over, length, 1), 1)
  v, length = v * short[..., None], jnp.where(over, 40, length)
  t, q = numerics.tanh_over(length), c * numerics.dot(x, v) / alpha
  outward = q > 0
  inward = jnp.where(outward, 0, t * q)
  square = jnp.square(1 / jnp.cosh(length)) + t * t * c * numerics.dot(v, v) / alpha
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
  v = ball.tangent(v, c)
  delta, s, sinh = _gap(x, y, c)
  cosh = numerics.hypot1(jnp.sqrt(c) * sinh)
  turn = numerics.dot(ball.point(x.x, c), v) * (1 + s / x.alpha) + numerics.dot(delta, v)
  turn = c * turn / (s * (1 + cosh))
  return (jnp.sqrt(y.alpha) / jnp.sqrt(x.alpha))[..., None] * (v - turn[..., None] * delta)


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient, [..., d]: α (g − c(x·g) x), the inverse metric α (I − c x xᵀ)."""
  c = jnp.asarray(c, x.dtype)
  alpha, x = ball.alpha(x, c), ball.point(x, c)
  return alpha[..., None] * (g - (c * numerics.dot(x, g))[..., None] * x)


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d]; longer steps are cut to `limit`."""
  return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)


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
  return ball.point(x, jnp.asarray(c, x.dtype)) / jnp.sqrt(alpha)[..., None]


def from_lorentz(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point of the Lorentz chart in this one, [..., d]: x/T. Far ones round to its boundary."""
  c = jnp.asarray(c, x.dtype)
  root = jnp.sqrt(c)
  x = numerics.bound(x, numerics.root_max(x.dtype) / jnp.where(root > 1, root, 1))
  return proj(x / jnp.sqrt(1 + c * numerics.dot(x, x))[..., None], c=c)


def log_volume(x: Array, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the volume element √det g, [...]: −(d + 1)/2 log α_x."""
  return -0.5 * (x.shape[-1] + 1) * jnp.log(ball.alpha(x, jnp.asarray(c, x.dtype)))


SIGN = -1  # of the sectional curvature


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
