"""Special functions and guards: every stability trick of the library lives here, once.

All of them compute in the dtype they are given, and are finite, in value and gradient, for finite
input.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from geoemb.typing import Array, Scalar


def eps(dtype: jnp.dtype) -> float:
  """Distance from 1 to the next larger number of `dtype`."""
  return float(jnp.finfo(dtype).eps)


def root_max(dtype: jnp.dtype, size: int = 1) -> float:
  """√(largest number) / 16: sums of up to 256 squares of such numbers are finite.

  For vectors of more than 32 coordinates, their `size`, it is smaller by √(size/32): the square of
  two such vectors' sum is at most half the largest number.
  """
  return float(jnp.finfo(dtype).max) ** 0.5 / 16 * min(1, (32 / size) ** 0.5)


@jax.custom_jvp
def divide(x: Array, y: Array) -> Array:
  """The quotient x / y, [...]; jax's own derivative has y⁻², which overflows long before x/y²."""
  return x / y


@divide.defjvp
def _divide_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (x, y), (dx, dy) = primals, tangents
  q = rounded(x / y)  # a select, lest XLA make (x/y)(dy/y) into x dy/y², which is 0/0 for small y
  return q, (dx - q * dy) / y


def dot(x: Array, y: Array) -> Array:
  """Inner products over the last axis, [...]."""
  return jnp.sum(x * y, axis=-1)


def matmul(x: Array, *others: Array) -> Array:
  """The product of matrices, and as jnp.matmul of vectors, never in TF32 or bfloat16."""
  for y in others:
    x = jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)
  return x


def einsum(subscripts: str, *operands: Array) -> Array:
  """As jnp.einsum, never in TF32 or bfloat16, which accelerators otherwise use for float32."""
  return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST)


def dots(x: Array, y: Array) -> Array:
  """Inner products of x [..., n, d] with y [..., m, d], [..., n, m], never in TF32 or bfloat16."""
  return einsum("...nd,...md->...nm", x, y)


def bound(x: Array, limit: Scalar) -> Array:
  """Every entry limited to [−limit, limit], [...]; gradient 0 beyond, NaN stays NaN.

  A `where` and not `clip`, whose gradient XLA may drop at the bound on GPUs (jax ≤ 0.11.1).
  """
  return jnp.where(x > limit, limit, jnp.where(x < -limit, -limit, x))


def bounded_square(x: Array, most: Scalar) -> tuple[Array, Array]:
  """‖x‖² over the last axis limited to `most`, [...], and where it was limited, [...].

  For points that lie within: one comparison a point, where `bound` makes two an entry, of an array
  that then has to be in memory. Inner products have to be masked too where it was limited.
  """
  r = jnp.sum(x * x, axis=-1)
  far = r > most
  return jnp.where(far, most, r), far


def rounded(x: Array) -> Array:
  """The product x rounded once, [...]: infinities become the largest number, all else stays.

  XLA may compute a − x·y in two places, with a fused multiply-add in one and without in the other.
  They differ by a rounding error, fatal where one is used to correct the other. No optimisation
  barrier outlives XLA's fusion on CPUs, but a select between product and sum prevents the fusing.
  """
  return bound(x, float(jnp.finfo(x.dtype).max))


def two_sum(x: Array, y: Array) -> tuple[Array, Array]:
  """The rounded sum and what rounding lost, exactly, [...] each: Knuth's."""
  total = x + y
  part = total - x
  return total, (x - (total - part)) + (y - part)


def split(x: Array) -> tuple[Array, Array]:
  """High and low half of the digits of x, [...] each, with hi + lo = x and hi·hi' exact.

  By a bit mask: the classical splitting by multiplication does not survive fused multiply-adds.
  """
  bits = jnp.finfo(x.dtype).bits
  drop = jnp.finfo(x.dtype).nmant // 2 + 1
  mask = jnp.asarray(-(1 << drop), f"int{bits}")
  hi = jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, mask.dtype) & mask, x.dtype)
  return hi, x - hi


def pow2(x: Array) -> Array:
  """The largest power of two that is at most x ≥ 0, [...], exactly; 0 for 0."""
  bits = jnp.finfo(x.dtype).bits
  mask = jnp.asarray(-(1 << jnp.finfo(x.dtype).nmant), f"int{bits}")
  return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, mask.dtype) & mask, x.dtype)


