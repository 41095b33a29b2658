"""Upper half-space: points (p, h) with height h > 0 last, sectional curvature K = −c, c > 0.

Points and tangents are [..., d], p the first d − 1 entries; leading axes broadcast. The metric is
(‖dp‖² + dh²)/(c h²), so angles are those of ℝ^d. `c` may be traced, so it can be learned; all it
does is scale lengths, and there is no flat limit.
Heights are kept within [2^−30, 2^30] in float32, [2^−240, 2^240] in float64, entries of p up to the
larger: radii of 20.8 and 166, over √c, straight up or down. Points beside the vertical through the
origin are blurred from e^r = 1/eps on, where their position has no digit left at their height;
those near the origin, whose heights are near 1, by eps and not by eps times their radius.
Notation: δ = y − x, and the frame v/h of a tangent, whose length is √c times that of v.
Source: the half-space of [cannon1997hyperbolic] §7.
"""

import math
import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base
from geoemb.typing import Array, Key, Scalar


def top(dtype: jnp.dtype) -> float:
  """The largest height, and inverse of the smallest: 2^30 in float32, 2^240 in float64.

  Squared half chords are then at most d·top⁴, which is finite for 256 coordinates.
  """
  return 2.0 ** (jnp.finfo(dtype).maxexp * 15 // 64)


def _split(x: Array) -> tuple[Array, Array]:
  """Position [..., d − 1] and height [...] of a point, within their limits."""
  most = top(x.dtype)
  p, h = numerics.bound(x[..., :-1], most), x[..., -1]
  return p, jnp.where(h > most, most, jnp.where(h < 1 / most, 1 / most, h))


def _join(p: Array, h: Array) -> Array:
  """The point or tangent (p, h), [..., d]."""
  return jnp.concatenate([p, h[..., None]], axis=-1)


def _longest_frame(dtype: jnp.dtype) -> float:
  """The limit on entries of a frame: 2^40 in float32, so that squares over a height are finite."""
  return 2.0 ** (jnp.finfo(dtype).maxexp * 5 // 16)


def _frame(h: Array, v: Array) -> Array:
  """The frame v/h of a tangent at height h, [..., d]."""
  h = h[..., None]
  return numerics.divide(numerics.bound(v, _longest_frame(v.dtype) * h), h)


def _coframe(h: Array, g: Array) -> Array:
  """The frame h g of a covector at height h, [..., d]."""
  h = h[..., None]
  return numerics.bound(g, numerics.divide(_longest_frame(g.dtype), h)) * h


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]: u·v/(c h²)."""
  c = jnp.asarray(c, x.dtype)
  _, h = _split(x)
  return numerics.dot(_frame(h, u), _frame(h, v)) / c


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]: ‖u‖/(√c h); its gradient is 0 at u = 0."""
  c = jnp.asarray(c, x.dtype)
  return numerics.safe_norm(_frame(_split(x)[1], u)) / jnp.sqrt(c)


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1]: one second moment per point, so directions stay."""
  return inner(x, u, u, c=c)[..., None]


def _gap(x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
  """δ [..., d], the heights h_x, h_y and the half chord ‖δ‖/(2 √(h_x h_y)), [...]."""
  (p, h_x), (q, h_y) = _split(x), _split(y)
  delta = _join(q - p, h_y - h_x)
  return delta, h_x, h_y, _half(numerics.norm(delta), h_x, h_y)


def _half(length: Array, h_x: Array, h_y: Array) -> Array:
  """The half chord sinh(√c d/2), [...], of points whose coordinates are `length` apart."""
  return numerics.divide(0.5 * length, jnp.sqrt(h_x * h_y))


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...]: (2/√c) arcsinh(‖y − x‖/(2 √(h_x h_y))); its gradient at x = y is 0.

  Every step is accurate to rounding, for every pair of points.
  """
  c = jnp.asarray(c, x.dtype)
  return 2 * numerics.asinh(_gap(x, y)[3]) / jnp.sqrt(c)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist²."""
  c = jnp.asarray(c, x.dtype)
  delta, h_x, h_y, _ = _gap(x, y)
  b = numerics.divide(delta, jnp.sqrt(h_x * h_y)[..., None])
  b = numerics.bound(b, numerics.root_max(x.dtype))
  return numerics.arc_square(0.25 * numerics.dot(b, b), jnp.ones_like(c)) / c


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., d], projected as by `proj`.

  With a the frame of v times sinh(L)/L, L = √c‖v‖: heights fall by cosh L − a_h, which is
  (1 + ‖a_p‖²)/(cosh L + a_h), whichever cancels nothing, and p moves by h a_p over that.
  Tangents longer than `limit`, or than the way from the largest height to the smallest, are
  shortened to it.
  """
  return _shoot(x, _frame(_split(x)[1], v), _longest(x, jnp.asarray(c, x.dtype), limit))


