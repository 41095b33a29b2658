"""Heat kernel of hyperbolic space: the density at time t of a diffusion from a point, ∂p/∂t = Δp.

A function of the distance r [...] in units of length and the time t [...] in their squares; the
shapes broadcast. Brownian motion, whose generator is Δ/2, has it at t/2. At curvature −c it is
c^(d/2) times the one of curvature −1 at (√c r, c t).

Odd dimensions d = 2m + 1 have a closed form [grigoryan1998heat]: with x = cosh r,
p = e^(−m²t)/(2π)^m (−∂/∂x)^m (4πt)^(−1/2) e^(−r²/4t). By Faà di Bruno's formula the derivative of
e^(−r²/4t) is that times the complete Bell polynomial of g_j = ψ_(j−1)/(2t), where
ψ_k = (−∂/∂x)^k (r/sinh r) = k!/2 ∫ ds/(cosh s + x)^(k+1) > 0
so all terms are positive, and are summed as logarithms. Near r = 0 the integral is found by the
trapezoidal rule, which converges as e^(−2π²/h); beyond, ψ by its recurrence, which then is stable.
Even dimensions are an integral of the kernel of d + 1 along a geodesic at right angles,
p_d(r) = 4 e^((2d−1)t/4) cosh(r/2) ∫_0^∞ p_(d+1)(ρ) cosh v dv, cosh(ρ/2) = cosh(r/2) cosh v,
by the trapezoidal rule again, on the part where the integrand exceeds e^−45 of its peak.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.typing import Array, Scalar

_STEP, _NODES = 0.4, 60  # of ψ: up to s = 23.6, where the integrand is e^−42 at most
_FAR = 2.5  # from where on ψ is by recurrence
_OUTER = 160  # of even dimensions: a step of at most 0.29, whose error is e^−34
_DEPTH = 45.0


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
  gauss = -0.25 * r * numerics.divide(r, t) - 0.5 * jnp.log(4 * math.pi * t)
  return gauss + log_q[m] - m * r - m * m * t - m * math.log(2 * math.pi)


def _log_even(r: Array, t: Array, dim: int) -> Array:
  """Log-density for even d at curvature −1, [...]."""
  m = dim // 2
  half = 0.5 * r
  # ρ at the end: by the Gaussian factor, or by the e^(−mρ + v) of the others
  far = jnp.minimum(jnp.sqrt(r * r + 4 * _DEPTH * t), r + _DEPTH / (m - 0.5))
  log_ratio = _log_cosh(0.5 * far) - _log_cosh(half)  # log cosh of the last v
  big = log_ratio > 1
  small = jnp.where(big, 0, log_ratio)
  root = numerics.safe_sqrt(jnp.expm1(2 * small), jnp.zeros((), r.dtype))
  some = jnp.where(big, log_ratio, 1)
  end = jnp.where(
    big, some + jnp.log1p(jnp.sqrt(-jnp.expm1(-2 * some))), numerics.asinh(root)
  )  # arcosh of its exponential
  end = jax.lax.stop_gradient(end)
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
  r, t = jnp.broadcast_arrays(jnp.sqrt(c) * r, c * t)
  value = _log_odd(r, t, dim // 2) if dim % 2 else _log_even(r, t, dim)
  return value + 0.5 * dim * jnp.log(c)
