"""Vectors of 2r numbers that rank any r documents first, however many documents there are.

Documents lie on the trigonometric moment curve, D(t) = (cos t, sin t, …, cos rt, sin rt)/√r, the
vertices of a cyclic polytope: all are unit vectors. A query holds the coefficients of a
trigonometric polynomial of degree r, less its constant, so that its score of D(t) is the
polynomial's value up to a scale and a shift. With centres c_j and half widths h_j of r arcs,

  f(t) = −Π_j (cos h_j − cos(t − c_j))

is positive within the arcs and negative outside, and for h = 0, where arcs are points, 0 there.
At n equidistant angles and h = 0 the least gap of scores falls as n^(−2r): precision, and not
dimension, is the price. Sources: [gale1963neighborly]; for retrieval [weller2025limit] has the
bound, and none of this.
"""

import math

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.typing import Array


def angles(n: int, dtype: jnp.dtype = jnp.float32) -> Array:
  """The angles 2πi/n of n documents, [n], in radians."""
  return (2 * math.pi / n) * jnp.arange(n, dtype=dtype)


def documents(t: Array, degree: int) -> Array:
  """Unit vectors D(t), [..., 2 degree].

  Args:
    t: [...] angles in radians.
    degree: r, as many arcs as a query may have.
  """
  phase = t[..., None] * jnp.arange(1, degree + 1, dtype=t.dtype)
  waves = jnp.stack([jnp.cos(phase), jnp.sin(phase)], axis=-1)
  return waves.reshape(*t.shape, 2 * degree) / math.sqrt(degree)


def queries(
  centres: Array, half_widths: Array | None = None, *, mask: Array | None = None
) -> Array:
  """Unit vectors [..., 2r] that score what lies in the arcs above everything else.

  Args:
    centres: [..., r] radians, of disjoint arcs.
    half_widths: [..., r] radians below π; None for points, the documents at the centres.
    mask: [..., r], False for arcs that are not there. A query needs one that is.
  """
  r = centres.shape[-1]
  p = jax.lax.complex(jnp.ones_like(centres[..., 0]), jnp.zeros_like(centres[..., 0]))[..., None]
  for j in range(r):  # p holds the factors' product as coefficients of z^−j … z^j, z = e^it
    c = centres[..., j]
    level = jnp.ones_like(c) if half_widths is None else jnp.cos(half_widths[..., j])
    up = -0.5 * jax.lax.complex(jnp.cos(c), -jnp.sin(c))
    if mask is not None:  # the factor 1
      level, up = jnp.where(mask[..., j], level, 1), jnp.where(mask[..., j], up, 0)
    level = jax.lax.complex(level, jnp.zeros_like(level))
    edge = [(0, 0)] * (p.ndim - 1)
    shift = lambda low, high, p=p, edge=edge: jnp.pad(p, [*edge, (low, high)])
    p = (
      level[..., None] * shift(1, 1)
      + up[..., None] * shift(2, 0)
      + up.conj()[..., None] * shift(0, 2)
    )
  p = -p[..., r + 1 :]  # of z^1 … z^r
  return numerics.unit(jnp.stack([p.real, -p.imag], axis=-1).reshape(*p.shape[:-1], 2 * r))
