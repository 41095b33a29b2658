"""Gyrovector operations of the Poincaré ball and of the stereographic chart of either curvature.

Points are [..., d] of curvature −c, leading axes broadcast; −x is the inverse of x. Every sum is
written with the difference of its terms, so that −x ⊕ y is accurate for close points far out, and
projected, as rounding alone may put it beyond the ball.
Notation: α_x = 1 − c‖x‖².
Source: [ganea2018hnn] §2.3 and §2.4; [ungar2008gyrovector] for the gyration.
"""

import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds.base import Manifold
from geoemb.manifolds.stereographic import bounded, co_square, proj
from geoemb.typing import Array, Scalar


def _denominator(gap: Array, alpha_x: Array, alpha_y: Array, c: Array) -> Array:
  """1 + 2 c x·y + c² ‖x‖² ‖y‖² as α_x α_y + c ‖x + y‖², [...]; never 0 in the ball."""
  out = alpha_x * alpha_y + c * numerics.dot(gap, gap)
  least = numerics.eps(gap.dtype)  # x and y antipodal, where the sum is the point at infinity
  return jnp.where(jnp.abs(out) < least * least, least * least, out)


def add(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Möbius sum x ⊕ y, [..., d]: (α_x (x + y) + c ‖x + y‖² x)/(α_x α_y + c ‖x + y‖²).

  The form of [ganea2018hnn] eq. 4 whose terms cancel nothing as y goes to −x.
  """
  c = jnp.asarray(c, x.dtype)
  x, y = bounded(x, c), bounded(y, c)
  gap = x + y
  alpha_x, alpha_y = co_square(x, c), co_square(y, c)
  square = c * numerics.dot(gap, gap)
  out = alpha_x[..., None] * gap + square[..., None] * x
  return proj(out / _denominator(gap, alpha_x, alpha_y, c)[..., None], c=c)


def gyration(x: Array, y: Array, v: Array, *, c: Scalar = 1.0) -> Array:
  """gyr[x, y] v, [..., d]: the rotation by which (x ⊕ y) ⊕ · and x ⊕ (y ⊕ ·) differ.

  v + 2 (a x + b y)/(1 + 2 c x·y + c² ‖x‖² ‖y‖²) with a = c y·v + 2 c² (x·y)(y·v) − c² ‖y‖² (x·v)
  and b = −c x·v − c² ‖x‖² (y·v), [ungar2008gyrovector] §3.4.
  """
  c = jnp.asarray(c, x.dtype)
  x, y = bounded(x, c), bounded(y, c)
  xv, yv, xy = numerics.dot(x, v), numerics.dot(y, v), numerics.dot(x, y)
  xx, yy = numerics.dot(x, x), numerics.dot(y, y)
  a = c * yv + c * c * (2 * xy * yv - yy * xv)
  b = -c * xv - c * c * xx * yv
  alpha_x, alpha_y = co_square(x, c), co_square(y, c)
  d = _denominator(x + y, alpha_x, alpha_y, c)[..., None]
  return v + 2 * (a[..., None] * x + b[..., None] * y) / d


def coadd(x: Array, y: Array, *, c: Scalar = 1.0) -> Array:
  """Möbius coaddition x ⊞ y = x ⊕ gyr[x, −y] y, which commutes, [..., d].

  (α_y x + α_x y)/(1 − c² ‖x‖² ‖y‖²), the denominator as α_x + α_y − α_x α_y.
  """
  c = jnp.asarray(c, x.dtype)
  x, y = bounded(x, c), bounded(y, c)
  alpha_x, alpha_y = co_square(x, c), co_square(y, c)
  below = alpha_x + alpha_y - alpha_x * alpha_y
  least = numerics.eps(x.dtype)
  below = jnp.where(jnp.abs(below) < least * least, least * least, below)
  return proj((alpha_y[..., None] * x + alpha_x[..., None] * y) / below[..., None], c=c)


def scale(m: Manifold, r: Array, x: Array) -> Array:
  """Multiplies distances from the origin, [..., d]: r ⊗ x = exp₀(r log₀ x); r broadcasts as [...].

  [ganea2018hnn] eq. 5 and lemma 3, on any manifold.
  """
  return m.exp0(jnp.asarray(r, x.dtype)[..., None] * m.log0(x))


def matvec(m: Manifold, w: Array, x: Array) -> Array:
  """The Möbius product exp₀(w log₀ x), [..., k], with a matrix w [k, d]: [ganea2018hnn] def. 3.2.

  On a manifold whose points have as many coordinates as its dimension.
  """
  return m.exp0(numerics.einsum("kd,...d->...k", w, m.log0(x)))
