"""Hyperbolic space in the Lorentz model, kept by its spatial coordinates: K = −c, c > 0.

A point is x ∈ ℝ^d, [..., d], any x; it stands for the ambient point (t, x) with time
t = √(1/c + ‖x‖²), on the sheet t² − ‖x‖² = 1/c. A tangent is the spatial part v of the ambient
tangent, whose time part is x·v/t. Leading axes broadcast. `c` may be traced, so it can be learned.
Without a stored time there is nothing to drift off the sheet and no t² − ‖x‖² to cancel.
Notation: T_x = √c t = √(1 + c‖x‖²) = cosh a, where a is √c times the distance from the origin.
As c → 0 every formula tends to the flat one.
Squares have to be finite, so norms are capped: at √(largest number)/16, or that over √c where
c > 1. That is a radius of 42 (float32) or 352 (float64), over √c; less by log √(d/32) for d > 32.
Source: [nickel2018lorentz] §3.
"""

import math
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import ball, base
from geoemb.typing import Array, Key, Scalar


def _cap(x: Array, c: Array) -> Array:
  """The largest norm of a point, [], given any array [..., d] of points or tangents."""
  root = jnp.sqrt(c)
  return numerics.root_max(c.dtype, x.shape[-1]) / jnp.where(root > 1, root, 1)


def _time(x: Array, c: Array) -> Array:
  """T, [...]."""
  return jnp.sqrt(1 + c * numerics.dot(x, x))


def _split(x: Array, u: Array, c: Array) -> tuple[Array, Array, Array]:
  """The parts of a tangent u at x.

  Returns:
    u_s [..., d], across x; w [...], the length of the part along x; and u_s + x̂ w/T [..., d], the
    covector of u.
  """
  r = numerics.norm(x)
  n = x / jnp.where(r > 0, r, 1)[..., None]
  u_r = numerics.dot(n, u)
  u_s = u - u_r[..., None] * n
  t = _time(x, c)
  w = u_r / t
  return u_s, w, u_s + n * (w / t)[..., None]


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]: u·v − c(x·u)(x·v)/T².

  By parts along and across x: the metric shrinks the first by T, and the difference as written
  would lose all of it from T² = 1/eps on.
  """
  c = jnp.asarray(c, x.dtype)
  cap = _cap(x, c)
  return _inner(*(numerics.bound(z, cap) for z in (x, u, v)), c)


@jax.custom_jvp
def _inner(x: Array, u: Array, v: Array, c: Array) -> Array:
  (u_s, u_w, _), (v_s, v_w, _) = _split(x, u, c), _split(x, v, c)
  return numerics.dot(u_s, v_s) + u_w * v_w


@_inner.defjvp
def _inner_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """With the covectors ũ, ṽ of u, v: ∂/∂u = ṽ and ∂/∂x = −c(u_x ṽ + v_x ũ), u_x = x·u/T².

  The derivative of the parts themselves would be singular at the origin.
  """
  (x, u, v, c), (dx, du, dv, dc) = primals, tangents
  u_c, v_c = _split(x, u, c)[2], _split(x, v, c)[2]
  short = _shortened(x, c)
  u_x, v_x = numerics.dot(short, u), numerics.dot(short, v)
  by_x = u_x * numerics.dot(v_c, dx) + v_x * numerics.dot(u_c, dx)
  tangent = numerics.dot(v_c, du) + numerics.dot(u_c, dv) - c * by_x - u_x * v_x * dc
  return _inner(x, u, v, c), tangent


def _shortened(x: Array, c: Array) -> Array:
  """x/T², [..., d]."""
  return x / (1 + c * numerics.dot(x, x))[..., None]


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  c = jnp.asarray(c, x.dtype)
  return _norm(numerics.bound(x, _cap(x, c)), u, c)


@jax.custom_jvp
def _norm(x: Array, u: Array, c: Array) -> Array:
  u_s, w, _ = _split(x, u, c)
  return numerics.hypot(numerics.safe_norm(u_s), w)


@_norm.defjvp
def _norm_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """The derivative of ⟨u, u⟩ over twice the length."""
  (x, u, c), (dx, du, dc) = primals, tangents
  length = _norm(x, u, c)
  some = jnp.where(length > 0, length, 1)
  covector = _split(x, u, c)[2] / some[..., None]
  u_x = numerics.dot(_shortened(x, c), u)
  by_x = c * u_x * numerics.dot(covector, dx)
  return length, numerics.dot(covector, du) - by_x - 0.5 * u_x * (u_x / some) * dc


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1]: one second moment per point, so directions stay."""
  return inner(x, u, u, c=c)[..., None]


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...], from sinh²(√c d/2) = sinh²((a − b)/2) + c‖x‖‖y‖ sin²(θ/2).

  a, b are the radii and θ the angle at the origin. Both terms are found from x − y, which is
  exact for close points: d is accurate to rounding, 0 at x = y, and its gradient there is 0.
  """
  c = jnp.asarray(c, x.dtype)
  return numerics.arc(_half_chord(x, y, c), c)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist²."""
  c = jnp.asarray(c, x.dtype)
  return numerics.arc_square(_half_chord_square(x, y, c), c)


