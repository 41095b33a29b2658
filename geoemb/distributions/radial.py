"""What distributions share: logarithms in frames, the volume that exp spreads, areas of spheres."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.manifolds import Manifold
from geoemb.typing import Array, Key


def log(m: Manifold, mu: Array, x: Array) -> Array:
  """Coordinates of log_μ(x) in the frame at μ, [..., d]; their norm is the distance.

  That is seen to beyond a distance of 1/√|K|: transport loses digits that the distance has for
  points far from the origin of hyperbolic space, and the logarithm near the antipode on a sphere.
  """
  w = m.to_frame(mu, m.log(mu, x))
  r, length = m.dist(mu, x), numerics.safe_norm(w)
  far = (jnp.abs(m.bend(w.dtype)) * r * r > 1) & (length > 0)
  ratio = numerics.divide(jnp.where(far, r, 1), jnp.where(far, length, 1))
  return w * ratio[..., None]


def log_volume(square: Array, k: Array, dim: int) -> Array:
  """Log-determinant of exp, [...], at tangents of squared length `square`: (d − 1) log(s(r)/r).

  With k = −K, s(r) = sinh(√k r)/√k, which is sin(√−k r)/√−k on spheres.
  """
  return (dim - 1) * numerics.log_sinh_root_over(k * square)


def log_sine(r: Array, k: Array) -> Array:
  """The logarithm of s(r): log(sinh(√k r)/√k), [...], for r > 0."""
  return jnp.log(r) + numerics.log_sinh_root_over(k * r * r)


def log_sine_slope(r: Array, k: Array) -> Array:
  """The derivative of `log_sine`, √k coth(√k r), [...], for r > 0."""
  z = k * r * r
  _, slope = jax.jvp(numerics.log_sinh_root_over, (z,), (jnp.ones_like(z),))
  return (1 + 2 * z * slope) / r


def log_area(dim: int) -> float:
  """Logarithm of the area of the unit sphere of dimension `dim`: 2 points, a circle of 2π, ..."""
  half = 0.5 * (dim + 1)
  return math.log(2) + half * math.log(math.pi) - math.lgamma(half)


def direction(key: Key, shape: tuple[int, ...], dim: int, dtype: jnp.dtype) -> Array:
  """Unit vectors uniform on the sphere in ℝ^dim, [*shape, dim]."""
  return numerics.unit(jax.random.normal(key, (*shape, dim), dtype))


def around(key: Key, mu: Array, drop: Array) -> Array:
  """Unit vectors x [..., d + 1] with 1 − μ·x = drop [...], uniform about the unit vector μ."""
  n = jax.random.normal(key, (*drop.shape, mu.shape[-1]), mu.dtype)
  n = numerics.unit(n - numerics.dot(n, mu)[..., None] * mu)
  across = numerics.safe_sqrt(drop * (2 - drop), jnp.zeros((), drop.dtype))
  return mu + (across[..., None] * n - drop[..., None] * mu)


def tangent_gap(r: Array, p: Array, k: Array) -> Array:
  """By what log s(r) exceeds its tangent at p, [...], for r, p > 0: never for k ≥ 0."""
  return log_sine(r, k) - log_sine(p, k) - (r - p) * log_sine_slope(p, k)


@functools.cache
def quadrature(nodes: int = 64) -> tuple[np.ndarray, np.ndarray]:
  """Gauss–Legendre nodes on [0, 1] and the logarithms of their weights."""
  t, w = np.polynomial.legendre.leggauss(nodes)
  return 0.5 * (t + 1), np.log(0.5 * w)


def accepted(key: Key, start: Array, draw: Callable[[Key], tuple[Array, Array]]) -> Array:
  """Samples by rejection, of the shape of `start`, repeated until every one is accepted.

  `draw` returns proposals and the logarithms of their chances. NaN is accepted, which ends it.
  """

  def step(state: tuple) -> tuple:
    key, value, todo = state
    key, key_draw, key_u = jax.random.split(key, 3)
    new, log_chance = draw(key_draw)
    log_u = jnp.log1p(-jax.random.uniform(key_u, value.shape, value.dtype))
    return key, jnp.where(todo, new, value), todo & (log_chance < log_u)

  state = key, start, jnp.ones(start.shape, bool)
  return jax.lax.while_loop(lambda state: jnp.any(state[2]), step, state)[1]
