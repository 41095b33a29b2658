"""The unit ball of the Poincaré and the Klein model: points x with c‖x‖² < 1, [..., d], c > 0.

What the two models share, whose metrics differ: α = 1 − c‖x‖², limits on numbers, and the points.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.typing import Array, Key, Scalar

# proj puts points at √c‖x‖ = 1 − 4 eps, and leaves those below 1 − 2 eps alone: coordinates are
# rounded after the scaling, by up to 1 eps of the norm, and stay inside. α is then 8 eps, and the
# farthest radius in the Poincaré model log(4/8 eps)/√c: 15.2/√c in float32, 35.3/√c in float64.
MARGIN = 4
RULE = "c‖x‖² < 1"


def alpha(x: Array, c: Array) -> Array:
  """α = 1 − c‖x‖², [...], at least eps/2."""
  value, least = numerics.co_square(x, c), 0.5 * numerics.eps(x.dtype)
  return jnp.where(value > least, value, least)


def tangent(v: Array, c: Array) -> Array:
  """The tangent v with entries up to a size no tangent in the ball has: 1.6e4/√c in float32.

  It leaves room for the powers of λ ≤ 4/eps in the metric, in transport and in their derivatives.
  """
  return numerics.bound(v, numerics.root_max(v.dtype) * numerics.eps(v.dtype) ** 2 / jnp.sqrt(c))


def point(x: Array, c: Array) -> Array:
  """The point x with entries up to 2/√c: in the ball they are at most 1/√c."""
  return numerics.bound(x, 2 / jnp.sqrt(c))


class Lifted(NamedTuple):
  """Points with their α, which is costly to find."""

  x: Array  # [..., d]
  alpha: Array  # [...]


def lift(x: Array | Lifted, *, c: Scalar = 1.0) -> Lifted:
  """Points in the form in which distances from one to many share work, or those already in it."""
  return x if isinstance(x, Lifted) else Lifted(x, alpha(x, jnp.asarray(c, x.dtype)))


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The point x, or where it is beyond √c‖x‖ = 1 − 2 eps its multiple at 1 − 4 eps, [..., d]."""
  c = jnp.asarray(c, x.dtype)
  small = numerics.eps(x.dtype)
  n = jnp.sqrt(c) * numerics.safe_norm(x)
  out = n > 1 - MARGIN // 2 * small
  return x * jnp.where(out, (1 - MARGIN * small) / jnp.where(out, n, 1), 1)[..., None]


def broken(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where RULE does not hold, [...] bool."""
  c = jnp.asarray(c, x.dtype)
  return ~(jnp.sqrt(c) * numerics.safe_norm(x) < 1)


def saturated(x: Array, *, c: Scalar = 1.0) -> Array:
  """Where points are at the cap of `proj`, [...] bool."""
  c = jnp.asarray(c, x.dtype)
  return jnp.sqrt(c) * numerics.safe_norm(x) >= 1 - (MARGIN + 2) * numerics.eps(x.dtype)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The point x + v, projected, [..., d]: the step of [nickel2017poincare] eq. 4."""
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
  """Points uniform in [−scale, scale] per coordinate, projected, [*shape, dim]."""
  return proj(scale * jax.random.uniform(key, (*shape, dim), dtype, minval=-1, maxval=1), c=c)


def origin(
  shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Scalar = 1.0
) -> Array:
  """Zeros, [*shape, dim]."""
  return jnp.zeros((*shape, dim), dtype)
