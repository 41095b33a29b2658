"""A geometry module bound to its curvature, so that other code can be generic over manifolds."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp

from geoemb.typing import Array, Key, PyTree, Scalar


@functools.partial(jax.tree_util.register_dataclass, data_fields=["c"], meta_fields=["ops"])
@dataclasses.dataclass(frozen=True)
class Manifold:
  """A geometry module bound to its curvature: a pytree whose one leaf is `c`."""

  ops: types.ModuleType  # static, equal by identity: no retrace
  c: Scalar  # a leaf: pass through jit, learn, vmap, save like any parameter

  @property
  def name(self) -> str:
    """The name `manifolds.make` knows the geometry by."""
    return self.ops.__name__.rpartition(".")[2]

  @property
  def point_ndim(self) -> int:
    """Axes of a point: 1 for vectors, 2 for matrices."""
    return getattr(self.ops, "POINT_NDIM", 1)

  def wide(self, a: Array) -> Array:
    """One number a point, [...], with axes for the point's own: it broadcasts with points."""
    return jnp.expand_dims(a, tuple(range(-self.point_ndim, 0)))

  def inner(self, x: Array, u: Array, v: Array) -> Array:
    """Inner product of tangents u, v at x, [...]."""
    return self.ops.inner(x, u, v, c=self.c)

  def norm(self, x: Array, u: Array) -> Array:
    """Length of the tangent u at x, [...]."""
    return self.ops.norm(x, u, c=self.c)

  def component_inner(self, x: Array, u: Array) -> Array:
    """Squared length of u by irreducible factor, [..., d] for flat space, else [..., 1].

    [..., 1, 1] where points are matrices: it always broadcasts with points.
    """
    return self.ops.component_inner(x, u, c=self.c)

  def dist(self, x: Array, y: Array) -> Array:
    """Geodesic distance, [...]."""
    return self.ops.dist(x, y, c=self.c)

  def sqdist(self, x: Array, y: Array) -> Array:
    """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist²."""
    return self.ops.sqdist(x, y, c=self.c)

  def exp(self, x: Array, v: Array, limit: Scalar | None = None) -> Array:
    """End of the geodesic that leaves x with velocity v, after unit time, [..., d].

    Tangents longer than `limit` are shortened to it first.
    """
    return self.ops.exp(x, v, c=self.c, limit=limit)

  def log(self, x: Array, y: Array) -> Array:
    """Velocity at x of the geodesic that reaches y in unit time, [..., d]."""
    return self.ops.log(x, y, c=self.c)

  def transport(self, x: Array, y: Array, v: Array) -> Array:
    """Parallel transport of v from x to y along the geodesic, [..., d]."""
    return self.ops.transport(x, y, v, c=self.c)

  def proj(self, x: Array) -> Array:
    """The nearest point that is safely on the manifold, [..., d]."""
    return self.ops.proj(x, c=self.c)

  def egrad2rgrad(self, x: Array, g: Array) -> Array:
    """Riemannian gradient from the gradient g in coordinates, [..., d]."""
    return self.ops.egrad2rgrad(x, g, c=self.c)

  def descend(self, x: Array, g: Array, rate: Scalar, limit: Scalar | None = None) -> Array:
    """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d], for less: a step of gradient descent.

    Steps longer than `limit` are shortened to it.
    """
    return self.ops.descend(x, g, rate, c=self.c, limit=limit)

  def retract(self, x: Array, v: Array) -> Array:
    """A point near exp(x, v), to first order in v, for less, [..., d]."""
    return self.ops.retract(x, v, c=self.c)

  def displacement(self, x: Array, y: Array) -> Array:
    """An array whose floating-point sum with x is y as closely as the chart tells points apart."""
    own = getattr(self.ops, "displacement", None)
    return own(x, y, c=self.c) if own else y - x

  def random(
    self,
    key: Key,
    shape: tuple[int, ...],
    dim: int | tuple[int, int],
    *,
    scale: Scalar = 1e-3,
    dtype: jnp.dtype = jnp.float32,
  ) -> Array:
    """Random points, [*shape, *point]: see the geometry for what `scale` does.

    `dim` is a pair (n, p) for frames.
    """
    return self.ops.random(key, shape, dim, scale=scale, c=self.c, dtype=dtype)

  def origin(
    self, shape: tuple[int, ...], dim: int | tuple[int, int], dtype: jnp.dtype = jnp.float32
  ) -> Array:
    """The base point, [*shape, *point]."""
    return self.ops.origin(shape, dim, dtype, c=self.c)

  def origin_like(self, x: Array) -> Array:
    """The base point in place of every point of x, [..., point]."""
    if self.point_ndim == 2:
      return self.origin(x.shape[:-2], x.shape[-2:], x.dtype)
    two, three = (self.origin((), dim, x.dtype).shape[-1] for dim in (2, 3))
    dim = 2 + (x.shape[-1] - two) // (three - two)  # coordinates grow in proportion
    return self.origin(x.shape[:-1], dim, x.dtype)

  def exp0(self, v: Array) -> Array:
    """The point exp(origin, v), [..., point]."""
    return self.exp(self.origin_like(v), v)

  def log0(self, y: Array) -> Array:
    """The tangent log(origin, y) at the origin, [..., point]."""
    return self.log(self.origin_like(y), y)

  def dist0(self, x: Array) -> Array:
    """Distance from the origin, [...]."""
    return self.dist(self.origin_like(x), x)

  def geodesic(self, x: Array, y: Array, t: Scalar) -> Array:
    """The point that is the share t of the way from x to y, [..., point]; t broadcasts as dist."""
    return self.exp(x, self.wide(jnp.asarray(t, x.dtype)) * self.log(x, y))

  def midpoint(self, x: Array, y: Array) -> Array:
    """Half way from x to y, [..., point]."""
    return self.geodesic(x, y, 0.5)

  def lift(self, x: Array) -> PyTree:
    """Points [..., d] in the form in which distances from one to many share work.

    A tree whose leaves have the leading axes of x; `dist`, `pairwise` and `pairwise_affinity` take
    it in place of x. It is x itself where there is nothing worth keeping beside it.
    """
    own = getattr(self.ops, "lift", None)
    return own(x, c=self.c) if own else x

  def pairwise(self, x: Array, y: Array) -> Array:
    """Distances of every x [..., n, d] to every y [..., m, d] by inner products, [..., n, m]."""
    return self.ops.pairwise(x, y, c=self.c)

  def pairwise_affinity(self, x: Array, y: Array) -> Array:
    """exp(−pairwise(x, y)), [..., n, m], in the cheapest form; needs a fixed c."""
    return self.ops.pairwise_affinity(x, y, c=self.c)

  def query(self, x: Array) -> Array:
    """Features whose inner product with `key(y)` increases with dist(x, y), [..., k]."""
    return self.ops.query(x, c=self.c)

  def key(self, y: Array) -> Array:
    """Features whose inner product with `query(x)` increases with dist(x, y), [..., k]."""
    return self.ops.key(y, c=self.c)
