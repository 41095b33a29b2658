"""Stiefel manifold: orthonormal frames x [..., n, p] with xᵀx = I, p ≤ n, the canonical metric.

⟨u, v⟩ = tr uᵀ(I − x xᵀ/2)v: that of SO(n) / SO(n − p), for which x ↦ R x with R in SO(n) is an
isometry. Tangents v are ambient, xᵀv skew. Leading axes broadcast; points are taken to be frames.
`c` has no effect, as the curvature varies from plane to plane, and is there so that all geometries
are called alike.
`log` has no closed form. It is found by iteration, to a few eps in absolute terms, where frames are
close enough; the farther they are the longer it takes, and 60 steps are the most. Beyond, it may
start a longer geodesic, or one that ends only near y. A batch goes on until its last pair is done.
For p = n it is that of SO(n), and frames must have one orientation.
Source: [edelman1998geometry] §2.4; transport from [nomizu1954invariant]; logarithm from
[zimmermann2017matrix] with the step of [zimmermann2022computing] algorithm 4.
"""

import functools
import math
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base, matrix
from geoemb.manifolds.matrix import skew, sym, tr
from geoemb.numerics import matmul as mm
from geoemb.typing import Array, Key, Scalar

POINT_NDIM = 2

# Of the logarithm, at most. In float64 frames (10, 3) at distance 0.1, 1 and 2 take 2, 6 and 12.
_STEPS = 60
_TERMS, _PARTS = 18, 3  # of a transport's series


def _parts(x: Array, v: Array) -> tuple[Array, Array]:
  """Skew A [..., p, p] and normal V [..., n, p] of the tangent part x A + V of v."""
  along = mm(tr(x), v)
  return skew(along), v - mm(x, along)


class _Iterate(NamedTuple):
  turn: Array  # [..., k, k] in SO(k): takes (x, its complement) to (y, its complement)
  log: Array  # [..., k, k] its logarithm
  rest: Array  # [] largest entry of the block that is to vanish
  count: Array  # [] int32


def _complement(w: Array) -> Array:
  """Columns that make w [..., k, p] a rotation near I if there is one, [..., k, k − p].

  Turned so that their own block, the lower one, is symmetric and semidefinite.
  """
  p = w.shape[-1]
  rest = jnp.linalg.qr(w, mode="complete")[0][..., p:]
  d, _, rt = jnp.linalg.svd(rest[..., p:, :])
  turned = mm(rest, tr(rt))
  sign = jnp.sign(jnp.linalg.det(jnp.concatenate([w, mm(turned, tr(d))], axis=-1)))
  last = jnp.arange(d.shape[-1]) == d.shape[-1] - 1
  return mm(turned * jnp.where(last, sign[..., None], 1)[..., None, :], tr(d))


@jax.custom_jvp
def _log(x: Array, y: Array) -> Array:
  """Velocity at x of the geodesic to y, [..., n, p].

  Seeks the rotation of span(x, y) that takes x to y and has a logarithm [[A, −Bᵀ], [B, 0]]: turns
  the complement of y by exp Γ until the last block C is 0.
  """
  x, y = matrix.leading(x, y)
  n, p = x.shape[-2:]
  q = min(p, n - p)
  same = jnp.all(x == y, axis=(-2, -1), keepdims=True)
  if q == 0:
    return mm(x, matrix.log_rotation(mm(tr(x), y - x))[0])
  m = mm(tr(x), y)
  basis = jnp.linalg.qr(jnp.concatenate([x, y - mm(x, m)], axis=-1))[0][..., p : p + q]
  w = jnp.concatenate([m, mm(tr(basis), y)], axis=-2)
  one = jnp.eye(p + q, dtype=x.dtype)

  def seen(turn: Array, count: Array) -> _Iterate:
    a = matrix.log_rotation(turn - one)[0]
    return _Iterate(turn, a, jnp.max(jnp.abs(a[..., p:, p:]), initial=0), count)

  def better(old: _Iterate) -> _Iterate:
    """Γ solves S Γ + Γ S = C with S = B Bᵀ/12 − I/2; were B = 0 it would be −C."""
    b, c = old.log[..., p:, :p], old.log[..., p:, p:]
    s, e = jnp.linalg.eigh(mm(b, tr(b)) / 12 - 0.5 * jnp.eye(q, dtype=x.dtype))
    sums = s[..., :, None] + s[..., None, :]
    gamma = skew(mm(e, mm(tr(e), c, e) / jnp.where(sums < -0.25, sums, -0.25), tr(e)))
    turned = mm(old.turn[..., p:], matrix.expm(gamma))
    turn = matrix.polish(jnp.concatenate([old.turn[..., :p], turned], axis=-1))
    return seen(turn, old.count + 1)

  enough = 4 * numerics.eps(x.dtype)
  go = lambda s: (s.count < _STEPS) & (s.rest > enough)
  start = jnp.concatenate([w, _complement(w)], axis=-1)
  a = jax.lax.while_loop(go, better, seen(start, jnp.int32(0))).log
  v = mm(x, a[..., :p, :p]) + mm(basis, a[..., p:, :p])
  return jnp.where(same, 0, v)