def _polar(x: Array, y: Array, c: Array) -> tuple:
  """What `_half_chord` and its derivative are made of.

  Returns:
    w [..., d] = x̂ − ŷ, x̂, ŷ [..., d]; then, [...], h = sinh(√c d/2)/√c, σ = sinh(a − b)/√c,
    ‖x‖, ‖y‖, T_x and T_y.
  """
  cap = _cap(x, c)
  x, y = numerics.bound(x, cap), numerics.bound(y, cap)
  r_x, r_y = numerics.norm(x), numerics.norm(y)
  n_x = x / jnp.where(r_x > 0, r_x, 1)[..., None]
  n_y = y / jnp.where(r_y > 0, r_y, 1)[..., None]
  t_x, t_y = _time(x, c), _time(y, c)
  delta = x - y
  r_sum = r_x + r_y
  rho = numerics.dot(delta, x + y) / jnp.where(r_sum > 0, r_sum, 1)
  # sinh(a − b) = (sinh² a − sinh² b) / (sinh a cosh b + cosh a sinh b)
  mixed = r_x * t_y + r_y * t_x
  sigma = rho * (r_sum / jnp.where(mixed > 0, mixed, 1))
  w = _across(delta, rho, x, y, r_x, r_y)
  # x̂ − ŷ and x̂ + ŷ are orthogonal: what rounding left of the latter is taken out, for the
  # derivative multiplies it by T². Beyond 120° the latter is the badly known one, and w is large.
  # The origin has no direction, and is at right angles to nothing.
  middle = n_x + n_y
  mm = numerics.dot(middle, middle)
  acute = (mm > 1) & (r_x > 0) & (r_y > 0)
  w = w - jnp.where(acute, numerics.dot(w, middle) / jnp.where(acute, mm, 1), 0)[..., None] * middle
  h_r = sigma / jnp.sqrt(2 * (1 + jnp.sqrt(1 + c * sigma * sigma)))
  h_s = jnp.sqrt(r_x) * jnp.sqrt(r_y) * 0.5 * numerics.norm(w)
  h = jnp.sqrt(h_r * h_r + h_s * h_s)
  return w, n_x, n_y, h, sigma, r_x, r_y, t_x, t_y


def _across(delta: Array, rho: Array, x: Array, y: Array, r_x: Array, r_y: Array) -> Array:
  """x̂ − ŷ, [..., d], as (δ − ρŷ)/‖x‖ with y the shorter, δ = x − y and ρ = ‖x‖ − ‖y‖.

  For close points on nearly one ray δ and ρŷ cancel. The product (ρ/‖y‖)y is therefore taken to
  half as many digits again, in parts, and those of its leading halves is exact.
  """
  first = r_x > r_y
  short = jnp.where(first[..., None], y, x)
  r_short, r_long = jnp.where(first, r_y, r_x), jnp.where(first, r_x, r_y)
  k = numerics.bound(rho / jnp.where(r_short > 0, r_short, 1), numerics.root_max(x.dtype))
  k_hi, k_lo = (half[..., None] for half in numerics.split(k))
  s_hi, s_lo = numerics.split(short)
  rest = numerics.rounded(k_hi * s_lo) + numerics.rounded(k_lo * short)
  return ((delta - k_hi * s_hi) - rest) / jnp.where(r_long > 0, r_long, 1)[..., None]


