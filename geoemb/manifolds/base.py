"""A geometry module bound to its curvature, so that other code can be generic over manifolds."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.typing import Array, Key, PyTree, Scalar

_NARROW = (jnp.bfloat16, jnp.float16)


def _is_narrow(x: Any) -> bool:
  return getattr(x, "dtype", None) in _NARROW


def _is_wide(x: Any) -> bool:
  return getattr(x, "dtype", None) in (jnp.float32, jnp.float64) and np.ndim(x) > 0


def in_float32(method: Callable) -> Callable:
  """The method, computed in float32 where arrays are narrower, and rounded to their dtype.

  Not rounded where some are wider, as jax promotes; a number [] such as a rate decides nothing.
  """

  @functools.wraps(method)
  def call(self, *args, **kwargs):
    leaves = jax.tree.leaves((args, kwargs))
    narrow = {x.dtype for x in leaves if _is_narrow(x)}
    if not narrow:
      return method(self, *args, **kwargs)
    if len(narrow) > 1:
      raise TypeError(f"arrays of {' and '.join(sorted(map(str, narrow)))} do not mix")
    to = lambda dtype: lambda x: x.astype(dtype)
    widen = lambda x: to(jnp.float32)(x) if _is_narrow(x) else x
    out = method(self, *jax.tree.map(widen, args), **jax.tree.map(widen, kwargs))
    if any(_is_wide(x) for x in leaves):
      return out
    (dtype,) = narrow
    return jax.tree.map(lambda x: to(dtype)(x) if x.dtype == jnp.float32 else x, out)

  return call


@functools.partial(jax.tree_util.register_dataclass, data_fields=["c"], meta_fields=["ops"])
@dataclasses.dataclass(frozen=True)
class Manifold:
  """A geometry module bound to its curvature: a pytree of `c`, which is a tuple in a product.

  Its methods compute with bfloat16 and float16 arrays in float32, and round what they return if no
  array is wider. So rounded, points on the sphere are off by eps, and points of the ball from 5
  (bfloat16) or 7 (float16) from the origin on may lie on its edge: finite, but no longer where they
  were.
  """

  ops: types.ModuleType  # static, equal by identity, or a product of them: no retrace
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

  @in_float32
  def inner(self, x: Array, u: Array, v: Array) -> Array:
    """Inner product of tangents u, v at x, [...]."""
    return self.ops.inner(x, u, v, c=self.c)

  @in_float32
  def norm(self, x: Array, u: Array) -> Array:
    """Length of the tangent u at x, [...]."""
    return self.ops.norm(x, u, c=self.c)

  @in_float32
  def component_inner(self, x: Array, u: Array) -> Array:
    """Squared length of u by irreducible factor, [..., d] for flat space, else [..., 1].

    [..., 1, 1] where points are matrices: it always broadcasts with points.
    """
    return self.ops.component_inner(x, u, c=self.c)

  @in_float32
  def dist(self, x: Array, y: Array) -> Array:
    """Geodesic distance, [...]."""
    return self.ops.dist(x, y, c=self.c)

  @in_float32
  def sqdist(self, x: Array, y: Array) -> Array:
    """Squared geodesic distance, [...], with derivatives of every order at x = y, unlike dist²."""
    return self.ops.sqdist(x, y, c=self.c)

  @in_float32
  def exp(self, x: Array, v: Array, limit: Scalar | None = None) -> Array:
    """End of the geodesic that leaves x with velocity v, after unit time, [..., d].

    Tangents longer than `limit` are shortened to it first.
    """
    return self.ops.exp(x, v, c=self.c, limit=limit)

  @in_float32
  def log(self, x: Array, y: Array) -> Array:
    """Velocity at x of the geodesic that reaches y in unit time, [..., d]."""
    return self.ops.log(x, y, c=self.c)

  @in_float32
  def transport(self, x: Array, y: Array, v: Array) -> Array:
    """Parallel transport of v from x to y along the geodesic, [..., d]."""
    return self.ops.transport(x, y, v, c=self.c)

  @in_float32
  def proj(self, x: Array) -> Array:
    """The nearest point that is safely on the manifold, [..., d]."""
    return self.ops.proj(x, c=self.c)

  @in_float32
  def tangent(self, x: Array, v: Array) -> Array:
    """The tangent at x that is nearest to v, [..., d]; v itself where all vectors are tangents."""
    own = getattr(self.ops, "tangent", None)
    return own(x, v, c=self.c) if own else v

  @in_float32
  def saturated(self, x: Array) -> Array:
    """Where points are as far out as the chart goes, [...] bool: a longer step ends there too."""
    own = getattr(self.ops, "saturated", None)
    return own(x, c=self.c) if own else jnp.zeros(x.shape[: x.ndim - self.point_ndim], bool)

  def fault(self, x: Array, v: Array | None = None) -> str:
    """What is wrong with points, or with tangents at them: one line, empty if nothing is.

    For checks on the host, not within jit.

    Args:
      x: [..., point].
      v: [..., point] tangents at x, or None.
    """
    if by_factor := getattr(self.ops, "fault", None):
      return by_factor(x, v, c=self.c)
    own = tuple(range(-self.point_ndim, 0))
    for what, a in (("point", x), ("tangent", v)):
      if a is None:
        continue
      where, why = _first(~jnp.isfinite(a).all(axis=own)), "is not finite"
      if where is None and what == "point" and hasattr(self.ops, "broken"):
        where = _first(self.ops.broken(x, c=self.c))
        why = f"breaks the rule of {self.name}: {self.ops.RULE}"
      if where is None and what == "tangent":
        off = jnp.max(jnp.abs(v - self.tangent(x, v)), axis=own)
        where = _first(off > 16 * numerics.eps(v.dtype) * jnp.max(jnp.abs(v), axis=own))
        why = "does not lie in the tangent space"
      if where is not None:
        return f"{what} {where} {why}" if where else f"the {what} {why}"
    return ""

  @in_float32
  def log_volume(self, x: Array) -> Array:
    """Logarithm of the volume element √det g in the chart's coordinates, [...]."""
    return self.ops.log_volume(x, c=self.c)

  @in_float32
  def busemann(self, x: Array, p: Array) -> Array:
    """Busemann function of the ideal point in the direction p from the origin, ‖p‖ = 1, [...].

    The distance of x from that point at infinity, less that of the origin; its level sets are
    horospheres. In the Lorentz chart and the ball.
    """
    return self.ops.busemann(x, p, c=self.c)

  @property
  def sign(self) -> int | None:
    """The sign of the sectional curvature where that is constant: None where it is that of −c.

    Raises:
      ValueError: it is not constant.
    """
    if not hasattr(self.ops, "SIGN"):
      raise ValueError(f"manifold must be of constant curvature, got {self.name!r}")
    return self.ops.SIGN

  def bend(self, dtype: jnp.dtype = jnp.float32) -> Array:
    """The negative sectional curvature −K where that is constant, []: c in hyperbolic space."""
    c = jnp.asarray(self.c, dtype)
    return c if self.sign is None else -self.sign * c

  def dimension(self, x: Array) -> int:
    """The dimension of the manifold by its points x [..., point], which may take more numbers."""
    return jax.eval_shape(self.to_frame0, x).shape[-1]

  @in_float32
  def from_frame0(self, w: Array) -> Array:
    """The tangent at the origin with coordinates w [..., d] in an orthonormal frame, [..., point].

    The frame is along the coordinates of the chart, in their order.

    Raises:
      ValueError: points are matrices.
    """
    return self._framed("from_frame", w)

  @in_float32
  def to_frame0(self, v: Array) -> Array:
    """Coordinates in the frame at the origin, [..., d], of the tangent v [..., point] there."""
    return self._framed("to_frame", v)

  def _framed(self, name: str, a: Array) -> Array:
    if self.point_ndim != 1:
      raise ValueError(f"frames are of manifolds whose points are vectors, got {self.name}")
    own = getattr(self.ops, name, None)
    return own(a, c=self.c) if own else a

  @in_float32
  def from_frame(self, x: Array, w: Array) -> Array:
    """The tangent at x with coordinates w [..., d], [..., point].

    In the orthonormal frame of the origin, transported along the geodesic to x.
    """
    return self.transport(self.origin_like(x), x, self.from_frame0(w))

  @in_float32
  def to_frame(self, x: Array, v: Array) -> Array:
    """Coordinates in the frame at x, [..., d], of the tangent v [..., point] there."""
    return self.to_frame0(self.transport(x, self.origin_like(x), v))

  @property
  def injectivity_radius(self) -> Array:
    """The distance within which every geodesic is the shortest and log inverts exp, []."""
    own = getattr(self.ops, "injectivity_radius", None)
    return own(c=self.c) if own else jnp.asarray(jnp.inf)

  @in_float32
  def egrad2rgrad(self, x: Array, g: Array) -> Array:
    """Riemannian gradient from the gradient g in coordinates, [..., d]."""
    return self.ops.egrad2rgrad(x, g, c=self.c)

  @in_float32
  def descend(self, x: Array, g: Array, rate: Scalar, limit: Scalar | None = None) -> Array:
    """The point exp(x, −rate · egrad2rgrad(x, g)), [..., d], for less: a step of gradient descent.

    Steps longer than `limit` are shortened to it.
    """
    return self.ops.descend(x, g, rate, c=self.c, limit=limit)

  @in_float32
  def retract(self, x: Array, v: Array) -> Array:
    """A point near exp(x, v), to first order in v, for less, [..., d]."""
    return self.ops.retract(x, v, c=self.c)

  @in_float32
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
    if dtype in _NARROW:
      return self.random(key, shape, dim, scale=scale).astype(dtype)
    return self.ops.random(key, shape, dim, scale=scale, c=self.c, dtype=dtype)

  def origin(
    self, shape: tuple[int, ...], dim: int | tuple[int, int], dtype: jnp.dtype = jnp.float32
  ) -> Array:
    """The base point, [*shape, *point]."""
    if dtype in _NARROW:
      return self.origin(shape, dim).astype(dtype)
    return self.ops.origin(shape, dim, dtype, c=self.c)

  def origin_like(self, x: Array) -> Array:
    """The base point in place of every point of x, [..., point]."""
    if own := getattr(self.ops, "origin_like", None):
      return own(x, c=self.c)
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

  @in_float32
  def geodesic(self, x: Array, y: Array, t: Scalar) -> Array:
    """The point that is the share t of the way from x to y, [..., point]; t broadcasts as dist."""
    t = jnp.asarray(t, x.dtype)
    return self.exp(x, (self.wide(t) if t.ndim else t) * self.log(x, y))

  def midpoint(self, x: Array, y: Array) -> Array:
    """Half way from x to y, [..., point]."""
    return self.geodesic(x, y, 0.5)

  @in_float32
  def lift(self, x: Array) -> PyTree:
    """Points [..., d] in the form in which distances from one to many share work.

    A tree whose leaves have the leading axes of x; `dist`, `pairwise` and `pairwise_affinity` take
    it in place of x. It is x itself where there is nothing worth keeping beside it.
    """
    own = getattr(self.ops, "lift", None)
    return own(x, c=self.c) if own else x

  @in_float32
  def pairwise(self, x: Array, y: Array) -> Array:
    """Distances of every x [..., n, d] to every y [..., m, d] by inner products, [..., n, m]."""
    return self.ops.pairwise(x, y, c=self.c)

  @in_float32
  def pairwise_affinity(self, x: Array, y: Array) -> Array:
    """exp(−pairwise(x, y)), [..., n, m], in the cheapest form; needs a fixed c."""
    return self.ops.pairwise_affinity(x, y, c=self.c)

  @in_float32
  def query(self, x: Array) -> Array:
    """Features whose inner product with `key(y)` increases with dist(x, y), [..., k]."""
    return self.ops.query(x, c=self.c)

  @in_float32
  def key(self, y: Array) -> Array:
    """Features whose inner product with `query(x)` increases with dist(x, y), [..., k]."""
    return self.ops.key(y, c=self.c)


def _first(bad: Array) -> tuple[int, ...] | None:
  """The index of the first True, or None."""
  found = np.argwhere(np.asarray(bad))
  return tuple(map(int, found[0])) if len(found) else None
