"""Diagonal Gaussians N(μ, diag σ²) with the Fisher–Rao metric, and their divergences.

A point is (μ, σ), [..., 2 d], σ > 0 last; a tangent likewise. The metric Σ (dμ² + 2 dσ²)/(c σ²) is
Fisher's at c = 1; it makes every coordinate's (μ/√2, σ) a point of a half-plane of curvature −c/2,
and all of them a product of d such planes.
Source: [costa2015fisher] §2 and §3.
"""

import sys

import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base, halfspace
from geoemb.typing import Array, Key, Scalar

_ROOT2 = 2.0**0.5


def _parts(x: Array) -> tuple[Array, Array]:
  """Means and deviations of a point, or of a tangent, [..., d] each."""
  if x.shape[-1] % 2:
    raise ValueError(f"a Gaussian has as many deviations as means, got {x.shape[-1]} coordinates")
  return jnp.split(x, 2, axis=-1)


def _planes(x: Array) -> Array:
  """Points or tangents of the half-planes, [..., d, 2]."""
  mu, sigma = _parts(x)
  return jnp.stack([mu / _ROOT2, sigma], axis=-1)


def _join(x: Array) -> Array:
  """The inverse of `_planes`."""
  return jnp.concatenate([x[..., 0] * _ROOT2, x[..., 1]], axis=-1)


def _half(c: Scalar, x: Array) -> Array:
  """Minus the curvature of a plane."""
  return jnp.asarray(c, x.dtype) / 2


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]."""
  return halfspace.inner(_planes(x), _planes(u), _planes(v), c=_half(c, x)).sum(axis=-1)


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]."""
  return numerics.safe_norm(halfspace.norm(_planes(x), _planes(u), c=_half(c, x)))


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent in each plane, beside μ and beside σ, [..., 2 d]."""
  square = halfspace.inner(_planes(x), _planes(u), _planes(u), c=_half(c, x))
  return jnp.concatenate([square, square], axis=-1)


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Fisher–Rao distance, [...]; its gradient at x = y is 0."""
  return numerics.safe_norm(halfspace.dist(_planes(x), _planes(y), c=_half(c, x)))


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared distance, [...], with derivatives of every order at x = y, unlike dist²."""
  return halfspace.sqdist(_planes(x), _planes(y), c=_half(c, x)).sum(axis=-1)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., 2 d]; longer tangents are cut to `limit`."""
  if limit is not None:
    v = numerics.shorten(v, norm(x, v, c=c), limit)
  return _join(halfspace.exp(_planes(x), _planes(v), c=_half(c, x)))


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., 2 d]."""
  return _join(halfspace.log(_planes(x), _planes(y), c=_half(c, x)))


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Parallel transport of v from x to y, [..., 2 d]."""
  return _join(halfspace.transport(_planes(x), _planes(y), _planes(v), c=_half(c, x)))


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point x with its deviations within the half-plane's limits, [..., 2 d]."""
  mu, sigma = _parts(x)
  most = halfspace.top(x.dtype)
  sigma = jnp.where(sigma > most, most, jnp.where(sigma < 1 / most, 1 / most, sigma))
  return jnp.concatenate([numerics.bound(mu, most), sigma], axis=-1)