@jax.custom_jvp
def _half_chord(x: Array, y: Array, c: Array) -> Array:
  """sinh(√c d/2)/√c, [...]."""
  return _polar(x, y, c)[3]


@_half_chord.defjvp
def _half_chord_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """That of the square, over 2h."""
  h = _half_chord(*primals)
  scale = jnp.where(h > 0, 0.5 / jnp.where(h > 0, h, 1), 0)
  return h, scale * _square_slope(primals, tangents)


@jax.custom_jvp
def _half_chord_square(x: Array, y: Array, c: Array) -> Array:
  """sinh²(√c d/2)/c, [...]."""
  return jnp.square(_half_chord(x, y, c))


@_half_chord_square.defjvp
def _half_chord_square_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  return _half_chord_square(*primals), _square_slope(primals, tangents)


def _square_slope(primals: tuple, tangents: tuple) -> Array:
  """The derivative of h², [...]: ∂/∂x = (x T_y/T_x − y)/2 and ∂/∂c = −τ²/(4 T_x T_y).

  Where T_x − T_y = cτ. The covectors have smooth derivatives of their own.
  """
  (x, y, c), (dx, dy, dc) = primals, tangents
  cap = _cap(x, c)
  a, b = numerics.bound(x, cap), numerics.bound(y, cap)
  t_a, t_b = _time(a, c), _time(b, c)
  tau = numerics.dot(a - b, a + b) / (t_a + t_b)
  by_x, by_y = _covectors(a, b, c)
  by_c = -0.25 * (tau / t_a) * (tau / t_b)
  return 0.5 * (numerics.dot(by_x, dx) + numerics.dot(by_y, dy)) + by_c * dc


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., d]: cosh(L) x + (sinh(L)/L) v, L = √c‖v‖_x.

  The result is capped as by `proj`; tangents longer than `limit`, or than the cap's radius, are
  shortened to it.
  """
  c = jnp.asarray(c, x.dtype)
  cap = _cap(x, c)
  x, v = numerics.bound(x, cap), numerics.bound(v, cap)
  square = c * _inner(x, v, v, c)  # its root has no second derivative at 0, which L² has
  longest = math.asinh(numerics.root_max(x.dtype))
  if limit is not None:
    longest = jnp.minimum(longest, jnp.sqrt(c) * limit)
  square, short = numerics.limit_square(square, longest)
  cosh, scale = numerics.cosh_sinh_root(square)
  end = cosh[..., None] * x + (scale * short)[..., None] * v
  return _capped(end, numerics.bounded_norm, c)


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., d]: (D/sinh D)(y − x − (cosh D − 1) x), D = √c d."""
  c = jnp.asarray(c, x.dtype)
  cap = _cap(x, c)
  x, y = numerics.bound(x, cap), numerics.bound(y, cap)
  z = c * _half_chord_square(x, y, c)  # sinh² of D/2
  return _reach(z)[..., None] * (y - x) - _turn(z)[..., None] * x


def _reach(z: Array) -> Array:
  """D/sinh D, [...], from z = sinh²(D/2)."""
  return numerics.asinh_root_over(z) / jnp.sqrt(1 + z)


@jax.custom_jvp
def _turn(z: Array) -> Array:
  """D tanh(D/2), [...], from z = sinh²(D/2)."""
  return 2 * z * _reach(z)


