"""Products of geometries, each with its own curvature and weight, from a signature.

    m = product.manifold("h5 x s3 x e2", c=(1.0, 0.5, 1.0))

A point is the factors' points one after another, [..., D], and so is a tangent. The metric is
Σ w_i g_i: squared distances are Σ w_i d_i², exp, log and transport are the factors' own. The
manifold's `c` is the tuple of the factors' curvatures, each of which may be learned.
Source: [gu2019mixed] §3.1.
"""

import dataclasses
import functools
import math
import re
import types
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.manifolds import base, euclidean, lorentz, poincare, sphere
from geoemb.typing import Array, Key, Scalar

Curvatures = Sequence[Scalar]

LETTERS = {"e": euclidean, "h": lorentz, "p": poincare, "s": sphere}


@dataclasses.dataclass(frozen=True)
class Factor:
  """A geometry of a product."""

  ops: types.ModuleType
  dim: int  # of the space
  weight: float = 1.0  # w, of its squared distances

  @functools.cached_property
  def size(self) -> int:
    """Coordinates of a point."""
    return jax.eval_shape(lambda: self.ops.origin((), self.dim)).shape[-1]


@dataclasses.dataclass(frozen=True)
class Product:
  """What a geometry's module is to others: the functions of a product, `c` being a tuple."""

  factors: tuple[Factor, ...]

  @property
  def __name__(self) -> str:
    """The signature."""
    letters = {ops: letter for letter, ops in LETTERS.items()}
    name = lambda ops: letters.get(ops) or ops.__name__.rpartition(".")[2]
    return " x ".join(f"{name(f.ops)}{f.dim}" for f in self.factors)

  @property
  def dim(self) -> int:
    """Dimension of the space."""
    return sum(f.dim for f in self.factors)

  def split(self, x: Array) -> list[Array]:
    """The factors' points or tangents, [..., d_i] each."""
    sizes = [f.size for f in self.factors]
    if x.shape[-1] != sum(sizes):
      raise ValueError(
        f"points of {self.__name__} have {sum(sizes)} coordinates, got {x.shape[-1]}"
      )
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [x[..., end - size : end] for size, end in zip(sizes, ends)]

  def _each(self, name: str, c: Curvatures, *arrays: Array) -> list[Array]:
    """A function of every factor, called with its parts of the arrays."""
    parts = zip(self.factors, c, *map(self.split, arrays), strict=True)
    return [getattr(f.ops, name)(*part, c=k) for f, k, *part in parts]

  def _join(self, name: str, c: Curvatures, *arrays: Array) -> Array:
    return jnp.concatenate(self._each(name, c, *arrays), axis=-1)

  def _weighted(self, name: str, c: Curvatures, *arrays: Array) -> Array:
    """Σ w_i f_i, [...]."""
    values = self._each(name, c, *arrays)
    return functools.reduce(jnp.add, [f.weight * x for f, x in zip(self.factors, values)])

  def _rooted(self, name: str, c: Curvatures, *arrays: Array) -> Array:
    """√Σ w_i f_i², [...], whose gradient is 0 where all f_i are."""
    values = self._each(name, c, *arrays)
    scaled = [f.weight**0.5 * x for f, x in zip(self.factors, values)]
    return numerics.safe_norm(jnp.stack(scaled, axis=-1))

  def inner(self, x: Array, u: Array, v: Array, *, c: Curvatures) -> Array:
    """Inner product of tangents, [...]."""
    return self._weighted("inner", c, x, u, v)

  def norm(self, x: Array, u: Array, *, c: Curvatures) -> Array:
    """Length of a tangent, [...]."""
    return self._rooted("norm", c, x, u)

  def component_inner(self, x: Array, u: Array, *, c: Curvatures) -> Array:
    """Squared lengths by irreducible factor, each beside all its coordinates, [..., D]."""
    parts = self._each("component_inner", c, x, u)
    return jnp.concatenate(
      [
        jnp.broadcast_to(f.weight * part, (*part.shape[:-1], f.size))
        for f, part in zip(self.factors, parts)
      ],
      axis=-1,
    )

  def dist(self, x: Array, y: Array, *, c: Curvatures) -> Array:
    """Geodesic distance √Σ w_i d_i², [...]; its gradient at x = y is 0."""
    return self._rooted("dist", c, x, y)

  def sqdist(self, x: Array, y: Array, *, c: Curvatures) -> Array:
    """Squared geodesic distance, [...], with derivatives of every order at x = y."""
    return self._weighted("sqdist", c, x, y)

  def exp(self, x: Array, v: Array, *, c: Curvatures, limit: Scalar | None = None) -> Array:
    """End of the geodesic from x with velocity v, [..., D]; longer tangents are cut to `limit`."""
    return self._join("exp", c, x, self._cut(x, v, c, limit))

  def _cut(self, x: Array, v: Array, c: Curvatures, limit: Scalar | None) -> Array:
    return v if limit is None else numerics.shorten(v, self.norm(x, v, c=c), limit)

  def log(self, x: Array, y: Array, *, c: Curvatures) -> Array:
    """Velocity at x of the geodesic to y, [..., D]."""
    return self._join("log", c, x, y)

  def transport(self, x: Array, y: Array, v: Array, *, c: Curvatures) -> Array:
    """Parallel transport of v from x to y, [..., D]."""
    return self._join("transport", c, x, y, v)

  def proj(self, x: Array, *, c: Curvatures) -> Array:
    """Every factor's `proj`, [..., D]."""
    return self._join("proj", c, x)

  def egrad2rgrad(self, x: Array, g: Array, *, c: Curvatures) -> Array:
    """Riemannian gradient, [..., D]: the factors' over their weights."""
    parts = self._each("egrad2rgrad", c, x, g)
    return jnp.concatenate([v / f.weight for f, v in zip(self.factors, parts)], axis=-1)

  def descend(
    self, x: Array, g: Array, rate: Scalar, *, c: Curvatures, limit: Scalar | None = None
  ) -> Array:
    """The point exp(x, −rate · egrad2rgrad(x, g)), [..., D]; longer steps are cut to `limit`."""
    rate = jnp.asarray(rate, x.dtype)
    return self.exp(x, -rate * self.egrad2rgrad(x, g, c=c), c=c, limit=limit)

  def retract(self, x: Array, v: Array, *, c: Curvatures) -> Array:
    """Every factor's `retract`, [..., D]."""
    return self._join("retract", c, x, v)

  def displacement(self, x: Array, y: Array, *, c: Curvatures) -> Array:
    """Every factor's `displacement`, [..., D]."""
    parts = zip(self.factors, c, self.split(x), self.split(y))
    return jnp.concatenate(
      [base.Manifold(f.ops, k).displacement(a, b) for f, k, a, b in parts], axis=-1
    )

  def random(
    self,
    key: Key,
    shape: tuple[int, ...],
    dim: int,
    *,
    c: Curvatures,
    scale: Scalar = 1e-3,
    dtype: jnp.dtype = jnp.float32,
  ) -> Array:
    """Random points of every factor, [*shape, D]; `dim` is that of the product."""
    self._check(dim)
    parts = zip(self.factors, c, jax.random.split(key, len(self.factors)))
    return jnp.concatenate(
      [f.ops.random(k, shape, f.dim, scale=scale, c=cf, dtype=dtype) for f, cf, k in parts],
      axis=-1,
    )

  def origin(
    self, shape: tuple[int, ...], dim: int, dtype: jnp.dtype = jnp.float32, *, c: Curvatures
  ) -> Array:
    """The factors' base points, [*shape, D]; `dim` is that of the product."""
    self._check(dim)
    parts = [f.ops.origin(shape, f.dim, dtype, c=k) for f, k in zip(self.factors, c)]
    return jnp.concatenate(parts, axis=-1)

  def origin_like(self, x: Array, *, c: Curvatures) -> Array:
    """The base point in place of every point of x, [..., D]."""
    return self.origin(x.shape[:-1], self.dim, x.dtype, c=c)

  def _check(self, dim: int) -> None:
    if dim != self.dim:
      raise ValueError(f"{self.__name__} has dimension {self.dim}, got {dim}")

  def pairwise(self, x: Array, y: Array, *, c: Curvatures) -> Array:
    """Distances of x [..., n, D] to y [..., m, D], [..., n, m], by the factors' inner products."""
    return self._rooted("pairwise", c, x, y)

  def pairwise_affinity(self, x: Array, y: Array, *, c: Curvatures) -> Array:
    """exp(−pairwise(x, y)), [..., n, m]."""
    return jnp.exp(-self.pairwise(x, y, c=c))

  def tangent(self, x: Array, v: Array, *, c: Curvatures) -> Array:
    """The tangent nearest to v, [..., D]."""
    parts = zip(self.factors, c, self.split(x), self.split(v))
    return jnp.concatenate([base.Manifold(f.ops, k).tangent(a, b) for f, k, a, b in parts], axis=-1)

  def from_frame(self, w: Array, *, c: Curvatures) -> Array:
    """The tangent at the origin, [..., D], of coordinates w [..., d] in an orthonormal frame."""
    ends = np.cumsum([f.dim for f in self.factors])[:-1]
    parts = zip(self.factors, c, jnp.split(w, ends, axis=-1))
    return jnp.concatenate(
      [base.Manifold(f.ops, k).from_frame0(a * f.weight**-0.5) for f, k, a in parts], axis=-1
    )

  def to_frame(self, v: Array, *, c: Curvatures) -> Array:
    """Coordinates in that frame of the tangent v at the origin, [..., d]."""
    parts = zip(self.factors, c, self.split(v))
    return jnp.concatenate(
      [base.Manifold(f.ops, k).to_frame0(a) * f.weight**0.5 for f, k, a in parts], axis=-1
    )

  def fault(self, x: Array, v: Array | None, *, c: Curvatures) -> str:
    """What is wrong with points or tangents: that of the first factor where something is."""
    tangents = [None] * len(self.factors) if v is None else self.split(v)
    found = (
      base.Manifold(f.ops, k).fault(a, b)
      for f, k, a, b in zip(self.factors, c, self.split(x), tangents)
    )
    return next(filter(None, found), "")

  def saturated(self, x: Array, *, c: Curvatures) -> Array:
    """Where a factor is at its limit, [...] bool."""
    parts = zip(self.factors, c, self.split(x))
    return functools.reduce(
      jnp.logical_or, [base.Manifold(f.ops, k).saturated(a) for f, k, a in parts]
    )

  def log_volume(self, x: Array, *, c: Curvatures) -> Array:
    """Logarithm of the volume element, [...]: Σ (its factor's + d_i/2 log w_i)."""
    parts = zip(self.factors, self._each("log_volume", c, x))
    return functools.reduce(jnp.add, [v + 0.5 * f.dim * math.log(f.weight) for f, v in parts])

  def injectivity_radius(self, *, c: Curvatures) -> Array:
    """The smallest of the factors', times √w_i."""
    parts = zip(self.factors, c)
    radii = [f.weight**0.5 * base.Manifold(f.ops, k).injectivity_radius for f, k in parts]
    return functools.reduce(jnp.minimum, radii)


