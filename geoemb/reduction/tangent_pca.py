"""Principal components of points on a manifold, in the tangent space at their Fréchet mean.

Source: [fletcher2004principal] §4, whose geodesics these are to first order.
"""

import jax.numpy as jnp

from geoemb.manifolds import Manifold, means
from geoemb.reduction.components import Components, check, normal, spread
from geoemb.reduction.components import points as points
from geoemb.typing import Array


def fit(m: Manifold, x: Array, k: int) -> Components:
  """The first k components of points x [n, d], any manifold whose points are vectors.

  The variances are mean squares of the coordinates along them, of the mean squared distance from
  the mean in all.

  Raises:
    ValueError: k is not between 1 and the dimension of the manifold.
  """
  check(m, x, k)
  mean = means.frechet(m, x)
  variances, axes = spread(normal(m, mean, x))
  order = slice(None, -k - 1, -1)
  return Components(mean, m.from_frame(mean, axes[order]), variances[order], jnp.sum(variances))


def coordinates(m: Manifold, components: Components, x: Array) -> Array:
  """Of points x [..., d] along the components, [..., k]: inner products with log at the mean."""
  v = m.log(components.mean, x)
  return m.inner(components.mean, v[..., None, :], components.directions)