@_turn.defjvp
def _turn_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """By (1 + D/sinh D)/(1 + z): what the factors' derivatives would cancel to."""
  (z,), (dz,) = primals, tangents
  return _turn(z), (1 + _reach(z)) / (1 + z) * dz


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., d]: v + c⟨y, v⟩/(1 + cosh(√c d)) (x + y).

  ⟨y, v⟩ is the Lorentz product of the ambient vectors, −(x T_y/T_x − y)·v.
  """
  c = jnp.asarray(c, x.dtype)
  cap = _cap(x, c)
  x, y, v = (numerics.bound(z, cap) for z in (x, y, v))
  across = c * numerics.dot(_covectors(x, y, c)[0], v)
  k = numerics.divide(across, 2 * (1 + c * _half_chord_square(x, y, c)))
  return v - k[..., None] * (x + y)


@jax.custom_jvp
def _covectors(x: Array, y: Array, c: Array) -> tuple[Array, Array]:
  """The vectors x T_y/T_x − y and y T_x/T_y − x, [..., d], by parts.

  The first is ‖y‖(x̂ − ŷ) + x̂ σ/T_x. Only so does the part along x, which the metric magnifies by
  T, keep its digits.
  """
  w, n_x, n_y, _, sigma, r_x, r_y, t_x, t_y = _polar(x, y, c)
  by_x = r_y[..., None] * w + n_x * (sigma / t_x)[..., None]
  return by_x, -r_x[..., None] * w - n_y * (sigma / t_y)[..., None]


@_covectors.defjvp
def _covectors_jvp(primals: tuple, tangents: tuple) -> tuple:
  """Of the forms as they are written, which are smooth at the origin; the parts are not.

  With n = x/T, which is never long: far out, products of x, a tangent and a cotangent overflow.
  """
  (x, y, c), (dx, dy, dc) = primals, tangents
  t_x, t_y = _time(x, c), _time(y, c)
  n_x, n_y = x / t_x[..., None], y / t_y[..., None]
  change = lambda n, x, dx: (c * numerics.dot(n, dx) + 0.5 * numerics.dot(n, x) * dc)[..., None]
  dt_x, dt_y = change(n_x, x, dx), change(n_y, y, dy)
  by_x = (t_y / t_x)[..., None] * (dx - n_x * dt_x) + n_x * dt_y - dy
  by_y = (t_x / t_y)[..., None] * (dy - n_y * dt_y) + n_y * dt_x - dx
  return _covectors(*primals), (by_x, by_y)


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point x, or its multiple at the cap on the norm where it is beyond, [..., d]."""
  return _capped(x, numerics.safe_norm, jnp.asarray(c, x.dtype))


def _capped(x: Array, norm: Callable[[Array], Array], c: Array) -> Array:
  cap = _cap(x, c)
  r = norm(x)
  out = r > cap
  return x * jnp.where(out, numerics.divide(cap, jnp.where(out, r, 1)), 1)[..., None]


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient, [..., d]: g + c(x·g) x, the inverse metric I + c x xᵀ."""
  c = jnp.asarray(c, x.dtype)
  cap = _cap(x, c)
  x = numerics.bound(x, cap)
  along = c * numerics.dot(x, numerics.bound(g, cap))
  return g + numerics.bound(along, cap)[..., None] * x


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d], from the covector g itself.

  In g the length is √(‖g‖² + c(x·g)²), a sum of squares, and the new time is a product: three inner
  products and one linear combination of x and g are all the work. Limits and caps as in `exp`, but
  a row of g whose square overflows moves nothing, and x has to be within the cap, as `proj` and
  `exp` leave it: from far beyond, a step ends at the origin.
  """
  limit = numerics.root_max(x.dtype) if limit is None else limit
  c, rate, limit = (jnp.asarray(s, x.dtype) for s in (c, rate, limit))
  return _descend(x, g, rate, c, limit)


