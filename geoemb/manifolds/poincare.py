"""Poincaré ball: points x with c‖x‖² < 1, sectional curvature K = −c, c > 0.

Points and tangents are [..., d]; leading axes broadcast. `c` may be traced, so it can be learned.
Notation: α_x = 1 − c‖x‖² and λ_x = 2/α_x, the conformal factor. As c → 0 the metric tends to
λ² = 4 times the flat one. Formulas are written in y − x, which is exact for close points, and in
α, the one difference that has to be taken: nothing else cancels near the boundary.
Points outside the ball are treated as if α were the smallest number it can round to.
Source: [nickel2017poincare] §3; exp and log from [ganea2018hnn] lemma 2, rearranged.
"""

import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import ball, base
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
  """Inner product of tangents, [...]: λ² u·v."""
  c = jnp.asarray(c, x.dtype)
  lam = 2 / ball.alpha(x, c)
  return lam * lam * numerics.dot(ball.tangent(u, c), ball.tangent(v, c))


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]: λ‖u‖; its gradient is 0 at u = 0."""
  c = jnp.asarray(c, x.dtype)
  return 2 / ball.alpha(x, c) * numerics.safe_norm(ball.tangent(u, c))


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1]: one second moment per point, so directions stay."""
  return inner(x, u, u, c=c)[..., None]


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...]: (2/√c) arcsinh √(c‖x−y‖² / (α_x α_y)).

  The arcosh form of [nickel2017poincare] eq. 1 without its cancellation near x = y,
  where the gradient is 0, not NaN. Accurate to rounding wherever α is.
  """
  (x, alpha_x), (y, alpha_y) = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, x.dtype)
  chord = numerics.norm(ball.point(x, c) - ball.point(y, c))
  return numerics.arc(chord / (jnp.sqrt(alpha_x) * jnp.sqrt(alpha_y)), c)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist²."""
  (x, alpha_x), (y, alpha_y) = lift(x, c=c), lift(y, c=c)
  c = jnp.asarray(c, x.dtype)
  delta = ball.point(x, c) - ball.point(y, c)
  return numerics.arc_square(numerics.dot(delta, delta) / alpha_x / alpha_y, c)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., d], projected as by `proj`.

  x ⊕ u with u = tanh(√c λ‖v‖/2) v/(√c‖v‖), as x + α_x (u + c‖u‖² x) / (c‖x + u‖² + α_x α_u):
  a step that is added to x, over a sum of positive terms. Long tangents end at the cap, those
  longer than `limit` are shortened to it.
  """
  c = jnp.asarray(c, x.dtype)
  v = v if limit is None else numerics.shorten(v, norm(x, v, c=c), limit)
  x, v = ball.point(x, c), ball.tangent(v, c)
  alpha = ball.alpha(x, c)
  half = jnp.sqrt(c) * numerics.safe_norm(v) / alpha
  # tanh is 1 in float64 too from 20 on; a shorter vector keeps v / α from overflowing
  short = jnp.where(half > 64, 64 / jnp.where(half > 64, half, 1), 1)
  u = (numerics.tanh_over(half * short) * short / alpha)[..., None] * v
  x_u = x + u
  uu = c * numerics.dot(u, u)
  den = c * numerics.dot(x_u, x_u) + alpha * (1 - uu)
  return proj(x + (alpha / jnp.where(den > 0, den, 1))[..., None] * (u + uu[..., None] * x), c=c)


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., d].

  Its direction is −x ⊕ y, which is α_x (y−x) − c‖y−x‖² x over a positive number.
  """
  c = jnp.asarray(c, x.dtype)
  x, y = ball.point(x, c), ball.point(y, c)
  delta = y - x
  alpha, alpha_y = ball.alpha(x, c), ball.alpha(y, c)
  square = c * numerics.dot(delta, delta)
  over = numerics.asinh_root_over(square / alpha / alpha_y)  # √c d/2 over its sinh
  both = jnp.sqrt(alpha) * jnp.sqrt(alpha_y)
  scale = alpha / both * over / jnp.sqrt(alpha * alpha_y + square)
  return (scale * alpha)[..., None] * delta - (scale * square)[..., None] * x


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., d]: (λ_x/λ_y) gyr[y, −x] v.

  With δ = y − x, p = x·v and s = δ·v the gyration adds to v the vector
  2c (((2c x·δ − α_x) p − c‖x‖² s) δ + (α_x s − c‖δ‖² p) x) / (α_x α_y + c‖δ‖²),
  so that a short move near the boundary stays a small rotation.
  """
  c = jnp.asarray(c, x.dtype)
  x, y, v = ball.point(x, c), ball.point(y, c), ball.tangent(v, c)
  delta = y - x
  alpha, alpha_y = ball.alpha(x, c), ball.alpha(y, c)
  p, s, n = numerics.dot(x, v), numerics.dot(delta, v), c * numerics.dot(delta, delta)
  along = (2 * c * numerics.dot(x, delta) - alpha) * p - (1 - alpha) * s
  turn = along[..., None] * delta + (alpha * s - n * p)[..., None] * x
  scale = 2 * c / (alpha * alpha_y + n)
  return (alpha_y / alpha)[..., None] * (v + scale[..., None] * turn)


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient, [..., d]: g/λ²."""
  c = jnp.asarray(c, x.dtype)
  return ((0.5 * ball.alpha(x, c)) ** 2)[..., None] * g


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d], from the covector g itself.

  With u of `exp` along g, 1 − c‖x ⊕ u‖² = α_x α_u/(1 + 2c x·u + c²‖x‖²‖u‖²) tells without a look at
  the new point whether it is beyond the cap. A row of g whose square overflows moves nothing, and
  x has to be in the ball, as `proj` and `exp` leave it.
  """
  limit = numerics.root_max(x.dtype) if limit is None else limit
  c, rate, limit = (jnp.asarray(s, x.dtype) for s in (c, rate, limit))
  return _descend(x, g, rate, c, limit)


@jax.custom_jvp
def _descend(x: Array, g: Array, rate: Array, c: Array, limit: Array) -> Array:
  alpha = ball.alpha(x, c)
  gg, beyond = numerics.bounded_square(g, numerics.root_max(x.dtype) ** 2)
  half = 0.25 * rate * alpha * jnp.sqrt(c * jnp.where(beyond, 0, gg))  # √c times half the length
  most = jnp.minimum(64, 0.5 * jnp.sqrt(c) * limit)  # 64 as in `exp`
  over = half > most
  short = jnp.where(over, most / jnp.where(over, half, 1), 1) * rate
  half = jnp.where(over, most, half)
  k = jnp.where(beyond, 0, -0.25 * alpha * numerics.tanh_over(half) * short)  # u = k g
  uu = jnp.tanh(half) ** 2
  sum_x_u = x + k[..., None] * g
  den = c * numerics.dot(sum_x_u, sum_x_u) + alpha * (1 - uu)
  by = alpha / jnp.where(den > 0, den, 1)
  alpha_y = by * (1 - uu)
  small = numerics.eps(x.dtype)
  out = alpha_y < ball.MARGIN * small
  root = jnp.sqrt(1 - jnp.where(out, alpha_y, 0))
  past = jnp.where(out, root / (1 - ball.MARGIN * small), 1)
  # Quotients, which XLA finds once a row: products it would find anew for every coordinate.
  return ((1 + by * uu) / past)[..., None] * x + (by * k / past)[..., None] * g


@_descend.defjvp
def _descend_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """Differentiates exp of the gradient, whose derivative is finite everywhere."""

  def plain(x: Array, g: Array, rate: Array, c: Array, limit: Array) -> Array:
    return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)

  return _descend(*primals), jax.jvp(plain, primals, tangents)[1]


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, d] to y [..., m, d], [..., n, m], from ‖x‖² + ‖y‖² − 2x·y.

  sinh²(√c d/2) has an absolute error of about eps·c(‖x‖² + ‖y‖²)/(α_x α_y): at radius r, pairs
  closer than √eps·e^r/2 count as coincident, at distance 0 with gradient 0. `dist` has no such
  floor.
  """
  square = _pairwise_square(x, y, c)
  return numerics.arc(numerics.safe_sqrt(square, 0), jnp.asarray(c, square.dtype))


