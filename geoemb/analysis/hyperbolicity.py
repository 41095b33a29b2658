"""Gromov's δ: how far a metric space is from a tree.

Four points are δ-hyperbolic when, of the three sums of distances between disjoint pairs, the two
largest differ by at most 2 δ. A tree has δ = 0, the hyperbolic plane of curvature −1
has log 2, and flat space has no bound.
Source: [gromov1987hyperbolic] §1.1; the (max, min) product is [fournier2015hyperbolicity] §3.
"""

import functools

import jax
import jax.numpy as jnp

from geoemb.manifolds import Manifold
from geoemb.typing import Array, Key

_BLOCK = 1 << 22  # entries of a temporary array


def four_point(d: Array) -> Array:
  """δ of quadruples, [...], from the distances between their points, [..., 4, 4]."""
  sums = jnp.stack(
    [
      d[..., 0, 1] + d[..., 2, 3],
      d[..., 0, 2] + d[..., 1, 3],
      d[..., 0, 3] + d[..., 1, 2],
    ],
    axis=-1,
  )
  _, middle, most = jnp.moveaxis(jnp.sort(sums, axis=-1), -1, 0)
  return 0.5 * (most - middle)


@jax.jit
def based(d: Array, base: int | Array = 0) -> Array:
  """The largest δ over quadruples that have the point `base`, [].

  max over i, k of max_j min((i|j), (j|k)) − (i|k) with (i|j) = ½ (d_bi + d_bj − d_ij), which takes
  n³ operations; n² at a time are held. The δ of all quadruples is at most twice as large.

  Args:
    d: [n, n] distances.
    base: index of the point.
  """
  row = d[base]
  gromov = 0.5 * (row[:, None] + row[None] - d)  # [n, n]
  over_j = lambda one: jnp.max(jnp.minimum(one[:, None], gromov), axis=0)
  size = max(1, _BLOCK // d.size)
  excess = jax.lax.map(lambda one: jnp.max(over_j(one) - one), gromov, batch_size=size)
  return jnp.maximum(jnp.max(excess), 0)


def relative(d: Array, base: int | Array = 0) -> Array:
  """2 δ over the diameter, [], in [0, 1]: 0 for a tree, of `based` on a matrix of distances.

  Of points at one place it is 0.
  """
  most = jnp.max(d)
  return 2 * based(d, base) / jnp.where(most > 0, most, 1)


@functools.partial(jax.jit, static_argnames=("n", "block"))
def sampled(key: Key, m: Manifold, x: Array, *, n: int = 100_000, block: int = 4096) -> Array:
  """δ of random quadruples of points of a manifold, [n rounded up to whole blocks].

  Args:
    key: PRNG key.
    m: the manifold.
    x: [p, point] points.
    n: quadruples.
    block: quadruples at a time.
  """

  def some(key: Key) -> Array:
    y = x[jax.random.randint(key, (block, 4), 0, x.shape[0])]
    return four_point(m.dist(y[:, :, None], y[:, None]))

  return jax.lax.map(some, jax.random.split(key, -(-n // block))).reshape(-1)
