"""Hyperbolic space in horospherical coordinates, to any depth: K = −c, c > 0.

A point is (s, p, p', p''), [..., 3 d − 2]: the logarithm s of its height in the upper half-space
and its horizontal position in ℝ^(d−1), an unevaluated sum p + p' + p'' of three numbers. The metric
is (e^(−2s)‖dp‖² + ds²)/c. At distance r below the origin heights are e^−r, so where positions have
one number a coordinate all points are blurred from e^r = 1/eps on, in this chart as in any other.
Here they have three times the digits, and are subtracted exactly: distances, of close points too,
are accurate to a few eps·r at every radius up to `reach`/√c.
A tangent has the shape of a point; its first d entries count, the others are 0.
Leading axes broadcast. `c` may be traced, so it can be learned; all it does is scale lengths.
Notation: h = e^s, δ = s_y − s_x, b = (p_y − p_x)/√(h_x h_y), and the frame (e^−s v_p, v_s) of v.
Then sinh²(√c d/2) = ‖b‖²/4 + sinh²(δ/2); ‖b‖ is limited to √(largest number)/16, which is a
distance of 83/√c in float32.
Source: the half-space of [cannon1997hyperbolic] §7, in the logarithm of the height.
"""

import math
import sys

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base
from geoemb.typing import Array, Key, Scalar


def reach(dtype: jnp.dtype) -> float:
  """The largest |s|, and the logarithm of the largest ‖p‖: 42 in float32, 353 in float64."""
  return math.asinh(numerics.root_max(dtype))


def _parts(x: Array) -> tuple[Array, tuple[Array, Array, Array]]:
  """Of a point: s [...] within reach, and the parts of its position, [..., d − 1] each."""
  n = (x.shape[-1] - 1) // 3
  if x.shape[-1] != 3 * n + 1 or n < 1:
    raise ValueError(f"a point has 3 d − 2 coordinates, d ≥ 2, got {x.shape[-1]}")
  limit = numerics.root_max(x.dtype, n)
  s = numerics.bound(x[..., 0], reach(x.dtype))
  return s, tuple(numerics.bound(x[..., 1 + i * n : 1 + (i + 1) * n], limit) for i in range(3))


def _join(s: Array, p: Array, *rest: Array) -> Array:
  """A point, or without `rest` a tangent, [..., 3 d − 2]."""
  rest = rest or (jnp.zeros_like(p), jnp.zeros_like(p))
  return jnp.concatenate([s[..., None], p, *rest], axis=-1)


def _frame(s: Array, v: Array) -> tuple[Array, Array]:
  """The frame (e^−s v_p [..., d − 1], v_s [...]) of a tangent at height e^s.

  Its entries are limited to 1e15 in float32, which leaves room for squares and derivatives.
  """
  n = (v.shape[-1] - 1) // 3
  limit = numerics.root_max(v.dtype) / 1024
  flat = _shrunk(numerics.bound(v[..., 1 : 1 + n], limit), s)
  return numerics.bound(flat, limit), numerics.bound(v[..., 0], limit)


@jax.custom_jvp
def _moved(p: tuple[Array, Array, Array], step: Array) -> tuple[Array, Array, Array]:
  """The position p + step in three parts without overlap, largest first."""
  first, low = numerics.two_sum(p[0], step)
  second, lower = numerics.two_sum(p[1], low)
  return _ordered(first, second, p[2] + lower)


def _ordered(first: Array, second: Array, third: Array) -> tuple[Array, Array, Array]:
  second, third = numerics.two_sum(second, third)
  first, second = numerics.two_sum(first, second)
  second, third = numerics.two_sum(second, third)
  return first, second, third


@_moved.defjvp
def _moved_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
  """The first part carries the derivative of all."""
  dp, dstep = tangents
  return _moved(*primals), (sum(dp) + dstep, jnp.zeros_like(dstep), jnp.zeros_like(dstep))


@jax.custom_jvp
def _between(p: tuple[Array, Array, Array], q: tuple[Array, Array, Array]) -> Array:
  """The difference q − p, [..., d − 1], rounded once."""
  first, low = numerics.two_sum(q[0], -p[0])
  second, lower = numerics.two_sum(q[1], -p[1])
  first, rest = numerics.two_sum(first, second)
  return first + (rest + (low + (lower + (q[2] - p[2]))))


@_between.defjvp
def _between_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  dp, dq = tangents
  return _between(*primals), sum(dq) - sum(dp)