def _geometries() -> dict[str, types.ModuleType]:
  """What a factor may be, by letter and by name."""
  from geoemb import manifolds  # the one registry, which imports this module

  return LETTERS | {name: manifolds.make(name).ops for name in manifolds.NAMES}


def _parse(signature: str, weights: Sequence[float] | None) -> Product:
  """The product that a signature names."""
  factors, known = [], _geometries()
  for word in re.split(r"\s*[x×]\s*", signature.strip().lower()):
    found = re.fullmatch(r"\(?([a-z]+)(\d+)\)?(?:\^(\d+))?", word)
    if not found or found[1] not in known or not int(found[2]) or found[3] == "0":
      raise ValueError(
        f"a factor is a geometry ({', '.join(known)}) and a dimension, such as h5 or (s2)^3; "
        f"got {word!r} in {signature!r}"
      )
    factors += [(known[found[1]], int(found[2]))] * int(found[3] or 1)
  weights = [1.0] * len(factors) if weights is None else list(weights)
  if len(weights) != len(factors) or not all(w > 0 for w in weights):
    raise ValueError(f"{signature!r} needs {len(factors)} weights > 0, got {weights}")
  return Product(tuple(Factor(*f, float(w)) for f, w in zip(factors, weights)))


def manifold(
  signature: str, c: Scalar | Curvatures = 1.0, *, weights: Sequence[float] | None = None
) -> base.Manifold:
  """The product that a signature names, for code that is generic over manifolds.

  Args:
    signature: factors joined by "x", each a letter or name and the dimension of its space: e
      (Euclidean), h (hyperbolic, the Lorentz chart), p (the Poincaré ball), s (sphere), or a
      geometry's name; "(s2)^3" stands for three.
    c: curvature of every factor, or of each.
    weights: w_i > 0, of the factors' squared distances; 1 by default.

  Raises:
    ValueError: a factor that cannot be read, curvatures or weights that do not fit.
  """
  ops = _parse(signature, weights)
  c = tuple(c) if isinstance(c, Sequence) else (c,) * len(ops.factors)
  if len(c) != len(ops.factors):
    raise ValueError(f"{signature!r} needs {len(ops.factors)} curvatures, got {len(c)}")
  return base.Manifold(ops, c)