def displacement(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """The difference y − x, [..., 2 d], after which deviations stay positive."""
  (_, sigma), (mu, delta) = _parts(x), _parts(y - x)
  least = -(1 - 2 * numerics.eps(x.dtype)) * sigma  # as in the half-space
  return jnp.concatenate([mu, jnp.where(delta < least, least, delta)], axis=-1)


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian, that is natural, gradient, [..., 2 d]: c σ² (g_μ, g_σ/2)."""
  g_mu, g_sigma = _parts(g)
  covector = jnp.stack([g_mu * _ROOT2, g_sigma], axis=-1)  # along μ/√2 and σ
  return _join(halfspace.egrad2rgrad(_planes(x), covector, c=_half(c, x)))


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., 2 d]; longer steps are cut to `limit`."""
  return exp(x, -jnp.asarray(rate, x.dtype) * egrad2rgrad(x, g, c=c), c=c, limit=limit)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point (μ + v_μ, σ e^(v_σ/σ)), projected, [..., 2 d]."""
  return _join(halfspace.retract(_planes(x), _planes(v), c=_half(c, x)))


def random(
  key: Key,
  shape: tuple[int, ...],
  dim: int,
  *,
  scale: Scalar = 1e-3,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Gaussians with μ/√2 and log σ uniform in [−scale, scale], [*shape, 2 dim]."""
  return _join(halfspace.random(key, (*shape, dim), 2, scale=scale, dtype=dtype))


def origin(
  shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Scalar = 1.0
) -> Array:
  """The standard normal distribution of `dim` coordinates, [*shape, 2 dim]."""
  return _join(halfspace.origin((*shape, dim), 2, dtype))


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., n, 2 d] to y [..., m, 2 d], [..., n, m], from an array of [..., n, m, d].

  A sum of squared arcs is no inner product; take blocks of x where this is too large.
  """
  return dist(x[..., :, None, :], y[..., None, :, :], c=c)


def pairwise_affinity(x: Array, y: Array, *, c: float = 1.0) -> Array:
  """exp(−pairwise(x, y)), [..., n, m]."""
  return jnp.exp(-pairwise(x, y, c=c))


def _ratio(x: Array, y: Array) -> tuple[Array, Array, Array]:
  """(μ_x − μ_y)/σ_y, σ_x/σ_y − 1 and log(σ_x/σ_y), [..., d], accurate where the two are close."""
  (mu_x, sigma_x), (mu_y, sigma_y) = _parts(proj(x)), _parts(proj(y))
  excess = (sigma_x - sigma_y) / sigma_y
  near = jnp.abs(excess) < 0.5
  log = jnp.where(near, jnp.log1p(jnp.where(near, excess, 0)), jnp.log(sigma_x) - jnp.log(sigma_y))
  return (mu_x - mu_y) / sigma_y, excess, log


def kl(x: Array, y: Array) -> Array:
  """Kullback–Leibler divergence KL(x ‖ y) in nats, [...].

  ½ Σ ((μ_x − μ_y)²/σ_y² + ρ² − 1 − 2 log ρ), ρ = σ_x/σ_y; no negative value from rounding.
  """
  shift, excess, log = _ratio(x, y)
  # ρ² − 1 − 2 log ρ = e² + 2 (e − log(1 + e)), the last by its series where it cancels.
  small = jnp.abs(excess) < 0.01
  e = jnp.where(small, excess, 0)
  # e²/2 − e³/3 + … + e⁸/8: the next term is below eps of the first in this range.
  series = e * e * (0.5 - e * (1 / 3 - e * (0.25 - e * (0.2 - e * (1 / 6 - e * (1 / 7 - e / 8))))))
  gap = jnp.where(small, series, excess - log)
  return 0.5 * jnp.sum(shift * shift + excess * excess + 2 * gap, axis=-1)


def wasserstein(x: Array, y: Array) -> Array:
  """2-Wasserstein distance, [...]: √Σ (μ_x − μ_y)² + (σ_x − σ_y)²; its gradient at x = y is 0."""
  return numerics.safe_norm(x - y)


def log_volume(x: Array, *, c: Scalar = 1.0) -> Array:
  """Logarithm of the volume element √det g of (μ, σ), [...]: Σ log(√2/(c σ²))."""
  _, sigma = _parts(proj(x))
  c = jnp.asarray(c, x.dtype)
  return jnp.sum(0.5 * jnp.log(jnp.asarray(2, x.dtype)) - jnp.log(c) - 2 * jnp.log(sigma), axis=-1)


RULE = "deviations above 0"


def broken(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where RULE does not hold, [...] bool."""
  return ~jnp.all(_parts(x)[1] > 0, axis=-1)


def saturated(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where a mean or a deviation is at its limit, [...] bool."""
  return jnp.any(halfspace.saturated(_planes(x)), axis=-1)


def from_frame(w: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent at the origin, [..., 2 d], of coordinates w in an orthonormal frame: (μ, σ) too."""
  plane = jnp.stack(jnp.split(w, 2, axis=-1), axis=-1)
  return _join(halfspace.from_frame(plane, c=_half(c, w)))


def to_frame(v: Array, *, c: Scalar = 1.0) -> Array:
  """Coordinates in that frame of the tangent v at the origin, [..., 2 d]."""
  w = halfspace.to_frame(_planes(v), c=_half(c, v))
  return jnp.concatenate([w[..., 0], w[..., 1]], axis=-1)


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to a scale, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