@jax.custom_jvp
def _shrunk(p: Array, s: Array) -> Array:
  """The vectors e^−s p, [..., d − 1]."""
  return p * jnp.exp(-s)[..., None]


@_shrunk.defjvp
def _shrunk_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """By s it is the negative of itself; as a product, p alone would overflow."""
  (_, s), (dp, ds) = primals, tangents
  q = _shrunk(*primals)
  return q, dp * jnp.exp(-s)[..., None] - q * ds[..., None]


def _gap(x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
  """Of two points: b [..., d − 1] and δ, s_x, s_y [...]."""
  (s_x, p), (s_y, q) = _parts(x), _parts(y)
  b = _shrunk(_between(p, q), 0.5 * (s_x + s_y))
  limit = numerics.root_max(b.dtype)
  # A longer b keeps its direction; safe_norm's scaling is for what the product may have reached.
  length = numerics.safe_norm(b)
  over = length > limit
  short = jax.lax.stop_gradient(b * (limit / jnp.where(over, length, 1))[..., None])
  b = jnp.where(over[..., None], short, b)
  return b, s_y - s_x, s_x, s_y


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]: (e^(−2s) u_p·v_p + u_s v_s)/c."""
  c = jnp.asarray(c, x.dtype)
  s, _ = _parts(x)
  (u_p, u_s), (v_p, v_s) = _frame(s, u), _frame(s, v)
  return (numerics.dot(u_p, v_p) + u_s * v_s) / c


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  c = jnp.asarray(c, x.dtype)
  return _length(*_frame(_parts(x)[0], u)) / jnp.sqrt(c)


def _length(flat: Array, up: Array) -> Array:
  """Length of a frame, [...]."""
  return numerics.hypot(numerics.safe_norm(flat), up)


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1]: one second moment per point, so directions stay."""
  return inner(x, u, u, c=c)[..., None]


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...]: (2/√c) arcsinh √(‖b‖²/4 + sinh²(δ/2)); its gradient is 0 at x = y."""
  c = jnp.asarray(c, x.dtype)
  b, delta, _, _ = _gap(x, y)
  half = numerics.hypot(0.5 * numerics.norm(b), jnp.sinh(0.5 * delta))
  return 2 * numerics.asinh(half) / jnp.sqrt(c)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist²."""
  c = jnp.asarray(c, x.dtype)
  b, delta, _, _ = _gap(x, y)
  square = 0.25 * numerics.dot(b, b) + jnp.square(jnp.sinh(0.5 * delta))
  return numerics.arc_square(square, jnp.ones_like(c)) / c


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., 3 d − 2], projected as by `proj`.

  With a the frame of v times sinh(L)/L, L = √c‖v‖: heights fall by cosh L − a_s, which is
  (1 + ‖a_p‖²)/(cosh L + a_s), whichever cancels nothing, and the foot moves by a_p over that.
  Tangents longer than `limit`, or than `reach`/√c, are shortened to it.
  """
  longest = _longest(x, jnp.asarray(c, x.dtype), limit)
  return _shoot(x, *_frame(_parts(x)[0], v), longest)


def _longest(x: Array, c: Array, limit: Scalar | None) -> Array:
  """The length of the longest step, times √c."""
  most = jnp.asarray(reach(x.dtype), x.dtype)
  if limit is None:
    return most
  limit = jnp.sqrt(c) * limit
  return jnp.where(limit < most, limit, most)


@jax.custom_jvp
def _shoot(x: Array, flat: Array, up: Array, longest: Array) -> Array:
  """`exp` from the frame of the velocity."""
  s, p = _parts(x)
  square, short = numerics.limit_square(numerics.dot(flat, flat) + up * up, longest)
  cosh, sinh_over = numerics.cosh_sinh_root(square)
  scale = sinh_over * short
  flat, up = flat * scale[..., None], up * scale
  rising = up > 0
  fall = jnp.where(
    rising,
    (1 + numerics.dot(flat, flat)) / jnp.where(rising, cosh + up, 1),
    cosh - jnp.where(rising, 0, up),
  )
  slow = jnp.where(square < 1, square, 0)
  rise = 0.5 * slow * jnp.square(numerics.cosh_sinh_root(0.25 * slow)[1])  # cosh − 1
  small = rise - up  # fall − 1
  near = (square < 1) & (jnp.abs(small) < 0.5)
  drop = jnp.where(near, jnp.log1p(jnp.where(near, small, 0)), jnp.log(fall))
  step = flat * numerics.divide(jnp.exp(s), fall)[..., None]
  return proj(_join(s - drop, *_moved(p, step)))


@_shoot.defjvp
def _shoot_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """It grows as e^(2 s + 4 L): steps beyond (reach − s⁺)/2 are differentiated as ones of that."""

  def plain(x: Array, flat: Array, up: Array, longest: Array) -> Array:
    s, _ = _parts(jax.lax.stop_gradient(x))
    most = 0.5 * (reach(x.dtype) - jnp.where(s > 0, s, 0))
    return _shoot.fun(x, flat, up, jnp.where(longest < most, longest, most))

  return _shoot(*primals), jax.jvp(plain, primals, tangents)[1]


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., 3 d − 2].

  Its frame is L/sinh L times (b e^(−δ/2), ‖b‖²/2 + sinh δ), L = √c d; by quotients that are at most
  2, as the factors would overflow.
  """
  b, delta, s, _ = _gap(x, y)
  sinh = jnp.sinh(0.5 * delta)
  half = numerics.hypot(0.5 * numerics.norm(b), sinh)
  over, cosh = numerics.asinh_over(half), numerics.hypot1(half)
  flat = b * (over * numerics.divide(jnp.exp(-0.5 * delta), cosh) * jnp.exp(s))[..., None]
  up = 0.5 * numerics.dot(b, numerics.divide(b, cosh[..., None]))
  up = up + sinh * numerics.divide(2 * jnp.cosh(0.5 * delta), cosh)
  return _join(over * up, flat)


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., 3 d − 2].

  A rotation of the frame in the plane of b and the vertical, by 2 arctan(‖b‖/2 / cosh(δ/2)).
  """
  b, delta, s_x, s_y = _gap(x, y)
  flat, up = _frame(s_x, v)
  b, cosh = 0.5 * b, jnp.cosh(0.5 * delta)
  root = numerics.hypot(numerics.norm(b), cosh)
  b, cosh = numerics.divide(b, root[..., None]), numerics.divide(cosh, root)
  along = numerics.dot(b, flat)
  flat = flat + (2 * (cosh * up - along))[..., None] * b
  up = up - 2 * (cosh * along + numerics.dot(b, b) * up)
  return _join(up, flat * jnp.exp(s_y)[..., None])


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point x with its parts in order and within `reach`, [..., 3 d − 2]."""
  s, p = _parts(x)
  return _join(s, *_moved(p, jnp.zeros_like(p[0])))


