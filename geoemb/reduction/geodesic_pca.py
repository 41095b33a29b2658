"""Geodesic principal components: subspaces through the Fréchet mean that points lie closest to.

Exact, not linearised, on the charts of constant curvature, where the geodesics from the mean along
a span of directions form a totally geodesic subspace, and the nearest point of it is known.
The subspaces are nested, from the smallest up: each next direction, orthogonal to those before it,
minimises the mean squared distance of the points from the subspace. That is principal geodesic
analysis, not linearised [sommer2014optimization], by residuals: to maximise the variance of the
projections instead, as [fletcher2004principal] do, is another problem in curved space.
The mean is held: [huckemann2010intrinsic] let geodesics pass by it.
Notation: z are `sines` of the normal coordinates at the mean, t [..., k] their parts along the
directions, e = z − t the rest, k = −K. A point is arcsin_K ‖e‖ away from its projection, which lies
at z_t/√(1 + k‖e‖²).
"""

import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import Manifold, means
from geoemb.reduction.components import Components, check, nested, normal, sines
from geoemb.reduction.components import points as points
from geoemb.typing import Array


def _parts(z: Array, q: Array) -> tuple[Array, Array]:
  """Of z [..., d]: its parts along q [k, d], [..., k], and the rest, [..., d]."""
  t = numerics.einsum("...d,kd->...k", z, q)
  return t, z - numerics.einsum("...k,kd->...d", t, q)


def fit(m: Manifold, x: Array, k: int) -> Components:
  """The first k components of points x [n, d] of a chart of constant curvature.

  The variances are what each takes from the mean squared distance to the subspace, which without
  any is the mean squared distance from the mean.

  Raises:
    ValueError: the curvature is not constant, or k not between 1 and the dimension of the manifold.
  """
  check(m, x, k)
  bend = m.bend(x.dtype)
  mean = means.frechet(m, x)
  a = normal(m, mean, x)
  z = sines(a, bend)

  def value(q: Array, count: Array) -> Array:
    _, e = _parts(z, q)
    return 0.25 * jnp.mean(numerics.arc_square(numerics.dot(e, e), bend))

  q, left = nested(value, a, k)
  total = jnp.mean(numerics.dot(a, a))
  variances = -jnp.diff(left, prepend=total)
  return Components(mean, m.from_frame(mean, q), variances, total)


def coordinates(m: Manifold, components: Components, x: Array) -> Array:
  """Of the points of the subspace nearest to x [..., d], along the components, [..., k].

  0 for a point at right angles to the whole subspace on a sphere, to which all of it is as near.
  """
  bend, mean = m.bend(x.dtype), components.mean
  a = normal(m, mean, x)
  t, e = _parts(sines(a, bend), m.to_frame(mean, components.directions))
  cosh = numerics.cosh_root(bend * numerics.dot(a, a))
  square = 1 + bend * numerics.dot(e, e)
  least = numerics.eps(x.dtype)
  u = t / jnp.sqrt(jnp.where(square > least, square, least))[..., None]
  near = u * numerics.asinh_root_over(bend * numerics.dot(u, u))[..., None]
  if m.sign in (-1, 0):
    return near
  # From 60° on by the angle, whose sine tells little near 90° and nothing beyond.
  far = cosh < 0.5
  root = jnp.sqrt(jnp.where(far, -bend, 1))
  angle = numerics.atan2(root * numerics.safe_norm(t), jnp.where(far, cosh, 1))
  return jnp.where(far[..., None], numerics.unit(t) * (angle / root)[..., None], near)
