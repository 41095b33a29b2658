"""Riemannian normal on hyperbolic and flat space: density ∝ exp(−dist(x, μ)²/(2σ²)).

The maximum-entropy distribution of a given mean square distance, on the hyperbolic charts,
`stereographic` at c ≥ 0 and `euclidean`. μ is [..., point], σ > 0 [...] in the unit of distances.
Radii have density ∝ exp(−r²/(2σ²)) s(r)^(d−1), s(r) = sinh(√c r)/√c. Its logarithm falls from the
mode at least as that of a normal of deviation σ, and at the mode bends at most twice as much: a
window of ±9σ about the mode holds all of the mass, and 64 Gauss–Legendre nodes find it to rounding.
The alternating sum of d error functions in [mathieu2019poincare] has lost all digits at small σ.
Source: [said2014riemannian], [mathieu2019poincare].
"""

import jax
import jax.numpy as jnp

from geoemb.distributions import radial
from geoemb.manifolds import Manifold
from geoemb.typing import Array, Key, Scalar

_WINDOW = 9.0  # in σ: e^(−81/2) = 3e-18 of the peak
_NEWTON = 6


def _mode(k: Array, dim: int) -> Array:
  """The mode of r/σ, [...], with k = cσ²: ρ = (d − 1)√k coth(√k ρ); a constant to derivatives.

  By Newton's method. Nothing rests on its being exact.
  """
  n = dim - 1
  k = jax.lax.stop_gradient(k)
  if n == 0:
    return jnp.zeros_like(k)

  def step(_: int, rho: Array) -> Array:
    slope = radial.log_sine_slope(rho, k)
    return rho + (n * slope - rho) / (1 + n * jnp.abs(slope * slope - k))

  return jax.lax.fori_loop(0, _NEWTON, step, jnp.sqrt(n + n * n * k))


def log_norm(sigma: Array, dim: int, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the integral of exp(−r²/(2σ²)) by Riemannian volume, [...]; flat for c = 0."""
  sigma = jnp.asarray(sigma)
  k = jnp.asarray(c, sigma.dtype) * sigma * sigma
  mode = _mode(k, dim)[..., None]
  low = jnp.where(mode > _WINDOW, mode - _WINDOW, 0)
  t, log_w = (jnp.asarray(a, sigma.dtype) for a in radial.quadrature())
  width = mode + _WINDOW - low
  rho = low + width * t
  log_f = (dim - 1) * radial.log_sine(rho, k[..., None]) - 0.5 * rho * rho
  total = jax.nn.logsumexp(log_f + log_w + jnp.log(width), axis=-1)
  return radial.log_area(dim - 1) + dim * jnp.log(sigma) + total


def mean_square(sigma: Array, dim: int, *, c: Scalar = 1.0) -> Array:
  """Mean of dist(x, μ)², [...]: σ³ times the slope of `log_norm`. Its inverse estimates σ."""
  sigma = jnp.asarray(sigma)
  _, slope = jax.jvp(lambda s: log_norm(s, dim, c=c), (sigma,), (jnp.ones_like(sigma),))
  return sigma**3 * slope


def log_prob(m: Manifold, x: Array, mu: Array, sigma: Scalar) -> Array:
  """Log-density by Riemannian volume, [...], in nats.

  Raises:
    ValueError: the manifold is the sphere.
  """
  dim = _check(m, mu)
  sigma = jnp.asarray(sigma, mu.dtype)
  norm = log_norm(sigma, dim, c=m.bend(mu.dtype))
  return -0.5 * m.sqdist(mu, x) / (sigma * sigma) - norm


def sample(key: Key, m: Manifold, mu: Array, sigma: Scalar, shape: tuple[int, ...] = ()) -> Array:
  """Points, [*shape, ..., point], with derivatives by μ only.

  Radii are exact. log s lies below its tangent at the mode, which makes the bound on their density
  a normal one of deviation σ: proposals from that are accepted with what s falls short by.

  Raises:
    ValueError: the manifold is the sphere.
  """
  dim = _check(m, mu)
  sigma = jax.lax.stop_gradient(jnp.asarray(sigma, mu.dtype))
  k = jax.lax.stop_gradient(m.bend(mu.dtype)) * sigma * sigma
  batch = jnp.broadcast_shapes(mu.shape[:-1], sigma.shape)
  k = jnp.broadcast_to(k, (*shape, *batch))
  key_r, key_n = jax.random.split(key)
  mode = _mode(k, dim)

  def draw(key: Key) -> tuple[Array, Array]:
    normal = jax.random.normal(key, k.shape, k.dtype)
    if dim == 1:
      return jnp.abs(normal), jnp.zeros_like(k)
    rho = normal + (dim - 1) * radial.log_sine_slope(mode, k)
    gap = (dim - 1) * radial.tangent_gap(jnp.where(rho > 0, rho, mode), mode, k)
    return rho, jnp.where(rho <= 0, -jnp.inf, gap)

  rho = radial.accepted(key_r, jnp.zeros_like(k), draw)
  w = (sigma * rho)[..., None] * radial.direction(key_n, k.shape, dim, k.dtype)
  mu = jnp.broadcast_to(mu, (*batch, mu.shape[-1]))
  return m.exp(mu, m.from_frame(mu, w))


def _check(m: Manifold, x: Array) -> int:
  if m.sign == 1:
    raise ValueError("the Riemannian normal is of hyperbolic or flat space, got the sphere")
  return m.dimension(x)
