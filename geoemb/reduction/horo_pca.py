"""HoroPCA: principal components of hyperbolic space towards ideal points [chami2021horopca].

The components are directions p_1, ..., p_k from the mean, orthonormal as in the authors' code, that
is ideal points. A point x is projected to the geodesic subspace through the mean that they span,
along the horospheres about them: all Busemann functions of the p_i stay as they are. Two points of
the subspace have them; taken is the one on the mean's side of the hull of the ideal points.
Unlike nearest points, such projections keep distances along the directions however far out x is.
Each next ideal point maximises the generalised variance of the projections, half the mean squared
distance of two of them, with those before it held: the iterative search of the authors' code.
Points of the subspace on the mean's side stay where they are; those beyond the hull are reflected.

In the Lorentz model with the mean at the origin let z be the spatial coordinates of x, T its time,
z_i = z·p_i, w the rest of z, q = T − √c Σ z_i. As −⟨x, (1, p_i)⟩ is exp of the Busemann function,
the projection lies at y_i = z_i − √c‖w‖²/(√(q² + (k − 1) c‖w‖²) + q), of which nothing cancels for
q > 0. At c = 0 that is PCA.
"""

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import Manifold, means
from geoemb.reduction.components import Components, check, nested, normal, sines
from geoemb.reduction.components import points as points
from geoemb.typing import Array

_BLOCK = 256  # rows of distances at a time


def _project(z: Array, p: Array, count: Array, c: Array) -> Array:
  """The y above, [..., k], of z [..., d], for the first `count` of p [k, d]; the others are 0."""
  t = numerics.einsum("...d,kd->...k", z, p)
  w = z - numerics.einsum("...k,kd->...d", t, p)
  ww, s = c * numerics.dot(w, w), jnp.sqrt(c) * jnp.sum(t, axis=-1)
  tt = c * numerics.dot(t, t)
  time = jnp.sqrt(1 + tt + ww)
  ahead = s > 0
  q = jnp.where(ahead, (1 + ww + (tt - s * s)) / (time + jnp.where(ahead, s, 0)), time - s)
  inside, more = q > 0, jnp.asarray(count - 1, z.dtype)
  # where q < 0, which takes two ideal points, the same with a numerator that does not cancel
  ww, size = jnp.where(ww > 0, ww, 0), jnp.abs(q)
  root = numerics.hypot(size, jnp.sqrt(more) * numerics.safe_sqrt(ww, jnp.zeros_like(c)))
  shift = jnp.where(inside, ww / (root + size), (root + size) / jnp.where(more > 0, more, 1))
  root_c = jnp.sqrt(jnp.where(c > 0, c, 1))
  active = jnp.arange(p.shape[0]) < count
  return jnp.where(active, t - (shift / root_c)[..., None], 0)


def _variance(y: Array, c: Array) -> Array:
  """Half the mean squared distance of two of the points y [n, k] of the Lorentz model, []."""
  n = y.shape[0]
  r = numerics.dot(y, y)
  height = r / (1 + jnp.sqrt(1 + c * r))  # (T − 1)/c
  pad = -n % _BLOCK
  rows = lambda a: jnp.pad(a, [(0, pad)] + [(0, 0)] * (a.ndim - 1))
  blocks = jax.tree.map(
    lambda a: rows(a).reshape(-1, _BLOCK, *a.shape[1:]), (y, height, jnp.ones_like(r))
  )

  @jax.checkpoint
  def block(args: tuple) -> Array:
    x, p, weight = args
    total = p[:, None] + height + c * p[:, None] * height
    square = 0.5 * (total - numerics.dots(x, y))  # sinh²(√c d/2)/c
    square = jnp.where(square > numerics.noise(y.dtype) * total, square, 0)
    return jnp.sum(weight[:, None] * (numerics.arc_square(square, c) / n), axis=None)

  return 0.5 * jnp.sum(jax.lax.map(block, blocks)) / n


def _check(m: Manifold) -> None:
  bend = m.bend()
  if m.sign == 1 or (not isinstance(bend, jax.core.Tracer) and bend < 0):
    raise ValueError(f"ideal points are of hyperbolic space, got {m.name} of curvature {-bend}")


def fit(m: Manifold, x: Array, k: int) -> Components:
  """The first k components of points x [n, d] of a chart of hyperbolic or flat space.

  The variances are what each adds to the generalised variance of the projections, and `total` is
  that of the points. A step of the search takes n² distances, in blocks of rows; of large tables
  fit a sample.

  Raises:
    ValueError: the manifold is a sphere or of no constant curvature, or k is not between 1 and its
      dimension.
  """
  check(m, x, k)
  _check(m)
  c = m.bend(x.dtype)
  mean = means.frechet(m, x)
  a = normal(m, mean, x)
  z = sines(a, c)
  value = lambda p, count: -_variance(_project(z, p, count, c), c)
  p, least = nested(value, a, k, signed=True)
  variances = jnp.diff(-least, prepend=jnp.zeros((), x.dtype))
  return Components(mean, m.from_frame(mean, p), variances, _variance(z, c))


def coordinates(m: Manifold, components: Components, x: Array) -> Array:
  """Of the horospherical projections of x [..., d], along the components, [..., k]."""
  _check(m)
  c, mean = m.bend(x.dtype), components.mean
  p = m.to_frame(mean, components.directions)
  y = _project(sines(normal(m, mean, x), c), p, jnp.asarray(p.shape[0]), c)
  return y * numerics.asinh_over(jnp.sqrt(c) * numerics.safe_norm(y))[..., None]