def pairwise_affinity(x: Array, y: Array, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m], by products where 2/√c is whole; c is a fixed number."""
  return numerics.arc_affinity(_pairwise_square(x, y, c), c)


def _pairwise_square(x: Array, y: Array, c: Array) -> Array:
  """Squared half chords sinh²(√c d/2)/c, [..., n, m], 0 for noise."""
  # The least α belongs to all points beyond the ball: limit what overflows, not every entry.
  (x, alpha_x), (y, alpha_y) = lift(x, c=c), lift(y, c=c)
  most = 4 / jnp.asarray(c, x.dtype)
  (r_x, far_x), (r_y, far_y) = (numerics.bounded_square(z, most) for z in (x, y))
  x, y = (jnp.where(far[..., None], 0, z) for far, z in ((far_x, x), (far_y, y)))
  return _square(x, r_x, alpha_x, y, r_y, alpha_y)


@jax.custom_jvp
def _square(x: Array, r_x: Array, alpha_x: Array, y: Array, r_y: Array, alpha_y: Array) -> Array:
  """‖x − y‖²/(α_x α_y), [..., n, m], from points, their squares r and α."""
  total = r_x[..., :, None] + r_y[..., None, :]
  square = total - 2 * numerics.dots(x, y)
  square = jnp.where(square > numerics.noise(x.dtype) * total, square, 0)
  return square / (alpha_x[..., :, None] * alpha_y[..., None, :])


@_square.defjvp
def _square_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """By products of (−2x, r, 1) with (y, 1, r): what a gradient sums, one matrix product sums."""
  (x, r_x, alpha_x, y, r_y, alpha_y), (dx, dr_x, dalpha_x, dy, dr_y, dalpha_y) = primals, tangents
  a_x, a_y = alpha_x[..., :, None], alpha_y[..., None, :]
  square = _square(*primals)
  if 1 in (x.shape[-2], y.shape[-2]):  # nothing to sum on one side
    by_x = dr_x[..., :, None] - 2 * numerics.dots(dx, y)
    by_y = dr_y[..., None, :] - 2 * numerics.dots(x, dy)
  else:
    join = lambda *parts: jnp.concatenate(parts, axis=-1)
    (r_x, dr_x), (r_y, dr_y) = (
      (r[..., None], dr[..., None]) for r, dr in ((r_x, dr_x), (r_y, dr_y))
    )
    by_x = numerics.dots(join(-2 * dx, dr_x), join(y, jnp.ones_like(r_y)))
    by_y = numerics.dots(join(x, jnp.ones_like(r_x)), join(-2 * dy, dr_y))
  by_alpha = dalpha_x[..., :, None] / a_x + dalpha_y[..., None, :] / a_y
  return square, (by_x + by_y) / (a_x * a_y) - square * by_alpha


def query(x: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] with inner product ‖x − y‖²/α_y − ‖x‖²: α_x sinh²(√c d/2)/c − ‖x‖².

  Resolves that to about eps·(‖x‖² + ‖y‖²)/α_y.
  """
  c = jnp.asarray(c, x.dtype)
  x = ball.point(x, c)
  return jnp.concatenate([-2 * x, 1 + c * numerics.dot(x, x)[..., None]], axis=-1)