@jax.custom_jvp
def co_square(x: Array, c: Array) -> Array:
  """1 − c‖x‖² over the last axis, [...], to about eps/1000 where c‖x‖² ≤ 1; at least −1.

  Near the unit sphere a plain sum has lost what matters: its rounding is of the size of eps. So the
  squares of the leading half of the digits are summed first, on a grid on which they, their sum and
  1 − sum are exact; only the small rest is rounded.
  """
  p = pow2(jnp.sqrt(pow2(c)))
  m = c / jnp.where(p > 0, p * p, 1)  # in [1, 4), exact; 0 for c = 0
  # Flat, and summed apart: on CPUs XLA's loops over short rows take twice as long.
  z = x.reshape(-1) * p  # exact; ‖z‖ < 1 inside
  grid = 2.0 ** (jnp.finfo(x.dtype).nmant // 2)  # squares then are on 2^-22 or 2^-52
  hi = jnp.round(z * grid) / grid
  parts = jnp.stack([hi * hi, (z - hi) * (z + hi)])
  s, rest = jnp.sum(parts.reshape(2, *x.shape), axis=-1)
  s_hi = jnp.floor(s * grid) / grid
  m_hi, m_lo = split(m)
  fine = (1 - m_hi * s_hi) - (m_hi * (s - s_hi) + m_lo * s + m * rest)
  # s is not NaN for any finite x, as `rest` is where it overflows
  return jnp.where(s > 2, -1, jnp.where(fine > -1, fine, -1))


@co_square.defjvp
def _co_square_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (x, c), (dx, dc) = primals, tangents
  value = co_square(x, c)
  inside = value > -1
  x = jnp.where(inside[..., None], x, 0)
  tangent = -2 * c * jnp.sum(x * dx, axis=-1) - jnp.sum(x * x, axis=-1) * dc
  return value, tangent


@jax.custom_jvp
def norm(x: Array) -> Array:
  """Euclidean norm √Σx² over the last axis, [...], with gradient 0 at 0.

  For entries of at most `root_max`, and taken for 0 where the squares underflow; a quarter of the
  cost of `safe_norm`.
  """
  return jnp.sqrt(jnp.sum(x * x, axis=-1))


def shorten(v: Array, length: Array, limit: Scalar) -> Array:
  """The vectors v [..., d] whose length [...] exceeds `limit`, scaled down to it."""
  over = length > limit
  return v * jnp.where(over, limit / jnp.where(over, length, 1), 1)[..., None]


@jax.custom_jvp
def bounded_norm(x: Array) -> Array:
  """Euclidean norm of entries of at most the square of `root_max`, 0 for small ones, [...].

  Scaled by a fixed power of two, which loses what lies far below `root_max`: to compare with it.
  """
  scale = 2.0 ** -((jnp.finfo(x.dtype).maxexp * 5) // 8)
  return jnp.sqrt(jnp.sum(jnp.square(x * scale), axis=-1)) / scale


@jax.custom_jvp
def safe_norm(x: Array) -> Array:
  """Euclidean norm over the last axis, [...], of any finite x, with gradient 0 at 0.

  Entries beyond the square root of the dtype's range are scaled by a power of two first, which
  is exact: nothing overflows or is lost. A norm beyond the largest number is that number.
  """
  info = jnp.finfo(x.dtype)
  k = (info.maxexp * 25) // 32  # float32: 2^±100 brings all of [2^-126, 2^128] within 2^±60
  top = jnp.max(jnp.abs(x), axis=-1)
  # Not zeros: of zeros known to the compiler XLA makes 0 · scale², which is NaN.
  small = (top > 0) & (top < 2.0 ** (-k // 2))
  scale = jnp.where(top > 2.0 ** (k // 2), 2.0**-k, jnp.where(small, 2.0**k, 1))
  scale = scale.astype(x.dtype)
  scaled = x * scale[..., None]
  return bound(jnp.sqrt(jnp.sum(scaled * scaled, axis=-1)) / scale, float(info.max))


def _norm_jvp(function: Callable, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (x,), (dx,) = primals, tangents
  r = function(x)
  return r, jnp.sum(x / jnp.where(r > 0, r, 1)[..., None] * dx, axis=-1)


norm.defjvp(functools.partial(_norm_jvp, norm))
safe_norm.defjvp(functools.partial(_norm_jvp, safe_norm))
bounded_norm.defjvp(functools.partial(_norm_jvp, bounded_norm))


def unit(x: Array) -> Array:
  """The direction x / ‖x‖ over the last axis, [..., d]; 0 at 0."""
  r = safe_norm(x)
  return divide(x, jnp.where(r > 0, r, 1)[..., None])


def noise(dtype: jnp.dtype) -> float:
  """Relative size below which a difference of accumulated sums counts as 0: 4 eps.

  Rounding leaves about 1 eps of the operands; with four, the gradient of a root of the rest is
  never more than half wrong.
  """
  return 4 * eps(dtype)


@jax.custom_jvp
def safe_sqrt(x: Array, floor: Array) -> Array:
  """√x, [...], with value and gradient 0 where x ≤ floor (≥ 0); NaN stays NaN.

  For squares found by subtraction: below the rounding noise of the operands the root is noise
  and its derivative 1/(2√x) amplifies that noise without bound.
  """
  below = x <= floor
  return jnp.where(below, 0, jnp.sqrt(jnp.where(below, 1, x)))


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  x, floor = primals
  below = x <= floor
  root = jnp.sqrt(jnp.where(below, 1, x))
  return jnp.where(below, 0, root), jnp.where(below, 0, 0.5 / root) * tangents[0]


def hypot1(x: Array) -> Array:
  """√(1 + x²), [...], without overflow."""
  a = jnp.abs(x)
  big, small = jnp.where(a > 1, a, 1), jnp.where(a > 1, 1, a)
  return big * jnp.sqrt(1 + (small / big) ** 2)


@jax.custom_jvp
def hypot(x: Array, y: Array) -> Array:
  """√(x² + y²), [...], without overflow or underflow; gradient 0 at (0, 0)."""
  a, b = jnp.abs(x), jnp.abs(y)
  big, small = jnp.where(a > b, a, b), jnp.where(a > b, b, a)
  return big * jnp.sqrt(1 + (small / jnp.where(big > 0, big, 1)) ** 2)


@hypot.defjvp
def _hypot_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (x, y), (dx, dy) = primals, tangents
  h = hypot(x, y)
  some = jnp.where(h > 0, h, 1)
  return h, x / some * dx + y / some * dy


@jax.custom_jvp
def atan2(y: Array, x: Array) -> Array:
  """The angle of (x, y) from the x axis, [...] in radians; 0 with gradient 0 at (0, 0)."""
  return jnp.where((x == 0) & (y == 0), 0, jnp.arctan2(y, x))


@atan2.defjvp
def _atan2_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (y, x), (dy, dx) = primals, tangents
  h = hypot(x, y)
  h = jnp.where(h > 0, h, 1)
  return atan2(y, x), rounded(x / h) * (dy / h) - rounded(y / h) * (dx / h)  # as in `divide`


@jax.custom_jvp
def arccos(x: Array) -> Array:
  """The angle of a cosine, [...] in radians, to 3 eps; its derivative is 0 at and beyond ±1.

  XLA's own goes through atan2, for more time. The rational function is fdlibm's.
  """
  a = jnp.abs(bound(x, 1))
  far = a > 0.5
  z = jnp.where(far, 0.5 * (1 - a), a * a)
  s = jnp.where(far, jnp.sqrt(z), a)  # z is eps/4 at least, or 0, and is not differentiated
  asin = s + s * z * _series(_ARCSIN_P, z) / _series(_ARCSIN_Q, z)
  angle = jnp.where(far, 2 * asin, 0.5 * math.pi - asin)
  return jnp.where(x < 0, math.pi - angle, angle)


@arccos.defjvp
def _arccos_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (x,), (dx,) = primals, tangents
  inside = jnp.abs(x) < 1
  t = jnp.where(inside, x, 0)
  return arccos(x), jnp.where(inside, -dx * jax.lax.rsqrt((1 - t) * (1 + t)), 0)


@jax.custom_jvp
def asinh(x: Array) -> Array:
  """Inverse hyperbolic sine, [...].

  The derivative of jax 0.10 is 0 in float32 beyond 1.8e19, where x² overflows.
  """
  return jnp.arcsinh(x)


@asinh.defjvp
def _asinh_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (x,), (dx,) = primals, tangents
  return asinh(x), dx / hypot1(x)


@jax.custom_jvp
def arcosh(x: Array) -> Array:
  """Inverse hyperbolic cosine, [...]; 0 with gradient 0 at and below 1.

  By log1p of x − 1, so that no digit of that is lost. Where x itself was rounded
  near 1 use a form in the chord instead, such as `arc`.
  """
  t = jnp.where(x > 1, x - 1, 0)
  ordinary = t < 1e8  # beyond, √(t(t+2)) = t + 1 to rounding, and would overflow
  s = jnp.where(ordinary, t, 1)
  return jnp.where(
    ordinary, jnp.log1p(s + jnp.sqrt(s * (s + 2))), jnp.log(jnp.where(ordinary, 1, x)) + math.log(2)
  )


@arcosh.defjvp
def _arcosh_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (x,), (dx,) = primals, tangents
  s = jnp.where(x > 1, x, 2)
  return arcosh(x), jnp.where(x > 1, dx / (jnp.sqrt(s - 1) * jnp.sqrt(s + 1)), 0)


def _over(f: Callable, a: float, b: float, x: Array) -> Array:
  """f(x)/x for odd f with f(x)/x = 1 + a x² + b x⁴ + O(x⁶), the series up to where O(x⁶) ~ eps."""
  small = jnp.abs(x) < eps(x.dtype) ** (1 / 6)
  y = jnp.where(small, 1, x)
  z = jnp.where(small, x, 0)
  z = z * z
  return jnp.where(small, 1 + z * (a + b * z), divide(f(y), y))


def sinh_over(x: Array) -> Array:
  """sinh(x)/x, [...]; constant beyond |x| = log(largest number) − 1, where sinh would overflow."""
  return _over(jnp.sinh, 1 / 6, 1 / 120, bound(x, math.log(float(jnp.finfo(x.dtype).max)) - 1))


def sin_over(x: Array) -> Array:
  """sin(x)/x, [...]."""
  return _over(jnp.sin, -1 / 6, 1 / 120, x)


def asin_over(x: Array) -> Array:
  """arcsin(x)/x, [...], for |x| < 1."""
  return _over(jnp.arcsin, 1 / 6, 3 / 40, x)


def tanh_over(x: Array) -> Array:
  """tanh(x)/x, [...]."""
  return _over(jnp.tanh, -1 / 3, 2 / 15, x)


def asinh_over(x: Array) -> Array:
  """arcsinh(x)/x, [...]."""
  return _over(asinh, -1 / 6, 3 / 40, x)


def artanh_over(x: Array) -> Array:
  """artanh(x)/x, [...]; constant from |x| = 1 − eps on."""
  return _over(jnp.arctanh, 1 / 3, 1 / 5, bound(x, 1 - eps(x.dtype)))


_ARCSIN_P = (
  1.66666666666666657415e-01, -3.25565818622400915405e-01, 2.01212532134862925881e-01,
  -4.00555345006794114027e-02, 7.91534994289814532176e-04, 3.47933107596021167570e-05,
)  # fmt: skip
_ARCSIN_Q = (
  1.0, -2.40339491173441421878, 2.02094576023350569471, -6.88283971605453293030e-01,
  7.70381505559019352791e-02,
)  # fmt: skip


def _series(coefficients: Sequence[float], z: Array) -> Array:
  """Σ coefficients[k] z^k, [...]."""
  total = jnp.full_like(z, coefficients[-1])
  for a in coefficients[-2::-1]:
    total = a + z * total
  return total


# Up to |z| = 1/32 twelve terms of a series in z are exact in float64, and closed forms of the
# derivative, which cancel as z, are off by 32 eps beyond.
_ROOT_SERIES = 1 / 32
_ASINH_ROOT = [(-1) ** k * math.comb(2 * k, k) / (4.0**k * (2 * k + 1)) for k in range(13)]
_SINH_ROOT = [1 / math.factorial(2 * k + 1) for k in range(13)]


def _slope(coefficients: list[float]) -> list[float]:
  """The coefficients of the derivative of a series."""
  return [k * a for k, a in enumerate(coefficients)][1:]


def _by_sign(z: Array, positive: Callable, negative: Callable) -> Array:
  """positive(√z) or negative(√−z), [...]."""
  root = jnp.sqrt(jnp.where(z == 0, 1, jnp.abs(z)))
  return jnp.where(z > 0, positive(jnp.where(z > 0, root, 1)), negative(jnp.where(z > 0, 1, root)))


@jax.custom_jvp
def asinh_root_over(z: Array) -> Array:
  """arcsinh(√z)/√z, [...], which is arcsin(√−z)/√−z for −1 ≤ z < 0: one function, analytic at 0.

  Its derivative is infinite at −1, and taken at eps − 1 below that.
  """
  some = jnp.where(z < -1, -1, z)
  closed = _by_sign(some, lambda r: jnp.arcsinh(r) / r, lambda r: jnp.arcsin(bound(r, 1)) / r)
  small = jnp.abs(z) < _ROOT_SERIES
  return jnp.where(small, _series(_ASINH_ROOT, jnp.where(small, z, 0)), closed)


@asinh_root_over.defjvp
def _asinh_root_over_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """By (1/√(1 + z) − f)/(2z)."""
  (z,), (dz,) = primals, tangents
  value, small = asinh_root_over(z), jnp.abs(z) < _ROOT_SERIES
  least = eps(z.dtype) - 1
  some = jnp.where(small, 1, jnp.where(z > least, z, least))
  closed = (1 / jnp.sqrt(1 + some) - value) / (2 * some)
  return value, jnp.where(small, _series(_slope(_ASINH_ROOT), jnp.where(small, z, 0)), closed) * dz


@jax.custom_jvp
def sinh_root_over(z: Array) -> Array:
  """sinh(√z)/√z, [...], which is sin(√−z)/√−z for z < 0: one function, analytic at 0."""
  closed = _by_sign(z, lambda r: jnp.sinh(r) / r, lambda r: jnp.sin(r) / r)
  small = jnp.abs(z) < _ROOT_SERIES
  return jnp.where(small, _series(_SINH_ROOT, jnp.where(small, z, 0)), closed)


@sinh_root_over.defjvp
def _sinh_root_over_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """By (cosh √z − f)/(2z)."""
  (z,), (dz,) = primals, tangents
  value, small = sinh_root_over(z), jnp.abs(z) < _ROOT_SERIES
  closed = (cosh_root(z) - value) / (2 * jnp.where(small, 1, z))
  return value, jnp.where(small, _series(_slope(_SINH_ROOT), jnp.where(small, z, 0)), closed) * dz


@jax.custom_jvp
def cosh_root(z: Array) -> Array:
  """Hyperbolic cosine of √z, [...], which is cos √−z for z < 0."""
  return jnp.where(z == 0, 1, _by_sign(z, jnp.cosh, jnp.cos))


@cosh_root.defjvp
def _cosh_root_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (z,), (dz,) = primals, tangents
  return cosh_root(z), 0.5 * sinh_root_over(z) * dz


def limit_square(square: Array, longest: Scalar) -> tuple[Array, Array]:
  """The squares of lengths limited to longest², [...], and by how much that shortens, [...]."""
  most = jnp.asarray(longest * longest, square.dtype)
  over = square > most
  short = jnp.where(over, divide(longest, jnp.sqrt(jnp.where(over, square, 1))), 1)
  return jnp.where(over, most, square), short


@jax.custom_jvp
def cosh_sinh_root(z: Array) -> tuple[Array, Array]:
  """The pair cosh √z and sinh(√z)/√z for z ≥ 0, [...] each, which are analytic at 0."""
  r = jnp.sqrt(z)
  return jnp.cosh(r), sinh_over(r)


@cosh_sinh_root.defjvp
def _cosh_sinh_root_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
  (z,), (dz,) = primals, tangents
  values = cosh_sinh_root(z)
  return values, (0.5 * values[1] * dz, jax.jvp(sinh_root_over, (z,), (dz,))[1])


# log(sinh(√z)/√z) = Σ (−1)^(n+1) ζ(2n)/n (z/π²)^n; 17 terms are exact in float64 for |z| ≤ 1.
_LOG_SINH_ROOT = (
  0.16666666666666666, -0.005555555555555556, 0.0003527336860670194, -2.6455026455026456e-05,
  2.1377799155576935e-06, -1.803670234005331e-07, 1.5661391322766983e-08, -1.3884130493737299e-09,
  1.2504359176004997e-10, -1.1402575602296091e-11, 1.0502923908637557e-12, -9.754877841593701e-14,
  9.123468230859098e-15, -8.5837197618956095e-16, 8.117318009727789e-17, -7.710527514116273e-18,
  7.352844932712002e-19,
)  # fmt: skip


@jax.custom_jvp
def log_sinh_root_over(z: Array) -> Array:
  """log(sinh(√z)/√z), [...], which is log(sin(√−z)/√−z) for −π² < z < 0; nothing overflows.

  At and below −π² it is the value one unit of rounding above, with gradient 0.
  """
  return _log_sinh_root_over(z)[0]


def _log_sinh_root_over(z: Array) -> tuple[Array, Array]:
  """The value and its derivative, (√z coth √z − 1)/(2z), [...] each."""
  small = jnp.abs(z) < 1
  least = -(math.pi**2) * (1 - 4 * eps(z.dtype))  # sin is 2π eps there, and known to a digit
  some = jnp.where(small, 1, jnp.where(z > least, z, least))
  far = lambda r: r - jnp.log(2 * r) + jnp.log1p(-jnp.exp(-2 * r))
  value = _by_sign(some, far, lambda r: jnp.log(jnp.sin(r) / r))
  ratio = _by_sign(some, lambda r: r / jnp.tanh(r), lambda r: r / jnp.tan(r))
  slope = jnp.where(z > least, (ratio - 1) / (2 * some), 0)
  near = jnp.where(small, z, 0)
  series = _series(_LOG_SINH_ROOT, near)
  by_z = _series([(k + 1) * a for k, a in enumerate(_LOG_SINH_ROOT)], near)
  return jnp.where(small, near * series, value), jnp.where(small, by_z, slope)


@log_sinh_root_over.defjvp
def _log_sinh_root_over_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  value, slope = _log_sinh_root_over(*primals)
  return value, slope * tangents[0]


@jax.custom_jvp
def arc(h: Array, c: Array) -> Array:
  """Geodesic distance at curvature −c from the half chord h ≥ 0, [...]: (2/√c) arcsinh(√c h).

  2h in the flat limit c → 0. Both derivatives are closed forms: ∂/∂h = 2/√(1 + c h²), and
  ∂/∂c = (h/√(1 + c h²) − arcsinh(√c h)/√c)/c, by its series where that cancels.
  """
  return 2 * h * asinh_over(jnp.sqrt(c) * h)


@arc.defjvp
def _arc_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (h, c), (dh, dc) = primals, tangents
  z = jnp.sqrt(c) * h
  slope, over = 1 / hypot1(z), asinh_over(z)
  small = z < eps(h.dtype) ** (1 / 6)
  s = jnp.where(small, h, 0)
  w = c * s * s
  series = s * s * s * (-1 / 3 + w * (0.3 - w * (15 / 56)))
  by_c = jnp.where(small, series, h * (slope - over) / jnp.where(c > 0, c, 1))
  return 2 * h * over, 2 * slope * dh + by_c * dc


@jax.custom_jvp
def arc_square(square: Array, c: Array) -> Array:
  """arc(h, c)², [...], from h²: 4h² F(c h²)², F of `asinh_root_over`, smooth where h² is 0.

  c may be negative: then it is (4/−c) arcsin²(√−c h), for −c h² < 1.
  """
  return square * jnp.square(2 * asinh_root_over(c * jnp.where(square < 0, 0, square)))


@arc_square.defjvp
def _arc_square_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """By h² it is 4F/√(1 + c h²)."""
  (square, c), (dsquare, dc) = primals, tangents
  z = c * jnp.where(square < 0, 0, square)
  over, bend = jax.jvp(asinh_root_over, (z,), (jnp.ones_like(z),))
  by_c = 8 * (square * over) * (square * bend)
  return arc_square(square, c), 4 * over / jnp.sqrt(1 + z) * dsquare + by_c * dc


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def arc_affinity(square: Array, c: Scalar) -> Array:
  """exp(−arc(h, c)), [...], from h²: (√(1 + c h²) + √c h)^(−2/√c), products where 2/√c is whole.

  1 with gradient 0 where h² is 0 or less. Unlike `arc` it takes no derivative by c: the closed form
  is for training loops at a fixed c.
  """
  return _arc_affinity(square, c)[0]


def _arc_affinity(square: Array, c: Scalar) -> tuple[Array, Array, Array]:
  """The affinity, √c h and √(1 + c h²), [...] each."""
  z2 = jnp.where(square > 0, c * square, 0)
  z, w = jnp.sqrt(z2), jnp.sqrt(1 + z2)
  power = 2 / math.sqrt(c)
  return (z + w) ** (-int(power) if power.is_integer() and power < 16 else -power), z, w


@arc_affinity.defjvp
def _arc_affinity_jvp(c: Scalar, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """∂a/∂h² = −√c a / (√c h √(1 + c h²)), the small a apart: their product would underflow."""
  a, z, w = _arc_affinity(*primals, c)
  slope = jnp.where(z > 0, -math.sqrt(c) / jnp.where(z > 0, z * w, 1), 0)
  return a, a * (slope * tangents[0])


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def clip_through(x: Array, low: float, high: float) -> Array:
  """The value x limited to [low, high], [...], with gradient 1 everywhere.

  For what exceeds a bound by rounding or overflow only: the exact function has a gradient there.
  """
  return jnp.where(x > high, high, jnp.where(x < low, low, x))


@clip_through.defjvp
def _clip_through_jvp(low: float, high: float, primals: tuple, tangents: tuple) -> tuple:
  return clip_through(primals[0], low, high), tangents[0]


def slope_max(dtype: jnp.dtype) -> float:
  """Largest number / 65,536, exactly: sums of up to 65,536 such derivatives are finite."""
  return float(jnp.finfo(dtype).max) * 2.0**-16


def finite(x: Array) -> Array:
  """The value x with infinities replaced by the largest number, [...], with gradient 1."""
  most = float(jnp.finfo(x.dtype).max)
  return clip_through(x, -most, most)


@jax.custom_jvp
def soft_max(x: Array, y: Array, temperature: Array) -> Array:
  """T log(exp(x/T) + exp(y/T)), [...], for T > 0: never below max(x, y), their maximum for T → 0.

  Its derivatives are closed forms: 1/(1 + exp(∓r)) by x and y with r = (x − y)/T, and by T the
  entropy of these two weights.
  """
  return _soft_max(x, y, temperature)[0]


def _soft_max(x: Array, y: Array, temperature: Array) -> tuple[Array, Array, Array]:
  """The value, (x − y)/T and the part log(1 + exp(−|x − y|/T)), [...] each."""
  r = rounded(rounded(x - y) / temperature)
  part = jnp.log1p(jnp.exp(-jnp.abs(r)))
  return rounded(jnp.where(x > y, x, y) + temperature * part), r, part


@soft_max.defjvp
def _soft_max_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  value, r, part = _soft_max(*primals)
  dx, dy, dt = tangents
  a = jnp.abs(r)
  entropy = part + a * jax.nn.sigmoid(-a)  # 0 for large a, which is finite
  return value, jax.nn.sigmoid(r) * dx + jax.nn.sigmoid(-r) * dy + entropy * dt


@jax.custom_jvp
def log_softplus(x: Array) -> Array:
  """Logarithm of log(1 + eˣ), [...]: x for x → −∞, log x for x → ∞."""
  return _log_softplus(x)[0]


def _log_softplus(x: Array) -> tuple[Array, Array]:
  """The value and its derivative σ(x)/log(1 + eˣ), [...] each."""
  y = jnp.exp(-jnp.abs(x))
  small = y < eps(x.dtype)
  some = jnp.where(small, 1, y)
  over = jnp.where(small, 1 - 0.5 * y, jnp.log1p(some) / some)  # log(1 + y)/y
  positive = jnp.where(x > 0, x, 0) + y * over
  positive = jnp.where(x > 0, positive, 1)
  value = jnp.where(x > 0, jnp.log(positive), x + jnp.log(over))
  return value, 1 / ((1 + y) * jnp.where(x > 0, positive, over))


@log_softplus.defjvp
def _log_softplus_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  return log_softplus(*primals), _log_softplus_slope(*primals) * tangents[0]


@jax.custom_jvp
def _log_softplus_slope(x: Array) -> Array:
  return _log_softplus(x)[1]


@_log_softplus_slope.defjvp
def _log_softplus_slope_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """σ(x)/log(1 + eˣ) = s has the derivative s (σ(−x) − s)."""
  (x,), (dx,) = primals, tangents
  slope = _log_softplus_slope(x)
  return slope, slope * (jax.nn.sigmoid(-x) - slope) * dx


def softplus_inverse(y: Array) -> Array:
  """The x with log(1 + eˣ) = y, [...], as y + log(1 − e⁻ʸ); least for y below 2^-126 or 2^-1022."""
  least = float(jnp.finfo(y.dtype).tiny)
  y = jnp.where(y > least, y, least)
  return y + jnp.log(-jnp.expm1(-y))


# √(2x/π) eˣ K0(x) and K1(x)/K0(x) for x ≥ 1 as quotients of polynomials in 1/x, by ascending
# powers. Interpolated at 17 squared Chebyshev nodes of [0, 1] in 60 digits; they are off by at most
# 1.4e-16 and 3.2e-16, and as no coefficient is negative, nothing cancels.
_K0_SCALED = (
  (1.0, 15.866854147692434, 92.8404168486566, 255.0565713878104, 347.4289388818651,
   228.1850156884223, 64.85974005325585, 6.18476286091026, 0.09174180983970037),
  (1.0, 15.991854147692434, 94.76908611711816, 265.8515220951808, 375.0560540580021,
   261.7490203517716, 83.10961445736483, 9.918441519558051, 0.274587045089252),
)  # fmt: skip
_K1_OVER_K0 = (
  (1.0, 16.109260670182394, 97.12821249215615, 281.9789059532088, 423.66815367878377,
   330.1332099679527, 126.2838161020875, 20.520156780410876, 0.9671043751227621),
  (1.0, 15.609260670182394, 89.4485821570649, 239.08077245847116, 313.5529951320198,
   194.7031701473724, 50.418265520878535, 3.9494349334388636, 0.019950377693016462),
)  # fmt: skip
EULER_GAMMA = 0.57721566490153286


@jax.custom_jvp
def log_k0(w: Array) -> Array:
  """Logarithm of the modified Bessel function K0(x) by w = log(x/2), [...], for any x = 2eʷ.

  log(−w − γ) for w → −∞, and −x + log(π/(2x))/2 for large x. The slope is −x K1(x)/K0(x).
  From x = `slope_max` on (w = 76.9 in float32, 698.0 in float64) the function goes on along its
  tangent, and its value ends at the least number.
  """
  return _log_k0(w)[0]


def _log_k0(w: Array) -> tuple[Array, Array]:
  """The value and its derivative by w, [...] each."""
  # x < 1: the ascending series, DLMF 10.31.1 and 10.31.2; ten terms with (x/2)² ≤ 1/4.
  near = w < -math.log(2)
  v = jnp.where(near, w, -1)
  q, lead = jnp.exp(2 * v), -(v + EULER_GAMMA)
  n, h = range(10), [sum(1 / j for j in range(1, k + 1)) for k in range(11)]
  i0 = [1 / math.factorial(k) ** 2 for k in n]
  i1 = [1 / (math.factorial(k) * math.factorial(k + 1)) for k in n]
  k0 = lead * _series(i0, q) + _series([h[k] * i0[k] for k in n], q)
  mean = [(h[k] + h[k + 1]) / 2 * i1[k] for k in n]
  x_k1 = 1 - 2 * q * (lead * _series(i1, q) + _series(mean, q))
  # x ≥ 1
  end = math.log(slope_max(w.dtype) / 2)
  u = jnp.where(near, 0, jnp.where(w > end, end, w))
  x = 2 * jnp.exp(u)
  scaled = _series(_K0_SCALED[0], 1 / x) / _series(_K0_SCALED[1], 1 / x)
  slope = -x * (_series(_K1_OVER_K0[0], 1 / x) / _series(_K1_OVER_K0[1], 1 / x))
  past = jnp.where(w > end, w - end, 0)
  far = 0.5 * (math.log(math.pi / 4) - u) + jnp.log(scaled) - x + slope * past
  return jnp.where(near, jnp.log(k0), rounded(far)), jnp.where(near, -x_k1 / k0, slope)


@log_k0.defjvp
def _log_k0_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  value, slope = _log_k0(*primals)
  return value, slope * tangents[0]
