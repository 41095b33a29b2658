"""What reducers share: components at a mean, points from coordinates, the search for directions.

A reducer is a module with `fit(m, x, k)`, which returns `Components`, `coordinates(m, components,
x)` [..., k], those of the projection of x, and `points(m, components, a)`, which is here: exp of
the coordinates along the directions. The projection of x is `points` of its `coordinates`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import Manifold, euclidean
from geoemb.optim.second_order import trust_region
from geoemb.typing import Array


class Components(NamedTuple):
  """Geodesics through the mean along which points vary most, the first the most."""

  mean: Array  # [point] their Fréchet mean
  directions: Array  # [k, point] orthonormal tangents there
  variances: Array  # [k] what each adds to the variance that is explained, as the reducer has it
  total: Array  # [] the variance of the points


def check(m: Manifold, x: Array, k: int) -> None:
  """Refuses what has no components.

  Raises:
    ValueError: x is no table of points, or k not between 1 and the dimension of the manifold.
  """
  if m.point_ndim != 1 or x.ndim != 2 or not len(x):
    raise ValueError(f"points must be [n, d], got {list(x.shape)} on {m.name}")
  if not 1 <= k <= m.dimension(x):
    raise ValueError(f"k must be between 1 and {m.dimension(x)}, got {k}")


def points(m: Manifold, components: Components, a: Array) -> Array:
  """The points at coordinates a [..., k], [..., point]: exp at the mean."""
  v = numerics.einsum("...k,kd->...d", a, components.directions)
  return m.exp(components.mean, v)


def normal(m: Manifold, mean: Array, x: Array) -> Array:
  """Coordinates of log at the mean in the frame there, [..., d]."""
  return m.to_frame(mean, m.log(mean, x))


def spread(a: Array) -> tuple[Array, Array]:
  """Mean squares along the principal axes of a [n, d], ascending [d], and these axes, [d, d]."""
  variances, w = jnp.linalg.eigh(numerics.dots(a.T, a.T) / a.shape[0])
  return variances, w.T


def sines(a: Array, k: Array) -> Array:
  """Vectors along a [..., d] of length s(‖a‖), s(r) = sinh(√k r)/√k or sin(√−k r)/√−k.

  Those of points at normal coordinates a, in the Lorentz model or on the sphere, less the part
  along the mean. Lengths end where squares would overflow: in float32 at r = 42/√k.
  """
  most = numerics.root_max(a.dtype)
  over = numerics.sinh_root_over(k * numerics.dot(a, a))
  return numerics.bound(a * numerics.bound(over, most)[..., None], most)


def nested(
  value: Callable[[Array, Array], Array], a: Array, k: int, *, signed: bool = False
) -> tuple[Array, Array]:
  """Orthonormal directions [k, d], one after the other, and the values [k] that they reach.

  Each minimises `value` with those before it held, by trust regions on the sphere of directions
  from the principal axis of what these leave of a. A local minimum, as all such searches find.

  Args:
    value: of directions q [k, d], of which the first `count` [] are set and the rest 0.
    a: [n, d] normal coordinates.
    k: directions.
    signed: whether q and −q differ, so that both are starts.
  """
  m = euclidean.manifold()
  # of gradients, as a share of the value at the start; what is left of the value is its square
  tol = numerics.eps(a.dtype) ** 0.5

  def step(q: Array, j: Array) -> tuple[Array, Array]:
    rest = lambda u: u - numerics.matmul(numerics.dots(u[..., None, :], q), q)[..., 0, :]
    place = lambda u: q.at[j].set(numerics.unit(rest(u)))
    _, axes = spread(rest(a))
    start = numerics.unit(rest(axes[-1]))
    size = jnp.abs(value(place(start), j + 1))
    size = jnp.where(size > 0, size, 1)

    def search(u: Array) -> tuple[Array, Array]:
      found = trust_region.minimize(
        lambda u: value(place(u), j + 1) / size, m, u, tol=tol, max_iter=50
      )
      return found.x, found.value

    starts = jnp.stack([start, -start] if signed else [start])
    us, values = jax.lax.map(search, starts)
    best = jnp.argmin(values)
    return place(us[best]), values[best] * size

  return jax.lax.scan(step, jnp.zeros((k, a.shape[-1]), a.dtype), jnp.arange(k))