def key(y: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] for `query`: y/α_y and ‖y‖²/α_y."""
  c = jnp.asarray(c, y.dtype)
  y = ball.point(y, c)
  features = jnp.concatenate([y, numerics.dot(y, y)[..., None]], axis=-1)
  return features / ball.alpha(y, c)[..., None]


def busemann(x: Array, p: Array, *, c: Scalar = 1.0) -> Array:
  """Busemann function of the ideal point p/√c [..., d], ‖p‖ = 1, [...].

  lim d(x, γ(t)) − t along the geodesic γ from the origin to it: log(‖p − √c x‖²/α_x)/√c.
  """
  c = jnp.asarray(c, x.dtype)
  gap = numerics.safe_norm(p - jnp.sqrt(c) * proj(x, c=c))
  tiny = numerics.eps(x.dtype) ** 2  # x is inside, so the gap is 0 by rounding alone
  gap = jnp.where(gap > tiny, gap, tiny)
  return (2 * jnp.log(gap) - jnp.log(ball.alpha(x, c))) / jnp.sqrt(c)


def log_volume(x: Array, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the volume element √det g, [...]: d log λ_x."""
  return x.shape[-1] * jnp.log(2 / ball.alpha(x, jnp.asarray(c, x.dtype)))


SIGN = -1  # of the sectional curvature


def from_frame(w: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent w/2 at the origin, [..., d], of coordinates w in an orthonormal frame."""
  return 0.5 * w


def to_frame(v: Array, *, c: Scalar = 1.0) -> Array:
  """Coordinates in that frame of the tangent v at the origin, [..., d]."""
  return 2 * v


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