def _longest(x: Array, c: Array, limit: Scalar | None) -> Array:
  """The length of the longest step, times √c."""
  most = jnp.asarray(2 * math.log(top(x.dtype)), x.dtype)
  if limit is None:
    return most
  limit = jnp.sqrt(c) * limit
  return jnp.where(limit < most, limit, most)


@jax.custom_jvp
def _shoot(x: Array, frame: Array, longest: Array) -> Array:
  """`exp` from the frame of the velocity."""
  p, h = _split(x)
  square, short = numerics.limit_square(numerics.dot(frame, frame), longest)
  cosh, sinh_over = numerics.cosh_sinh_root(square)
  a = frame * (sinh_over * short)[..., None]
  flat, up = a[..., :-1], a[..., -1]
  rising = up > 0
  fall = jnp.where(
    rising,
    numerics.divide(1 + numerics.dot(flat, flat), jnp.where(rising, cosh + up, 1)),
    cosh - jnp.where(rising, 0, up),
  )
  end = numerics.divide(h, fall)
  return proj(_join(p + flat * end[..., None], end))


@_shoot.defjvp
def _shoot_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """It grows as e^2L: steps longer than log(top) are differentiated as ones of that length."""

  def plain(x: Array, frame: Array, longest: Array) -> Array:
    most = math.log(top(x.dtype))
    return _shoot.fun(x, frame, jnp.where(longest < most, longest, most))

  return _shoot(*primals), jax.jvp(plain, primals, tangents)[1]


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., d].

  D/sinh D times (h_x δ_p, (‖δ_p‖² + δ_h (h_x + h_y))/2)/h_y, D = √c d.
  """
  delta, h_x, h_y, half = _gap(x, y)
  over = numerics.asinh_over(half) / numerics.hypot1(half)
  flat, up = delta[..., :-1], delta[..., -1]
  turn = numerics.divide(0.5 * (numerics.dot(flat, flat) + up * (h_x + h_y)), h_y)
  return _join(flat * (over * numerics.divide(h_x, h_y))[..., None], over * turn)


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., d].

  A rotation of the frame in the plane of δ_p and the vertical, by 2 arctan(‖δ_p‖/(h_x + h_y)).
  """
  delta, h_x, h_y, _ = _gap(x, y)
  w = numerics.unit(_join(delta[..., :-1], h_x + h_y))
  frame = _frame(h_x, v)
  (w, w_h), (flat, up) = ((a[..., :-1], a[..., -1]) for a in (w, frame))
  along = numerics.dot(w, flat)
  flat = flat + (2 * (w_h * up - along))[..., None] * w
  up = up - 2 * (w_h * along + numerics.dot(w, w) * up)
  return _join(flat, up) * h_y[..., None]


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point x with its height within [1/top, top] and entries of p up to `top`, [..., d]."""
  return _join(*_split(x))


def displacement(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """The difference y − x, [..., d], its height above −(1 − 2 eps) h_x.

  A sum in floating point resolves no height below eps h_x; so that it stays positive, falls of
  more than the 15 in float32, or 35 in float64, end there.
  """
  delta = y - x
  least = -(1 - 2 * numerics.eps(x.dtype)) * x[..., -1]
  return _join(delta[..., :-1], jnp.where(delta[..., -1] < least, least, delta[..., -1]))


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient, [..., d]: c h² g."""
  c = jnp.asarray(c, x.dtype)
  _, h = _split(x)
  return _coframe(h, g) * (c * h)[..., None]


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d]; longer steps are cut to `limit`."""
  c = jnp.asarray(c, x.dtype)
  eta = -c * jnp.asarray(rate, x.dtype)
  frame = numerics.bound(eta * _coframe(_split(x)[1], g), _longest_frame(x.dtype))
  return _shoot(x, frame, _longest(x, c, limit))


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point (p + v_p, h e^(v_h/h)), projected, [..., d]: its height stays positive."""
  p, h = _split(x)
  most = top(x.dtype)
  rise = numerics.bound(_frame(h, v)[..., -1], 2 * math.log(most))
  return proj(_join(p + numerics.bound(v[..., :-1], 2 * most), h * jnp.exp(rise)))