def displacement(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """An array whose floating-point sum with x is y, [..., 3 d − 2], to all of y's digits.

  What the sum rounds off in one part is moved on to the next.
  """
  n = (x.shape[-1] - 1) // 3
  cut = lambda z: (z[..., 1 + i * n : 1 + (i + 1) * n] for i in range(3))
  (x1, x2, x3), (y1, y2, y3) = cut(x), cut(y)
  u1 = y1 - x1
  y2, low = numerics.two_sum(y2, y1 - (x1 + u1))
  u2 = y2 - x2
  u3 = (y3 + low + (y2 - (x2 + u2))) - x3
  return jnp.concatenate([y[..., :1] - x[..., :1], u1, u2, u3], axis=-1)


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient, [..., 3 d − 2]: c (e^(2s) g_p, g_s), from the entries of g for s and p.

  Those for p' and p'' repeat the gradient by p.
  """
  c = jnp.asarray(c, x.dtype)
  s, _ = _parts(x)
  flat, up = _frame(-s, g)
  return _join(c * jnp.broadcast_to(up, flat.shape[:-1]), flat * (c * jnp.exp(s))[..., None])


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [...]; longer steps are cut to `limit`."""
  c, most = jnp.asarray(c, x.dtype), numerics.root_max(x.dtype) / 1024
  eta = numerics.bound(-c * jnp.asarray(rate, x.dtype), most)
  flat, up = (numerics.bound(eta * a, most) for a in _frame(-_parts(x)[0], g))
  return _shoot(x, flat, up, _longest(x, c, limit))


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point with log-height s + v_s and foot p + v_p, [..., 3 d − 2]."""
  s, p = _parts(x)
  n = p[0].shape[-1]
  step = numerics.bound(v[..., 1 : 1 + n], numerics.root_max(x.dtype))
  return proj(_join(s + numerics.bound(v[..., 0], reach(x.dtype)), *_moved(p, step)), c=c)


def random(
  key: Key,
  shape: tuple[int, ...],
  dim: int,
  *,
  scale: Scalar = 1e-3,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Points with s and p uniform in [−scale, scale], [*shape, 3 dim − 2]."""
  x = scale * jax.random.uniform(key, (*shape, dim), dtype, minval=-1, maxval=1)
  return proj(_join(x[..., 0], x[..., 1:]), c=c)


def origin(
  shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Scalar = 1.0
) -> Array:
  """Zeros, [*shape, 3 dim − 2]: height 1 above 0."""
  return jnp.zeros((*shape, 3 * dim - 2), dtype)


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, 3 d − 2] to y [..., m, 3 d − 2], [..., n, m], as accurate as `dist`.

  By differences, [..., n, m, d − 1] of them: inner products would lose the depth.
  """
  return dist(x[..., :, None, :], y[..., None, :, :], c=c)


def pairwise_affinity(x: Array, y: Array, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m]."""
  return jnp.exp(-pairwise(x, y, c=c))


