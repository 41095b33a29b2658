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
from the antipode, is a series in u = 1 − cos a of positive terms, and opposite windings ±β add up
to e^(−(β² + a²)/4t) C((βa/2t)²), C(z) = cosh √z, an entire function: neither end is singular. The
derivatives of C by its series or, from √z = 4m + 12 on, by their recurrence, which then is stable.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.distributions import radial
from geoemb.typing import Array, Scalar

_STEP, _NODES = 0.4, 60  # of ψ: up to s = 23.6, where the integrand is e^−42 at most
_FAR = 2.5  # from where on ψ is by recurrence
_OUTER = 160  # of even dimensions: a step of at most 0.29, whose error is e^−34
_DEPTH = 45.0
_ROUND = 64  # of the sphere: a seventh of the deviation of the narrowest integrand
_ARC = 80  # terms of series in u/2 ≤ 1/2


def _bounded(r: Array, t: Array) -> tuple[Array, Array]:
  """The distance and the time, [...] each, with r²/t and r² limited to finite numbers."""
  root = jnp.sqrt(t)
  most = numerics.root_max(r.dtype) * jnp.where(root < 1, root, 1)
  return jnp.broadcast_arrays(numerics.bound(r, most), t)


def _log_cosh(x: Array) -> Array:
  """The logarithm of cosh x, [...]."""
  a = jnp.abs(x)
  return a - math.log(2) + jnp.log1p(jnp.exp(-2 * a))


def _log_psi(r: Array, count: int) -> list[Array]:
  """Logarithms of e^((k + 1) r) ψ_k for k < count, [...] each."""
  first = r - numerics.log_sinh_root_over(r * r)
  if count < 2:
    return [first][:count]
  near = r < _FAR
  a = jnp.where(near, r, 0)[..., None]
  s = jnp.asarray(_STEP * np.arange(_NODES), r.dtype)
  log_f = a - math.log(2) - _log_cosh(0.5 * (s + a)) - _log_cosh(0.5 * (s - a))
  log_w = jnp.asarray(np.log(np.where(np.arange(_NODES), 2, 1) * 0.5 * _STEP), r.dtype)
  b = jnp.where(near, _FAR, r)
  q = jnp.exp(-2 * b)
  last, now = 2 * b / (1 - q), jnp.zeros_like(b)
  out = [first]
  for k in range(count - 1):
    after = 4.0 if k == 0 else 4 * k * k * now
    last, now = (2 * (2 * k + 1) * (1 + q) * last - after) / jnp.square(1 - q), last
    close = jax.nn.logsumexp((k + 2) * log_f + log_w, axis=-1) + math.lgamma(k + 2)
    out.append(jnp.where(near, close, jnp.log(last)))
  return out


def _log_odd(r: Array, t: Array, m: int) -> Array:
  """Log-density for d = 2m + 1 at curvature −1, [...]."""
  log_g = [psi - jnp.log(2 * t) for psi in _log_psi(r, m)]
  log_q = [jnp.zeros_like(r + t)]  # of e^(nr) times the Bell polynomials of n arguments
  for n in range(1, m + 1):
    terms = [math.log(math.comb(n - 1, j)) + log_g[j] + log_q[n - 1 - j] for j in range(n)]
    log_q.append(jax.nn.logsumexp(jnp.stack(terms), axis=0))
  # rounded, lest a fused multiply-add make one of two copies exceed the maximum of all
  gauss = numerics.rounded(-0.25 * r * numerics.divide(r, t)) - 0.5 * jnp.log(4 * math.pi * t)
  return gauss + log_q[m] - m * r - m * m * t - m * math.log(2 * math.pi)


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


def _taylor(coefficients: np.ndarray, u: Array, step: Array, m: int) -> list[Array]:
  """Taylor coefficients 0 to m at u of Σ coefficients[n] uⁿ, for steps of the size `step`."""
  out = []
  for k in range(m + 1):
    total = jnp.zeros_like(u)
    for n in range(len(coefficients) - 1, k - 1, -1):
      total = math.comb(n, k) * coefficients[n] + u * total
    out.append(total * step**k)
  return out


