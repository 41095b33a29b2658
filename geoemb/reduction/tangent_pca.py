"""Principal components of points on a manifold, in the tangent space at their Fréchet mean.

Source: [fletcher2004principal] §4, whose geodesics these are to first order.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb.manifolds import Manifold, means
from geoemb.typing import Array


class Components(NamedTuple):
  """Geodesics through the mean along which points vary most, the first the most."""

  mean: Array  # [point] their Fréchet mean
  directions: Array  # [k, point] orthonormal tangents there
  variances: Array  # [k] mean squares of the coordinates along them
  total: Array  # [] mean squared distance from the mean


def fit(m: Manifold, x: Array, k: int) -> Components:
  """The first k components of points x [n, d], any manifold whose points are vectors.

  Raises:
    ValueError: k is not between 1 and the dimension of the manifold.
  """
  if m.point_ndim != 1 or x.ndim != 2:
    raise ValueError(f"points must be [n, d], got {list(x.shape)} on {m.name}")
  if not 1 <= k <= m.dimension(x):
    raise ValueError(f"k must be between 1 and {m.dimension(x)}, got {k}")
  mean = means.frechet(m, x)
  a = m.to_frame(mean, m.log(mean, x))
  variances, w = jnp.linalg.eigh(a.T @ a / x.shape[0])
  order = slice(None, -k - 1, -1)
  return Components(mean, m.from_frame(mean, w.T[order]), variances[order], jnp.sum(variances))


def coordinates(m: Manifold, components: Components, x: Array) -> Array:
  """Of points x [..., d] along the components, [..., k]: inner products with log at the mean."""
  v = m.log(components.mean, x)
  return m.inner(components.mean, v[..., None, :], components.directions)


def points(m: Manifold, components: Components, a: Array) -> Array:
  """The points at coordinates a [..., k], [..., d]: exp at the mean."""
  v = jnp.einsum("...k,kd->...d", a, components.directions, precision=jax.lax.Precision.HIGHEST)
  return m.exp(components.mean, v)