@_log.defjvp
def _log_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """From exp(x, log(x, y)) = y, by a solve of [np, np]; normal parts of dx and dy are left out.

  Where y is conjugate to x, the directions that have no derivative have 0.
  """
  (x, y), (dx, dy) = primals, tangents
  v = _log(x, y)
  (x, y), (dx, dy) = matrix.leading(x, y), matrix.leading(dx, dy)
  inside = lambda x, d: d - mm(x, sym(mm(tr(x), d)))
  dx, dy = inside(x, dx), inside(y, dy)
  # exp reads the tangent part of v alone; the normal one follows from sym(xᵀv) = 0
  normal = sym(mm(tr(dx), v))
  _, along = jax.linearize(lambda v: exp(x, v), v)
  size = x.shape[-2] * x.shape[-1]

  def column(e: Array) -> Array:
    e = jnp.broadcast_to(e.reshape(x.shape[-2:]), v.shape)
    return (along(e) + mm(y, sym(mm(tr(x), e)))).reshape(*v.shape[:-2], size)

  columns = jnp.moveaxis(jax.vmap(column)(jnp.eye(size, dtype=x.dtype)), 0, -1)
  right = dy - jax.jvp(lambda x: exp(x, v), (x,), (dx,))[1] - mm(y, normal)
  u, s, wt = jnp.linalg.svd(columns)
  least = size * numerics.eps(x.dtype) * s[..., :1]
  inverse = jnp.where(s > least, 1 / jnp.where(s > least, s, 1), 0)[..., None]
  solved = mm(tr(wt), inverse * mm(tr(u), right.reshape(*v.shape[:-2], size, 1)))
  return v, solved.reshape(v.shape)


def _length(x: Array, v: Array) -> Array:
  a, across = _parts(x, v)
  return numerics.hypot(matrix.norm(across), math.sqrt(0.5) * matrix.norm(a))


def _pull(x: Array, y: Array) -> Array:
  v = _log(x, y)
  return 0.5 * mm(x, mm(tr(x), v)) - v


_dist, _sqdist = matrix.distances(lambda x, y: _length(x, _log(x, y)), _pull)


