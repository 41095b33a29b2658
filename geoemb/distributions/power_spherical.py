"""Power spherical distribution on the sphere of radius 1/√c: density ∝ (1 + cos θ)^κ.

θ is the angle between x and the mean direction μ, [..., d + 1] each with c‖x‖² = 1, as of
`manifolds.sphere`; κ ≥ 0 is [...], without unit. Samples need no rejection, and have derivatives by
κ. Source: [decao2020power].

With β = d/2, q(κ) = log E((1 + cos θ)/2)^κ over the uniform distribution is
log Γ(β + κ)Γ(2β)/(Γ(2β + κ)Γ(β)), and all else follows from it and its slope: the density by the
uniform one is ((1 + cos θ)/2)^κ e^−q, and its entropy is less by κq' − q.
"""

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.distributions import radial
from geoemb.typing import Array, Key, Scalar

# Stirling's series B_2n/(2n(2n − 1)) z^(1−2n): beyond z = 8 eight terms are exact in float64.
_STIRLING = (
  1 / 12,
  -1 / 360,
  1 / 1260,
  -1 / 1680,
  1 / 1188,
  -691 / 360360,
  1 / 156,
  -3617 / 122400,
)
_SHIFT = 8


def _remainder(z: Array | float) -> Array | float:
  """Log Γ(z) − ((z − 1/2) log z − z + log(2π)/2), [...], for z ≥ 8."""
  y = 1 / z
  square = y * y
  total = _STIRLING[-1]
  for a in _STIRLING[-2::-1]:
    total = a + square * total
  return y * total


def log_moment(kappa: Array, dim: int) -> Array:
  """The logarithm q(κ) of the mean of ((1 + cos θ)/2)^κ over the sphere, [...].

  By Stirling's series for arguments raised by 8, in ratios: four log Γ would cancel.
  """
  beta = 0.5 * dim
  b, t = beta + _SHIFT, 2 * beta + _SHIFT
  raised = jnp.arange(_SHIFT).astype(kappa.dtype)
  low, high = (jnp.log1p(kappa[..., None] / (a + raised)) for a in (beta, 2 * beta))
  rest = (_remainder(b + kappa) - _remainder(t + kappa)) - (_remainder(b) - _remainder(t))
  main = kappa * jnp.log1p(-beta / (t + kappa)) + (b - 0.5) * jnp.log1p(kappa / b)
  main = main - (t - 0.5) * jnp.log1p(kappa / t)
  return main + rest - jnp.sum(low - high, axis=-1)


def log_prob(x: Array, mu: Array, kappa: Scalar, *, c: Scalar = 1.0) -> Array:
  """Log-density by Riemannian volume, [...], in nats.

  At −μ, where the density is 0, it is that of the least normal number in place of (1 + cos θ)/2.
  """
  dim = mu.shape[-1] - 1
  kappa, c = jnp.asarray(kappa, mu.dtype), jnp.asarray(c, mu.dtype)
  sum_, chord = (numerics.bound(z, 2 / jnp.sqrt(c)) for z in (x + mu, x - mu))
  half, rest = (0.25 * c * numerics.dot(z, z) for z in (sum_, chord))  # (1 ± cos θ)/2
  near = rest < 0.5
  least = jnp.finfo(half.dtype).tiny
  far = jnp.log(jnp.where(near, 1, jnp.where(half > least, half, least)))
  log_half = jnp.where(near, jnp.log1p(-jnp.where(near, rest, 0)), far)
  log_area = radial.log_area(dim) - 0.5 * dim * jnp.log(c)
  return kappa * log_half - log_moment(kappa, dim) - log_area


def kl_uniform(kappa: Array, dim: int) -> Array:
  """Kullback–Leibler divergence from the uniform distribution, [...], in nats: κq' − q."""
  kappa = jnp.asarray(kappa)
  q, slope = jax.jvp(lambda k: log_moment(k, dim), (kappa,), (jnp.ones_like(kappa),))
  return kappa * slope - q


def entropy(kappa: Array, dim: int, *, c: Scalar = 1.0) -> Array:
  """Differential entropy by Riemannian volume, [...], in nats."""
  kappa = jnp.asarray(kappa)
  log_area = radial.log_area(dim) - 0.5 * dim * jnp.log(jnp.asarray(c, kappa.dtype))
  return log_area - kl_uniform(kappa, dim)


def mean_length(kappa: Array, dim: int) -> Array:
  """Length of the mean of unit vectors, [...]: κ/(κ + d)."""
  return kappa / (kappa + dim)


def sample(
  key: Key, mu: Array, kappa: Scalar, shape: tuple[int, ...] = (), *, c: Scalar = 1.0
) -> Array:
  """Points, [*shape, ..., d + 1], with reparametrised derivatives by μ and κ.

  (1 − cos θ)/2 is of Beta(β, β + κ).
  """
  dim = mu.shape[-1] - 1
  kappa, c = jnp.asarray(kappa, mu.dtype), jnp.asarray(c, mu.dtype)
  batch = jnp.broadcast_shapes(mu.shape[:-1], kappa.shape)
  key_drop, key_around = jax.random.split(key)
  b = jnp.full((*shape, *batch), 0.5 * dim, mu.dtype)
  drop = 2 * jax.random.beta(key_drop, b, b + kappa, dtype=mu.dtype)
  mu = jnp.broadcast_to(mu, (*batch, dim + 1))
  return radial.around(key_around, jnp.sqrt(c) * mu, drop) / jnp.sqrt(c)