def query(x: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] with inner product 2 h_x cosh(√c d), resolved to eps of its terms."""
  s, p = _parts(x)
  p = numerics.bound(sum(p[::-1]), numerics.root_max(x.dtype, p[0].shape[-1]))
  square = numerics.dot(p, p) + jnp.exp(2 * s)
  return jnp.concatenate([-2 * p, jnp.ones_like(s)[..., None], square[..., None]], axis=-1)


def key(y: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] for `query`: (p, ‖p‖² + h², 1)/h."""
  s, p = _parts(y)
  p = sum(p[::-1])
  most = numerics.root_max(y.dtype, p.shape[-1])
  q = numerics.bound(p * jnp.exp(-0.5 * s)[..., None], most)
  square, inverse = numerics.dot(q, q) + jnp.exp(s), jnp.exp(-s)[..., None]
  return jnp.concatenate([p * inverse, square[..., None], inverse], axis=-1)


def from_lorentz(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point of the Lorentz chart [..., d] in this one, [..., 3 d − 2], blurred as that one is.

  h = 1/(T − X_1) and p = h (X_2, …), T = √(1 + ‖X‖²), X = √c x.
  """
  c = jnp.asarray(c, x.dtype)
  x = numerics.bound(jnp.sqrt(c) * numerics.bound(x, numerics.root_max(x.dtype) / jnp.sqrt(c)),
                     numerics.root_max(x.dtype))  # fmt: skip
  first, rest = x[..., 0], x[..., 1:]
  flat = numerics.dot(rest, rest)
  t = jnp.sqrt(1 + first * first + flat)
  ahead = first > 0
  height = jnp.where(ahead, (t + first) / (1 + flat), 1 / (t - jnp.where(ahead, 0, first)))
  return proj(_join(jnp.log(height), rest * height[..., None]), c=c)


def to_lorentz(x: Array, *, c: Scalar = 1.0) -> Array:
  """The same point in the Lorentz chart, [..., d], rounded to it.

  X = (h² + ‖p‖² − 1, 2 p)/(2 h).
  """
  c = jnp.asarray(c, x.dtype)
  s, p = _parts(x)
  most, root = numerics.root_max(x.dtype), jnp.exp(-0.5 * s)[..., None]
  p = numerics.bound(sum(p[::-1]) * root, math.sqrt(most))
  first = jnp.sinh(s) + 0.5 * numerics.dot(p, p)
  return jnp.concatenate([first[..., None], numerics.bound(p * root, most)], -1) / jnp.sqrt(c)


def log_volume(x: Array, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the volume element √det g of (s, p), [...]: −(d − 1) s − d/2 log c."""
  s, (p, *_) = _parts(x)
  d = p.shape[-1] + 1
  return (1 - d) * s - 0.5 * d * jnp.log(jnp.asarray(c, x.dtype))


def saturated(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where points are farther than (`reach` − 1)/√c from the origin, [...] bool.

  One step is no longer than `reach`, and heights and positions end there.
  """
  o = jnp.zeros_like(x)
  return dist(o, x) >= reach(x.dtype) - 1


SIGN = -1  # of the sectional curvature


def from_frame(w: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent at the origin, [..., 3 d − 2], of coordinates w [..., d] in a frame there."""
  w = w * jnp.sqrt(jnp.asarray(c, w.dtype))
  return _join(w[..., 0], w[..., 1:])


def to_frame(v: Array, *, c: Scalar = 1.0) -> Array:
  """Coordinates in that frame of the tangent v at the origin, [..., d]."""
  return v[..., : (v.shape[-1] + 2) // 3] / jnp.sqrt(jnp.asarray(c, v.dtype))


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
