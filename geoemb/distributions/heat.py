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

Spheres, d ≤ 3. From t = 1 on by eight terms of the series of spherical harmonics. Before, by
Poisson's summation of it, the sum over geodesics that wind around: of e^(−(r + 2πk)²/4t) for d = 1,
of its slope over sin r for d = 3, and for d = 2 of that slope with signs (−1)^k in the integral
p = e^(t/4)/π² ∫_0^(π/2) N(φ)/sin(φ/2) dv, cos(φ/2) = cos(r/2) cos v, N(φ) = Σ n e^(−n²t) sin nφ
over n = 1/2, 3/2, ..., which is Mehler's of the Legendre polynomials, by the trapezoidal rule.
Opposite windings are added as hyperbolic functions: neither r = 0 nor the antipode is singular.
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


def _wound(r: Array, t: Array, sign: int) -> Array:
  """Σ_k sign^k (r + 2πk) e^(−(r + 2πk)²/4t) over its term k = 0, [...], for t ≤ 1.

  ±k add up to e^(−π²k²/t) (2 cosh y − (4π²k²/t) sinh(y)/y), y = πkr/t.
  """
  total = jnp.ones_like(r)
  for k in (1, 2, 3):
    a = math.pi * k
    # where y < 1 and t < 0.01 nothing is left of it, but 1/t² would overflow in the derivative
    s = jnp.where((a * r < t) & (t < 0.01), 0.01, t)
    total = total + sign**k * jnp.exp(-a * (a - r) / s) * _pair(a * r / s, 4 * a * a / s)
  return total


def _pair(y: Array, b: Array) -> Array:
  """The value e^−y (2 cosh y − b sinh(y)/y), [...], for y ≥ 0."""
  small = y < 1
  some, near = jnp.where(small, 1, y), jnp.where(small, y, 0)
  far = -jnp.expm1(-2 * some) / (2 * some)
  over = jnp.where(small, jnp.exp(-near) * numerics.sinh_over(near), far)  # e^−y sinh(y)/y
  return 1 + jnp.exp(-2 * y) - b * over


def _log_circle(r: Array, t: Array) -> Array:
  """The circle, [...], for t ≤ 1."""
  terms = [-0.25 * (r + 2 * math.pi * k) * ((r + 2 * math.pi * k) / t) for k in range(-2, 3)]
  return jax.nn.logsumexp(jnp.stack(terms), axis=0) - 0.5 * jnp.log(4 * math.pi * t)


def _log_three(r: Array, t: Array) -> Array:
  """Dimension 3, [...], for t ≤ 1; beyond a right angle by pairs about the antipode."""
  near = r < 0.5 * math.pi
  a = jnp.where(near, r, 0)
  log_near = -0.25 * a * (a / t) + jnp.log(_wound(a, t, 1)) - jnp.log(numerics.sin_over(a))
  d = jnp.where(near, 0, math.pi - r)
  total = jnp.zeros_like(r)
  for k in (0, 1, 2):
    b = (2 * k + 1) * math.pi
    less = (b - math.pi) * (b + math.pi - 2 * d) / (4 * t)  # ((b − d)² − (π − d)²)/4t
    total = total - jnp.exp(-less) * _pair(0.5 * b * d / t, b * b / t)
  far = math.pi - d
  log_far = -0.25 * far * (far / t) + jnp.log(total) - jnp.log(numerics.sin_over(d))
  return jnp.where(near, log_near, log_far) + t - 1.5 * jnp.log(4 * math.pi * t)


def _log_two(r: Array, t: Array) -> Array:
  """Dimension 2, [...], for t ≤ 1."""
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
  log_f = (
    numerics.rounded(-half * (half / t_))
    + jnp.log(_wound(2 * half, t_, -1))
    - jnp.log(numerics.sin_over(half))
  )
  total = jax.nn.logsumexp(log_f + log_w, axis=-1) + jnp.log(end)
  return total + 0.25 * t - 1.5 * jnp.log(math.pi * t) - math.log(2)


def _log_harmonics(r: Array, t: Array, dim: int) -> Array:
  """By the spherical harmonics of degree l ≤ 7, [...], for t ≥ 1.

  Each counts e^(−l(l + d − 1)t) C_l(cos r)/C_l(1), with Gegenbauer's C_l of order (d − 1)/2.
  """
  x = jnp.cos(r)
  last, now = jnp.ones_like(x), x  # C_l over its value at 1
  total = 1 + (dim + 1 if dim > 1 else 2) * now * jnp.exp(-dim * t)
  for l in range(2, 8):
    last, now = now, ((2 * l + dim - 3) * x * now - (l - 1) * last) / (l + dim - 2)
    count = math.comb(l + dim, dim) - math.comb(l + dim - 2, dim)  # of harmonics of degree l
    total = total + count * now * jnp.exp(-l * (l + dim - 1) * t)
  return jnp.log(total) - radial.log_area(dim)


def log_spherical(r: Array, t: Scalar, dim: int, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the heat kernel on the sphere of radius 1/√c, [...], in nats, for t > 0.

  By Riemannian volume; r ≥ 0 is at most π/√c. Holds 64 numbers for every r in dimension 2.

  Raises:
    ValueError: the dimension is none of 1, 2, 3.
  """
  if dim not in (1, 2, 3):
    raise ValueError(f"a sphere here is of dimension 1, 2 or 3, got {dim}")
  t, c = jnp.asarray(t, r.dtype), jnp.asarray(c, r.dtype)
  r, t = _bounded(numerics.bound(jnp.sqrt(c) * r, math.pi), c * t)
  late = t > 1
  early = {1: _log_circle, 2: _log_two, 3: _log_three}[dim](r, jnp.where(late, 1, t))
  value = jnp.where(late, _log_harmonics(r, jnp.where(late, t, 1), dim), early)
  return value + 0.5 * dim * jnp.log(c)