def _arcs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Series in u = 1 − cos a of a², a/sin(a/2) and 1/cos(a/2)."""
  n = np.arange(1, _ARC)
  middle = np.concatenate([[1], np.cumprod((2 * n - 1) / (2 * n))])  # C(2n, n)/4ⁿ
  square = np.concatenate([[0], 2 / (n * n * middle[1:] * 2.0**n)])
  n = np.arange(_ARC)
  return square, 2 * middle / (2 * n + 1) * 0.5**n, middle * 0.5**n


def _cosh_root(root: Array, m: int) -> list[Array]:
  """Derivatives 0 to m + 1 of C(z) = cosh √z, times e^−√z (2 + 2√z)^n, [...] each, √z = `root`."""
  first, s = 4 * m + 12, 2 + 2 * root
  near = root < first
  z = jnp.square(jnp.where(near, root, 0))
  small = []
  for n in (m + 2, m + 1):
    total = jnp.zeros_like(z)
    for j in range(2 * first, -1, -1):
      term = math.factorial(n + j) / math.factorial(j) / math.factorial(2 * n + 2 * j)
      total = term + z * total
    small.insert(0, total * jnp.exp(-root))
  for n in range(m + 1, 0, -1):
    small.insert(0, (4 * n - 2) * small[0] + 4 * z * small[1])
  x = jnp.where(near, first, root)
  decay = jnp.exp(-2 * x)
  # by y_n = (2 + 2x)^n C_n, of which 4 x² y_(n+1) = (2 + 2x)² y_(n−1) − (4n − 2)(2 + 2x) y_n
  over = (1 + x) / x
  large = [0.5 * (1 + decay), 0.5 * over * (1 - decay)]
  for n in range(1, m + 1):
    large.append(over * (over * large[n - 1] - (2 * n - 1) / x * large[n]))
  pairs = zip(small[: m + 2], large)
  return [jnp.where(near, a * s**n, b) for n, (a, b) in enumerate(pairs)]


def _log_wound(a: Array, t: Array, m: int, far: bool, even: bool) -> Array:
  """Logarithm of the m-th derivative by the cosine of a sum over windings, [...].

  Less (2πt)^−½/2 of it: of the circle's kernel, or, for even dimensions, of 2t N over the sine of
  half the angle. `a` is the angle from 0, at most 90°, or `far` from the antipode.
  """
  least = numerics.eps(a.dtype)  # of the time in what corrects the Gaussian
  t = jnp.broadcast_to(t, a.shape)
  s = jnp.where(t > least, t, least)
  step = s * (s + a) if far else s
  u = 2 * jnp.square(jnp.sin(0.5 * a))
  arc, over_sine, over_cosine = _arcs()
  sign = 1 if far else -1  # of du/dx
  w = _taylor(arc, u, sign * step, m)
  log_gauss = [-0.25 * v / s for v in w]
  gauss = [jnp.ones_like(a)]  # e^(−(w − w_0)/4t)
  for n in range(1, m + 1):
    gauss.append(sum(j / n * log_gauss[j] * gauss[n - j] for j in range(1, n + 1)))
  base = math.pi if far else 0.0
  total = [jnp.zeros_like(a)] * (m + 1)
  for k in range(3):
    beta = (2 * k + 1) * math.pi if far else 2 * k * math.pi
    slope = beta / (2 * s)
    root = slope * a
    # e^(−(β − a)²/4t) over that of the first winding
    weight = jnp.exp(-(beta - base) * (beta + base - 2 * a) / (4 * s))
    weight = weight * (2 if far or k else 1) * ((-1) ** k if even else 1)
    scale = slope / (2 + 2 * root)
    z = [jnp.zeros_like(a)] + [slope * scale * v for v in w[1:]]
    c = _cosh_root(root, m)

    def compose(c: list[Array], z: list[Array] = z) -> list[Array]:
      out = [c[m] / math.factorial(m)] + [jnp.zeros_like(a)] * m
      for n in range(m - 1, -1, -1):
        out = _times(out, z)
        out[0] = out[0] + c[n] / math.factorial(n)
      return out

    part = compose(c)
    if even:  # times the way of each around: β C − 2 (βa²/2t) C', or near 0, over a, C − (β²/t) C'
      slopes = compose(c[1:])
      if far:
        part = [beta * x for x in part]
        slopes = _times(w, slopes)
      part = [x - 2 * (1 if far else beta) * scale * y for x, y in zip(part, slopes)]
    total = [x + weight * y for x, y in zip(total, part)]
  total = _times(total, gauss)
  if even:
    signed = [v * (sign * step) ** k for k, v in enumerate(
      _taylor(over_cosine if far else over_sine, u, jnp.ones_like(u), m)
    )]  # fmt: skip
    total = _times(total, signed)
  log = jnp.log(total[m]) + math.lgamma(m + 1) - m * jnp.log(step)
  gap = base - a
  return log - numerics.rounded(0.25 * gap * (gap / t))


def _log_winding(r: Array, t: Array, m: int, even: bool) -> Array:
  """`_log_wound` from the nearer end, [...], for angles r up to π."""
  near = r < 0.5 * math.pi
  one = _log_wound(jnp.where(near, r, 0), t, m, False, even)
  other = _log_wound(jnp.where(near, 0, math.pi - r), t, m, True, even)
  return jnp.where(near, one, other) - 0.5 * jnp.log(4 * math.pi * t)


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
  log_f = _log_winding(2 * half, t_, m, True) + 2 * m * jnp.log(jnp.cos(v))
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

  By Riemannian volume; r ≥ 0 is at most π/√c. To a relative 1e-13 in float64 up to dimension 9, for
  every t. Holds 65 numbers for every r in even dimensions.

  Raises:
    ValueError: the dimension is not positive.
  """
  if dim < 1:
    raise ValueError(f"a dimension is at least 1, got {dim}")
  t, c = jnp.asarray(t, r.dtype), jnp.asarray(c, r.dtype)
  r, t = _bounded(numerics.bound(jnp.sqrt(c) * r, math.pi), c * t)
  start = min(1.0, 2 / dim)
  late = t > start
  early = jnp.where(late, start, t)
  wound = _log_odd_sphere if dim % 2 else _log_even_sphere
  early = wound(r, early, (dim - 1) // 2)
  value = jnp.where(late, _log_harmonics(r, jnp.where(late, t, start), dim, start), early)
  return value + 0.5 * dim * jnp.log(c)
