"""Heat kernels: the density at time t of a diffusion from a point, ∂p/∂t = Δp.

A function of the distance r [...] in units of length and the time t [...] in their squares; the
shapes broadcast. Brownian motion, whose generator is Δ/2, has it at t/2. At curvature ±c it is
c^(d/2) times the one of curvature ±1 at (√c r, c t). Logarithms keep all digits where the density
is far too small for a number.

Hyperbolic space. Odd dimensions d = 2m + 1 have a closed form [grigoryan1998heat]: with x = cosh r,
p = e^(−m²t)/(2π)^m (−∂/∂x)^m (4πt)^(−1/2) e^(−r²/4t). By Faà di Bruno's formula the derivative of
e^(−r²/4t) is that times the complete Bell polynomial of g_j = ψ_(j−1)/(2t), where
ψ_k = (−∂/∂x)^k (r/sinh r) = k!/2 ∫ ds/(cosh s + x)^(k+1) > 0
so all terms are positive, and are summed as logarithms. Near r = 0 the integral is found by the
trapezoidal rule, which converges as e^(−2π²/h); beyond, ψ by its recurrence, which then is stable.
Even dimensions are an integral of the kernel of d + 1 along a geodesic at right angles,
p_d(r) = 4 e^((2d−1)t/4) cosh(r/2) ∫_0^∞ p_(d+1)(ρ) cosh v dv, cosh(ρ/2) = cosh(r/2) cosh v,
by the trapezoidal rule again, on the part where the integrand exceeds e^−45 of its peak.

Spheres, with x = cos r. From t = 2/d on by spherical harmonics, of which that takes few. Before, by
geodesics that wind around. Odd dimensions d = 2m + 1 are a derivative of the circle's kernel,
p = e^(m²t)/(2π)^m (∂/∂x)^m (4πt)^(−1/2) Σ e^(−(r + 2πk)²/4t), and even ones d = 2m + 2 an integral,
p = e^((m+½)²t)/(π(2π)^m) ∫_0^(π/2) cos^2m(v) (∂/∂X)^m N(φ)/sin(φ/2) dv, cos(φ/2) = cos(r/2) cos v,
N = (4πt)^(−1/2) Σ (−1)^k (φ + 2πk)/2t e^(−(φ + 2πk)²/4t), X = cos φ: Mehler's of the Legendre
polynomials, differentiated; by the trapezoidal rule. The integrand is a heat kernel of Jacobi
polynomials, and positive.
Derivatives are by Taylor series, cut off after m terms. The squared angle a² from 0, or beyond 90°
(from dimension 11 on 115°) from the antipode, is a series in u = 1 − cos a of positive terms, and
opposite windings ±β add up to e^(−(β² + a²)/4t) C((βa/2t)²), C(z) = cosh √z, an entire function:
neither end is singular. The derivatives of C by its series or, from some √z on, by their
recurrence, which then is stable.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.distributions import radial
from geoemb.typing import Array, Scalar

_STEP, _NODES = 0.4, 60  # of ψ: up to s = 23.6, where the integrand is e^−42 at most
_FAR = 2.5  # from where on ψ is by recurrence, at the least
_OUTER = 160  # of even dimensions: a step of at most 0.29, whose error is e^−34
_DEPTH = 45.0
_ROUND = 64  # of the sphere: a seventh of the deviation of the narrowest integrand
_ARC = 80  # terms of series in u/2 ≤ 1/2, twice as many up to 0.71
_HIGH = 5  # derivatives, from which on series from the antipode cancel near a right angle
_MOST = 26  # dimensions of the sphere


def _bounded(r: Array, t: Array) -> tuple[Array, Array]:
  """The distance and the time, [...] each, with r²/t and r² limited to finite numbers."""
  root = jnp.sqrt(t)
  most = numerics.root_max(r.dtype) * jnp.where(root < 1, root, 1)
  return jnp.broadcast_arrays(numerics.bound(r, most), t)


def _log_cosh(x: Array) -> Array:
  """The logarithm of cosh x, [...]."""
  a = jnp.abs(x)
  return a - math.log(2) + jnp.log1p(jnp.exp(-2 * a))


def _log_psi(r: Array, count: int) -> Array:
  """Logarithms of e^((k + 1) r) ψ_k for k < count, [count, ...]."""
  first = (r - numerics.log_sinh_root_over(r * r))[None]
  if count < 2:
    return first[:count]
  # from here on the recurrence, whose errors grow as e^(4 k e^−r), is stable
  start = max(_FAR, math.log(4 * count))
  near = r < start
  a = jnp.where(near, r, 0)[..., None]
  b = jnp.where(near, start, r)
  q = jnp.exp(-2 * b)
  nodes = jnp.asarray(np.arange(_NODES), r.dtype)
  log_w = jnp.asarray(np.log(np.where(np.arange(_NODES), 1, 0.5)), r.dtype)

  def step(pair: tuple, of_k: Array) -> tuple[tuple, Array]:
    now, last = pair  # ψ by recurrence, over 2ᵏ k!
    n, by_now, by_last, log_unit = of_k
    after = (by_now * (1 + q) * now - by_last * last) / jnp.square(1 - q)
    # where k is large the integrand is a normal, of variance (1 + cosh r)/(k + 1)
    share = 2 / n * (1 + jnp.cosh(jax.lax.stop_gradient(a)))
    h = _STEP * jnp.sqrt(jnp.where(share < 1, share, 1))
    log_f = a - math.log(2) - _log_cosh(0.5 * (h * nodes + a)) - _log_cosh(0.5 * (h * nodes - a))
    close = jax.nn.logsumexp(n * log_f + log_w, axis=-1) + jnp.log(h[..., 0])
    return (after, now), jnp.where(near, close, jnp.log(after) + (n - 1) * math.log(2)) + log_unit

  k = np.arange(1, count)
  log_factorial = np.cumsum(np.log(k))
  table = np.stack([k + 1, 2 - 1 / k, np.where(k > 1, 1 - 1 / k, 1), log_factorial], axis=-1)
  pair = 2 * b / (1 - q), jnp.full_like(b, 2)
  return jnp.concatenate([first, jax.lax.scan(step, pair, jnp.asarray(table, r.dtype))[1]])


def _log_odd(r: Array, t: Array, m: int) -> Array:
  """Log-density for d = 2m + 1 at curvature −1, [...]."""
  # rounded, lest a fused multiply-add make one of two copies exceed the maximum of all
  gauss = numerics.rounded(-0.25 * r * numerics.divide(r, t)) - 0.5 * jnp.log(4 * math.pi * t)
  if m == 0:
    return gauss
  log_g = _log_psi(r, m) - jnp.log(2 * t)
  binomial = [[math.comb(n, j) for j in range(m)] for n in range(m)]
  with np.errstate(divide="ignore"):
    log_binomial = jnp.asarray(np.log(np.array(binomial, float)), r.dtype)

  def step(log_q: Array, log_c: Array) -> tuple[Array, None]:
    """The Bell polynomials of up to m arguments times e^(nr), the one of most first, [m, ...]."""
    log_c = log_c.reshape(m, *(1,) * (log_q.ndim - 1))
    new = jax.nn.logsumexp(log_c + log_g + log_q, axis=0)
    return jnp.concatenate([new[None], log_q[:-1]]), None

  none = jnp.zeros_like(log_g)
  log_q = jax.lax.scan(step, none, log_binomial)[0][0]
  return gauss + log_q - m * r - m * m * t - m * math.log(2 * math.pi)


def _log_even(r: Array, t: Array, dim: int) -> Array:
  """Log-density for even d at curvature −1, [...]."""
  m = dim // 2
  half = 0.5 * r
  # ρ − r at the end: by the Gaussian factor, or by the e^(−mρ + v) of the others
  gauss = 4 * _DEPTH * t / (jnp.sqrt(r * r + 4 * _DEPTH * t) + r)
  gap = 0.5 * jnp.where(gauss < _DEPTH / (m - 0.5), gauss, _DEPTH / (m - 0.5))
  # sinh² of the last v is sinh((ρ + r)/2) sinh((ρ − r)/2)/cosh²(r/2)
  tanh, sinh = jnp.tanh(half), jnp.sinh(gap)
  other = 2 * tanh * jnp.cosh(gap) + (1 + tanh * tanh) * sinh
  end = jax.lax.stop_gradient(numerics.asinh(jnp.sqrt(sinh) * jnp.sqrt(other)))
  v = end[..., None] * jnp.asarray(np.arange(_OUTER + 1) / _OUTER, r.dtype)
  log_w = np.log(np.where(np.arange(_OUTER + 1) % _OUTER, 1, 0.5) / _OUTER)
  log_v, log_half = _log_cosh(v), _log_cosh(half)[..., None]
  # ρ = 2 arsinh √(sinh²(r/2) + cosh²(r/2) sinh² v), and 2 log of twice that where it would overflow
  large = log_v + log_half > 20
  a, b = (jnp.where(large, 0, z) for z in (half[..., None], v))
  rho = 2 * numerics.asinh(numerics.hypot(jnp.sinh(a), jnp.cosh(a) * jnp.sinh(b)))
  rho = jnp.where(large, 2 * (log_v + log_half + math.log(2)), rho)
  log_f = _log_odd(rho, t[..., None], m) + log_v + jnp.asarray(log_w, r.dtype)
  total = jax.nn.logsumexp(log_f, axis=-1) + jnp.log(end)
  return total + (2 * dim - 1) / 4 * t + _log_cosh(half) + math.log(4)


def log_hyperbolic(r: Array, t: Scalar, dim: int, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the heat kernel by Riemannian volume, [...], in nats, for r ≥ 0, t > 0 and c > 0.

  Holds 60 numbers for every r in odd dimensions from 5 on, 160 in dimension 2, and 160 · 60 in even
  dimensions from 4 on.

  Raises:
    ValueError: the dimension is not positive.
  """
  if dim < 1:
    raise ValueError(f"a dimension is at least 1, got {dim}")
  t, c = jnp.asarray(t, r.dtype), jnp.asarray(c, r.dtype)
  r, t = _bounded(jnp.sqrt(c) * r, c * t)
  value = _log_odd(r, t, dim // 2) if dim % 2 else _log_even(r, t, dim)
  return value + 0.5 * dim * jnp.log(c)


def _times(a: list[Array], b: list[Array]) -> list[Array]:
  """The product of two Taylor series, as far as both go."""
  return [sum(a[i] * b[n - i] for i in range(n + 1)) for n in range(len(a))]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _arcs(u: Array, m: int) -> Array:
  """Taylor coefficients 0 to m of a², a/sin(a/2), 1/cos(a/2) by u = 1 − cos a ≤ 1, [3, m + 1, ...].

  By Horner's rule, all terms being positive.
  """
  terms = _ARC if m < _HIGH else 2 * _ARC
  n = np.arange(terms + m)
  middle = np.cumprod(np.concatenate([[1], 1 - 0.5 / n[1:]]))  # C(2n, n)/4ⁿ
  square = np.concatenate([[0], 2 / (n[1:] ** 2 * middle[1:])])
  series = np.stack([square, 2 * middle / (2 * n + 1), middle]) * 0.5**n
  shifted = [
    series[:, k : k + terms] * [float(math.comb(j + k, k)) for j in range(terms)]
    for k in range(m + 1)
  ]
  table = np.stack(shifted, axis=1)[..., ::-1].transpose(2, 0, 1)
  table = jnp.asarray(table.reshape(*table.shape, *(1,) * u.ndim), u.dtype)
  total = jnp.zeros((3, m + 1, *u.shape), u.dtype)
  return jax.lax.scan(lambda total, c: (c + u * total, None), total, table)[0]


@_arcs.defjvp
def _arcs_jvp(m: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (u,), (du,) = primals, tangents
  more = _arcs(u, m + 1)
  slope = more[:, 1:] * jnp.arange(1, m + 2, dtype=u.dtype).reshape(m + 1, *(1,) * u.ndim)
  return more[:, :-1], slope * du


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _cosh_root(x: Array, m: int) -> Array:
  """Derivatives n = 0 to m of C(z) = cosh √z at √z = x ≥ 0, times e^−x (2 + 2x)ⁿ, [m + 1, ...]."""
  first, s = 4 * m + 12, 2 + 2 * x
  near = x < first
  z = jnp.square(jnp.where(near, x, 0))
  # the last two by series of positive terms in (x/first)², those before by the recurrence
  f = math.factorial
  term = lambda n, j: f(n + j) * first ** (2 * j) / (f(j) * f(2 * n + 2 * j))
  table = np.array([[term(n, j) for n in (m, m + 1)] for j in range(2 * first, -1, -1)])
  table = jnp.asarray(table.reshape(*table.shape, *(1,) * x.ndim), x.dtype)
  total = jnp.zeros((2, *x.shape), x.dtype)
  small = list(jax.lax.scan(lambda total, c: (c + z / first**2 * total, None), total, table)[0])
  for n in range(m, 0, -1):
    small.insert(0, (4 * n - 2) * small[0] + 4 * z * small[1])
  y = jnp.where(near, first, x)
  decay, over = jnp.exp(-2 * y), (1 + y) / y
  large = [0.5 * (1 + decay), 0.5 * over * (1 - decay)]
  for n in range(1, m):
    large.append(over * (over * large[n - 1] - (2 * n - 1) / y * large[n]))
  decay = jnp.exp(-jnp.where(near, x, 0))
  pairs = zip(small[: m + 1], large)
  return jnp.stack([jnp.where(near, a * s**n * decay, b) for n, (a, b) in enumerate(pairs)])


@_cosh_root.defjvp
def _cosh_root_jvp(m: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (x,), (dx,) = primals, tangents
  more = _cosh_root(x, m + 1)
  n = jnp.arange(m + 1, dtype=x.dtype).reshape(m + 1, *(1,) * x.ndim)
  value = more[:-1]
  return value, (x * more[1:] + n * value - (1 + x) * value) / (1 + x) * dx


def _log_winding(r: Array, t: Array, m: int, even: bool) -> Array:
  """Logarithm of the m-th derivative by the cosine of a sum over windings, [...], for t ≤ 1.

  Of the circle's kernel or, for even dimensions, of 2t N over the sine of half the angle. Far from
  0 by pairs about the antipode.
  """
  least = numerics.eps(r.dtype)  # of the time in what corrects the Gaussian
  s = jnp.where(t > least, t, least)
  far = r > (0.5 * math.pi if m < _HIGH else 2.0)
  a = jnp.where(far, jnp.where(r < math.pi, math.pi - r, 0), r)  # r may be rounded up
  step = jnp.where(far, s * (s + a), -s)  # of u, with the sign of du/dx
  arcs = _arcs(2 * jnp.square(jnp.sin(0.5 * a)), m)
  square, over_sine, over_cosine = ([v * step**k for k, v in enumerate(f)] for f in arcs)
  gauss = [jnp.ones_like(a)]  # e^(−(a² − a_0²)/4t)
  for n in range(1, m + 1):
    gauss.append(sum(-0.25 * j / n * square[j] / s * gauss[n - j] for j in range(1, n + 1)))
  k = jnp.arange(3, dtype=a.dtype).reshape(3, *(1,) * a.ndim)
  beta = jnp.where(far, 2 * k + 1, 2 * k) * math.pi
  rest = k * (jnp.where(far, k + 1, k) * math.pi - a)
  slope = beta / (2 * s)
  # e^(−(β − a)²/4t) over that of the first; two windings of each but none around
  weight = jnp.exp(-math.pi * rest / s) * jnp.where(beta > 0, 2, 1)
  weight = weight * (1 - 2 * (k % 2)) if even else weight
  scale = slope / (2 + 2 * slope * a)
  z = [jnp.zeros_like(beta)] + [slope * scale * v for v in square[1:]]
  c = _cosh_root(slope * a, m + even)

  def compose(c: Array) -> list[Array]:
    """With the weight first, lest what it makes 0 overflow."""
    out = [weight * c[m] / float(math.factorial(m))] + [jnp.zeros_like(beta)] * m
    for n in range(m - 1, -1, -1):
      out = _times(out, z)
      out[0] = out[0] + weight * c[n] / float(math.factorial(n))
    return out

  part = compose(c)
  if even:  # times the way of each around: β C − 2 (βa²/2t) C', or near 0, over a, C − (β²/t) C'
    slopes = compose(c[1:])
    both = zip(part, _times(square, slopes), slopes)
    part = [
      jnp.where(far, beta * x - 2 * scale * y, x - 2 * beta * scale * y0) for x, y, y0 in both
    ]
  total = _times([jnp.sum(x, axis=0) for x in part], gauss)
  if even:
    total = _times(total, [jnp.where(far, x, y) for x, y in zip(over_cosine, over_sine)])
  # with the time itself, where that is below the least
  log_step = jnp.log(jnp.abs(step)) + jnp.log(t / s)
  log_step = log_step + jnp.where(far, jnp.log(jnp.where(far, (t + a) / (s + a), 1)), 0)
  log = jnp.log(total[m]) + math.lgamma(m + 1) - m * log_step
  return log - numerics.rounded(0.25 * r * (r / t)) - 0.5 * jnp.log(4 * math.pi * t)


def _log_even_sphere(r: Array, t: Array, m: int) -> Array:
  """Dimension 2m + 2, [...], for t ≤ 1."""
  sine, cosine = jnp.sin(0.5 * r), jnp.cos(0.5 * r)
  last = jnp.sqrt(r * r + 4 * _DEPTH * t)
  within = (last < math.pi) & (cosine > numerics.eps(r.dtype))
  gap = 4 * _DEPTH * t / (last + r)
  square = jnp.sin(0.5 * (last + r)) * jnp.sin(0.5 * gap) / jnp.square(jnp.where(within, cosine, 1))
  square = jnp.where(within & (square < 1), square, 1)  # of the sine of the last v
  end = jax.lax.stop_gradient(jnp.arcsin(jnp.sqrt(square)))
  n = np.arange(_ROUND + 1)
  v = end[..., None] * jnp.asarray(n / _ROUND, r.dtype)
  log_w = jnp.asarray(np.log(np.where(n % _ROUND, 1, 0.5) / _ROUND), r.dtype)
  sine, cosine, t_ = sine[..., None], cosine[..., None], t[..., None]
  half = numerics.atan2(numerics.hypot(sine, cosine * jnp.sin(v)), cosine * jnp.cos(v))
  log_f = _log_winding(*jnp.broadcast_arrays(2 * half, t_), m, True) + m * jnp.log(
    jnp.square(jnp.cos(v))
  )
  total = jax.nn.logsumexp(log_f + log_w, axis=-1) + jnp.log(end)
  return total + (m + 0.5) ** 2 * t - jnp.log(2 * math.pi * t) - m * math.log(2 * math.pi)


def _log_odd_sphere(r: Array, t: Array, m: int) -> Array:
  """Dimension 2m + 1, [...], for t ≤ 1."""
  return _log_winding(r, t, m, False) + m * m * t - m * math.log(2 * math.pi)


def _log_harmonics(r: Array, t: Array, dim: int, start: float) -> Array:
  """By the spherical harmonics that count at `start`, [...], for times from there on.

  Each counts e^(−l(l + d − 1)t) C_l(cos r)/C_l(1), with Gegenbauer's C_l of order (d − 1)/2.
  """
  x = jnp.cos(r)
  last, now = jnp.ones_like(x), x  # C_l over its value at 1
  total, l, count = jnp.ones_like(x), 1, dim + 1 if dim > 1 else 2  # count of degree l
  while math.log(count) - l * (l + dim - 1) * start > -_DEPTH:
    total = total + float(count) * now * jnp.exp(-l * (l + dim - 1) * t)
    l += 1
    last, now = now, ((2 * l + dim - 3) * x * now - (l - 1) * last) / (l + dim - 2)
    count = math.comb(l + dim, dim) - math.comb(l + dim - 2, dim)
  return jnp.log(total) - radial.log_area(dim)


def log_spherical(r: Array, t: Scalar, dim: int, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the heat kernel on the sphere of radius 1/√c, [...], in nats, for t > 0.

  By Riemannian volume; r ≥ 0 is at most π/√c. To a relative 1e-13 in float64 up to dimension 17,
  for every t; beyond that, and in float32 beyond 9, series about 115° from 0 lose some digits.
  Holds 65 numbers for every r in even dimensions.

  Raises:
    ValueError: the dimension is not positive, or above 26.
  """
  if not 1 <= dim <= _MOST:
    raise ValueError(f"a dimension is at least 1, on spheres at most {_MOST}, got {dim}")
  t, c = jnp.asarray(t, r.dtype), jnp.asarray(c, r.dtype)
  r, t = _bounded(numerics.bound(jnp.sqrt(c) * r, math.pi), c * t)
  start = min(1.0, 2 / dim)
  late = t > start
  early = jnp.where(late, start, t)
  wound = _log_odd_sphere if dim % 2 else _log_even_sphere
  early = wound(r, early, (dim - 1) // 2)
  value = jnp.where(late, _log_harmonics(r, jnp.where(late, t, start), dim, start), early)
  return value + 0.5 * dim * jnp.log(c)