@jax.custom_jvp
def _descend(x: Array, g: Array, rate: Array, c: Array, limit: Array) -> Array:
  cap = _cap(x, c)
  most = 4 * cap * cap
  xx, lost = numerics.bounded_square(x, most)
  gg, wild = numerics.bounded_square(g, numerics.root_max(x.dtype) ** 2)
  beyond = lost | wild
  s, n = jnp.where(beyond, 0, numerics.dot(x, g)), jnp.where(beyond, 0, jnp.sqrt(gg))
  length = jnp.sqrt(c) * rate * numerics.hypot(n, jnp.sqrt(c) * s)
  longest = jnp.minimum(math.asinh(numerics.root_max(x.dtype)), jnp.sqrt(c) * limit)
  over = length > longest
  short = jnp.where(over, longest / jnp.where(over, length, 1), 1) * rate
  length = jnp.where(over, longest, length)
  scale = jnp.where(beyond, 0, numerics.sinh_over(length) * short)
  grown = jnp.cosh(length) - c * s * scale  # times T: the new time
  t = jnp.sqrt(1 + c * xx) * grown
  out = t > jnp.sqrt(1 + c * cap * cap)
  far = jnp.where(out, t, 2)
  r = jnp.sqrt(far - 1) * jnp.sqrt(far + 1) / jnp.sqrt(c)
  past = jnp.where(lost, jnp.inf, jnp.where(out, r / cap, 1))
  # Quotients, which XLA finds once a row: products it would find anew for every coordinate.
  return (grown / past)[..., None] * x - (scale / past)[..., None] * g


@_descend.defjvp
def _descend_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """Differentiates exp of the gradient.

  It has a third power of T, so beyond the cap's two thirds (a radius of 28 in float32) x is held.
  """

  def plain(x: Array, g: Array, rate: Array, c: Array, limit: Array) -> Array:
    x = numerics.bound(x, _cap(x, c) * numerics.root_max(x.dtype) ** (-1 / 3))
    return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)

  return _descend(*primals), jax.jvp(plain, primals, tangents)[1]


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point x + v in the chart, capped, [..., d]."""
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
  """Points uniform in [−scale, scale] per spatial coordinate, [*shape, dim]."""
  return proj(scale * jax.random.uniform(key, (*shape, dim), dtype, minval=-1, maxval=1), c=c)


def origin(
  shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Scalar = 1.0
) -> Array:
  """Zeros, [*shape, dim]."""
  return jnp.zeros((*shape, dim), dtype)


def _height(r: Array, c: Array) -> Array:
  """(T − 1)/c = r²/(1 + T) from r² = ‖x‖²: how far the sheet has risen."""
  return numerics.divide(r, 1 + jnp.sqrt(1 + c * r))


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, d] to y [..., m, d], [..., n, m], from inner products.

  sinh²(√c d/2) has an absolute error of about eps·T_x T_y: at radius r, pairs closer than about
  √eps·e^r count as coincident, at distance 0 with gradient 0. `dist` has no such floor. Points
  beyond twice the cap, where `proj` and `exp` leave none, count as orthogonal to all others there.
  """
  c = jnp.asarray(c, x.dtype)
  return numerics.arc(numerics.safe_sqrt(_pairwise_square(x, y, c), 0), c)


def pairwise_affinity(x: Array, y: Array, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m], by products where 2/√c is whole; c is a fixed number."""
  return numerics.arc_affinity(_pairwise_square(x, y, jnp.asarray(c, x.dtype)), c)


def _pairwise_square(x: Array, y: Array, c: Array) -> Array:
  """Squared half chords sinh²(√c d/2)/c, [..., n, m], 0 for noise."""
  most = 4 * _cap(x, c) ** 2
  (r_x, far_x), (r_y, far_y) = (numerics.bounded_square(z, most) for z in (x, y))
  x, y = (jnp.where(far[..., None], 0, z) for far, z in ((far_x, x), (far_y, y)))
  return _square(x, _height(r_x, c), y, _height(r_y, c), c)


@jax.custom_jvp
def _square(x: Array, p_x: Array, y: Array, p_y: Array, c: Array) -> Array:
  """(T_x T_y − 1 − c x·y)/(2c), [..., n, m], from x, y and their heights p."""
  p_x, p_y = p_x[..., :, None], p_y[..., None, :]
  total = p_x + p_y + c * p_x * p_y
  square = 0.5 * (total - numerics.dots(x, y))
  return jnp.where(square > numerics.noise(x.dtype) * total, square, 0)


@_square.defjvp
def _square_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """By ambient products of (p, x) with (T, y): what a gradient sums, one matrix product sums."""
  (x, p_x, y, p_y, c), (dx, dp_x, dy, dp_y, dc) = primals, tangents
  join = lambda z, t: jnp.concatenate([z, t[..., None]], axis=-1)
  by_x = numerics.dots(join(-dx, dp_x), join(y, 1 + c * p_y))
  by_y = numerics.dots(join(x, 1 + c * p_x), join(-dy, dp_y))
  by_c = p_x[..., :, None] * p_y[..., None, :]
  return _square(*primals), 0.5 * (by_x + by_y + dc * by_c)


def query(x: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] with inner product −⟨x, y⟩ − T_x/c, that is (cosh(√c d) − T_x)/c.

  Resolves that to about eps·T_x T_y/c, and to eps·(‖x‖² + ‖y‖²) near the origin.
  """
  c = jnp.asarray(c, x.dtype)
  x = numerics.bound(x, _cap(x, c))
  return jnp.concatenate([-x, jnp.sqrt(1 + c * numerics.dot(x, x))[..., None]], axis=-1)