def random(
  key: Key,
  shape: tuple[int, ...],
  dim: int,
  *,
  scale: Scalar = 1e-3,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Points with p and log h uniform in [−scale, scale], [*shape, dim]."""
  x = scale * jax.random.uniform(key, (*shape, dim), dtype, minval=-1, maxval=1)
  return proj(_join(x[..., :-1], jnp.exp(x[..., -1])))


def origin(
  shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Scalar = 1.0
) -> Array:
  """The point (0, …, 0, 1), [*shape, dim]."""
  return jnp.zeros((*shape, dim), dtype).at[..., -1].set(1)


def _centered(x: Array) -> tuple[Array, Array, Array]:
  """The point x less the origin [..., d], the square of that and the height, [...]."""
  p, h = _split(x)
  x = _join(p, h - 1)
  return x, numerics.dot(x, x), h


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, d] to y [..., m, d], [..., n, m], from inner products.

  With o the origin, 4 sinh²(√c d/2) has an absolute error of about eps·(‖x−o‖² + ‖y−o‖²)/(h_x h_y):
  at height h beside the origin, pairs closer than √eps/h count as coincident, at distance 0 with
  gradient 0. `dist` has no such floor.
  """
  c = jnp.asarray(c, x.dtype)
  (x, r_x, h_x), (y, r_y, h_y) = _centered(x), _centered(y)
  total = r_x[..., :, None] + r_y[..., None, :]
  square = total - 2 * numerics.dots(x, y)
  length = numerics.safe_sqrt(square, numerics.noise(x.dtype) * total)
  return 2 * numerics.asinh(_half(length, h_x[..., :, None], h_y[..., None, :])) / jnp.sqrt(c)


def pairwise_affinity(x: Array, y: Array, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m]."""
  return jnp.exp(-pairwise(x, y, c=c))


def query(x: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 2] with inner product ‖x − y‖²/h_y, that is 4 h_x sinh²(√c d/2).

  Resolves that to about eps·(‖x − o‖² + ‖y − o‖²)/h_y with o the origin.
  """
  x, r, _ = _centered(x)
  return jnp.concatenate([-2 * x, jnp.ones_like(r)[..., None], r[..., None]], axis=-1)


def key(y: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 2] for `query`: (y − o, ‖y − o‖², 1)/h_y."""
  y, r, h = _centered(y)
  features = jnp.concatenate([y, r[..., None], jnp.ones_like(r)[..., None]], axis=-1)
  return numerics.divide(features, h[..., None])


def from_lorentz(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point of the Lorentz chart [..., d] in this one, [..., d].

  h = 1/(T − X_1) and p = h (X_2, …), T = √(1 + ‖X‖²), X = √c x.
  """
  c = jnp.asarray(c, x.dtype)
  most = top(x.dtype)
  x = jnp.sqrt(c) * numerics.bound(x, most / jnp.sqrt(c))
  first, rest = x[..., 0], x[..., 1:]
  flat = numerics.dot(rest, rest)
  t = jnp.sqrt(1 + first * first + flat)
  ahead = first > 0
  fall = jnp.where(
    ahead, numerics.divide(1 + flat, t + jnp.where(ahead, first, 0)), t - jnp.where(ahead, 0, first)
  )
  height = 1 / fall
  return proj(_join(rest * height[..., None], height))


def to_lorentz(x: Array, *, c: Scalar = 1.0) -> Array:
  """The same point in the Lorentz chart, [..., d]: X = (h² + ‖p‖² − 1, 2 p)/(2 h), X = √c x."""
  c = jnp.asarray(c, x.dtype)
  p, h = _split(x)
  first = numerics.divide(0.5 * ((h - 1) * (h + 1) + numerics.dot(p, p)), h)
  rest = numerics.divide(p, h[..., None])
  return jnp.concatenate([first[..., None], rest], axis=-1) / jnp.sqrt(c)


def log_volume(x: Array, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the volume element √det g, [...]: −d log(√c h)."""
  c = jnp.asarray(c, x.dtype)
  return -x.shape[-1] * (jnp.log(_split(x)[1]) + 0.5 * jnp.log(c))


RULE = "a height above 0"


def broken(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where RULE does not hold, [...] bool."""
  return ~(x[..., -1] > 0)


def saturated(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where points are at a limit of heights or positions, [...] bool."""
  most = top(x.dtype) * (1 - 4 * numerics.eps(x.dtype))
  p, h = _split(x)
  return (h >= most) | (h * most <= 1) | jnp.any(jnp.abs(p) >= most, axis=-1)


SIGN = -1  # of the sectional curvature


def from_frame(w: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent √c w at the origin, [..., d], of coordinates w in an orthonormal frame."""
  return w * jnp.sqrt(jnp.asarray(c, w.dtype))


def to_frame(v: Array, *, c: Scalar = 1.0) -> Array:
  """Coordinates in that frame of the tangent v at the origin, [..., d]."""
  return v / jnp.sqrt(jnp.asarray(c, v.dtype))


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