def inner(x: Array, u: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """Inner product of tangents, [...]."""
  limit = numerics.root_max(u.dtype)
  (a, across), (b, other) = (_parts(x, numerics.bound(t, limit)) for t in (u, v))
  return matrix.inner(x, across, other) + 0.5 * matrix.inner(x, a, b)


def norm(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Length of a tangent, [...]; its gradient is 0 at u = 0."""
  return _length(x, u)


def component_inner(x: Array, u: Array, *, c: Scalar = 1.0) -> Array:
  """Squared length of a tangent, [..., 1, 1]."""
  return inner(x, u, u, c=c)[..., None, None]


def dist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Geodesic distance, [...], the length of `log`; 0 with gradient 0 at x = y."""
  return _dist(x, y)


def sqdist(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Squared geodesic distance, [...], twice differentiable at x = y, unlike dist²."""
  return _sqdist(x, y)


def exp(x: Array, v: Array, *, c: Scalar = 1.0, limit: Scalar | None = None) -> Array:
  """End of the geodesic from x with velocity v, [..., n, p]; longer ones are cut to `limit`.

  And all to a length of 1024.
  """
  v = matrix.capped(v, functools.partial(norm, x), limit)
  return matrix.rotate_frame(x, *_parts(x, v))


def log(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Velocity at x of the geodesic to y, [..., n, p]; see above for how far."""
  return _log(x, y)


def _turned(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array]:
  """Tangents (C, D) carried along the geodesic (A, B), seen from the frame that it rotates.

  For there w' = −½[X, w], the part of the bracket that is tangent, of X = [[A, −Bᵀ], [B, 0]]. Its
  exponential is a Taylor series: where X is a logarithm its norm is at most π.
  """

  def bracket(c: Array, d: Array) -> tuple[Array, Array]:
    ac, bd = mm(a, c), mm(tr(b), d)
    return ac - tr(ac) - bd + tr(bd), mm(b, c) - mm(d, a)  # C A = (A C)ᵀ, as both are skew

  def add(total_term: tuple, k: Array) -> tuple[tuple, None]:
    total, term = total_term
    term = jax.tree.map(lambda x: x * (-0.5 / _PARTS) / k, bracket(*term))
    return (jax.tree.map(jnp.add, total, term), term), None

  def part(w: tuple, _: None) -> tuple[tuple, None]:
    return jax.lax.scan(add, (w, w), jnp.arange(1, _TERMS + 1, dtype=c.dtype))[0][0], None

  return jax.lax.scan(part, (c, d), length=_PARTS)[0]


def transport(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent v at x carried to y along the geodesic of `log`, [..., n, p], in parallel."""
  x, y = matrix.leading(x, y)
  x, v = matrix.leading(x, v)
  scale = jax.lax.stop_gradient(jnp.max(jnp.abs(v), axis=(-2, -1), keepdims=True))
  scale = jnp.where(scale > 0, scale, 1)
  along = _parts(x, _log(x, y))
  a, d = _turned(*along, *_parts(x, v / scale))
  return tangent(y, matrix.rotate(x, *along, mm(x, a) + d) * scale)


def proj(x: Array, *, c: Scalar = 1.0) -> Array:
  """The nearest frame, [..., n, p]."""
  return matrix.polar(x)


def tangent(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The tangent nearest to v, [..., n, p]: v less x times the symmetric part of xᵀv."""
  return v - mm(x, sym(mm(tr(x), v)))


def egrad2rgrad(x: Array, g: Array, *, c: Scalar = 1.0) -> Array:
  """Riemannian gradient g − x gᵀx, [..., n, p] [edelman1998geometry] eq. 2.53."""
  g = numerics.bound(g, numerics.root_max(g.dtype))
  return g - mm(x, tr(g), x)


def descend(
  x: Array, g: Array, rate: Scalar, *, c: Scalar = 1.0, limit: Scalar | None = None
) -> Array:
  """The point exp(x, −rate · egrad2rgrad(x, g)), [..., n, p]; longer steps are cut to `limit`."""
  return exp(x, -rate * egrad2rgrad(x, g, c=c), c=c, limit=limit)


def retract(x: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """The frame of x + v by QR with a positive diagonal, [..., n, p]; v up to 100 long."""
  return matrix.qr_step(x, tangent(x, v))


def random(
  key: Key,
  shape: tuple[int, ...],
  dim: tuple[int, int],
  *,
  scale: Scalar = 1e-3,
  c: Scalar = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """Uniform frames for dim = (n, p), [*shape, n, p]; `scale` needs a chart and has no effect."""
  return matrix.polar(jax.random.normal(key, (*shape, *dim), dtype))


def origin(
  shape: tuple[int, ...],
  dim: tuple[int, int],
  dtype: jnp.dtype = jnp.float32,
  *,
  c: Scalar = 1.0,
) -> Array:
  """The first p axes for dim = (n, p), [*shape, n, p]."""
  return jnp.broadcast_to(jnp.eye(*dim, dtype=dtype), (*shape, *dim))


def injectivity_radius(*, c: Scalar = 1.0) -> Array:
  """A distance within which geodesics are shortest: 0.89 π [rentmeesters2013algorithms].

  It is a lower bound, whatever n and p are; for p = 1, the sphere, the distance is π.
  """
  return jnp.asarray(0.89 * math.pi)


def pairwise(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Distances of x [..., a, n, p] to y [..., b, n, p], [..., a, b], in blocks; exact as `dist`."""
  return matrix.pairwise(dist, x, y)


def manifold(c: Scalar = 1.0) -> base.Manifold:
  """This module bound to `c`, for code that is generic over manifolds."""
  return base.Manifold(sys.modules[__name__], c)