def key(y: Array, *, c: Scalar = 1.0) -> Array:
  """Features [..., d + 1] for `query`: y and (T_y − 1)/c."""
  c = jnp.asarray(c, y.dtype)
  y = numerics.bound(y, _cap(y, c))
  return jnp.concatenate([y, _height(numerics.dot(y, y), c)[..., None]], axis=-1)


def to_ambient(x: Array, *, c: Scalar = 1.0) -> Array:
  """Ambient coordinates (t, x), [..., d + 1], with t² − ‖x‖² = 1/c."""
  c = jnp.asarray(c, x.dtype)
  t = _time(numerics.bound(x, _cap(x, c)), c) / jnp.sqrt(c)
  return jnp.concatenate([t[..., None], x], axis=-1)


def from_ambient(p: Array, *, c: Scalar = 1.0) -> Array:
  """Spatial coordinates, [..., d], of ambient ones, [..., d + 1]."""
  return p[..., 1:]


def to_poincare(x: Array, *, c: Scalar = 1.0) -> Array:
  """The same point in the Poincaré ball, [..., d]: x/(1 + T). Far ones end at the ball's cap."""
  c = jnp.asarray(c, x.dtype)
  x = numerics.bound(x, _cap(x, c))
  return ball.proj(x / (1 + _time(x, c))[..., None], c=c)


def from_poincare(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point of the Poincaré ball in this chart, [..., d]: 2x/(1 − c‖x‖²)."""
  c = jnp.asarray(c, x.dtype)
  least = 0.5 * numerics.eps(x.dtype)  # as in the ball: the least positive 1 − c‖x‖²
  x = numerics.bound(x, 2 / jnp.sqrt(c))
  alpha = numerics.co_square(x, c)
  return x * (2 / jnp.where(alpha > least, alpha, least))[..., None]


def busemann(x: Array, p: Array, *, c: Scalar = 1.0) -> Array:
  """Busemann function of the ideal point in the direction p [..., d], ‖p‖ = 1, [...].

  lim d(x, γ(t)) − t along the geodesic γ from the origin to it: log(T − X·p)/√c with X = √c x, the
  difference as (1 + ‖X − (X·p) p‖²)/(T + X·p) where it would cancel.
  """
  c = jnp.asarray(c, x.dtype)
  x = jnp.sqrt(c) * numerics.bound(x, _cap(x, c))
  along = numerics.dot(x, p)
  across = x - along[..., None] * p
  flat = numerics.dot(across, across)
  t = jnp.sqrt(1 + along * along + flat)
  ahead = along > 0
  fall = jnp.where(
    ahead, (1 + flat) / (t + jnp.where(ahead, along, 0)), t - jnp.where(ahead, 0, along)
  )
  return jnp.log(fall) / jnp.sqrt(c)


def log_volume(x: Array, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the volume element √det g of the spatial coordinates, [...]: −log T_x."""
  c = jnp.asarray(c, x.dtype)
  return -jnp.log(_time(numerics.bound(x, _cap(x, c)), c))


def saturated(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where points are at the cap on norms, [...] bool."""
  cap = _cap(x, jnp.asarray(c, x.dtype))
  return numerics.safe_norm(x) >= cap * (1 - 4 * numerics.eps(x.dtype))


SIGN = -1  # of the sectional curvature


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a curvature, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
