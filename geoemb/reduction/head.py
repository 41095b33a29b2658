"""A linear head into a manifold, trained so that neighbours stay the nearest by distance.

x ↦ exp_o(x W), with o the manifold's origin, trained by the softmax loss of [nickel2017poincare]
eq. 6: of all vectors of a batch, a vector's neighbour should be the nearest. The same head into
flat space tells the geometry's part from the training's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.losses import ranking
from geoemb.manifolds import Manifold
from geoemb.reduction import linear, reducer
from geoemb.typing import Array, ArrayLike, Key


class Head(NamedTuple):
  """x ↦ exp_o(x · weight); points are compared by the manifold's distance."""

  manifold: Manifold
  weight: Array  # [d, dim]

  def transform(self, x: Array) -> Array:
    """Points [..., dim] of vectors [..., d]."""
    return _points(self.manifold, self.weight, jnp.asarray(x))


def fit(
  m: Manifold,
  x: ArrayLike,
  dim: int,
  *,
  key: Key,
  neighbors: ArrayLike,
  temperature: float = 0.1,
  batch_size: int = 256,
  steps: int = 1000,
  learning_rate: float = 1e-2,
) -> Head:
  """A reducer of vectors x [n, d] to points of m with `dim` coordinates.

  Args:
    m: a manifold of vectors whose charts have as many coordinates as dimensions: flat space, the
      Poincaré ball or the Lorentz chart.
    x: [n, d] float32.
    dim: coordinates.
    key: for batches.
    neighbors: [n, k] ids of each row's nearest other rows.
    temperature: distances are divided by it in the loss.
    batch_size: vectors a step, and as many neighbours, each a negative of all others.
    steps: of Adam.
    learning_rate: its peak.
  """
  x = reducer.check(x, dim).astype(jnp.float32)
  neighbors = reducer.check_neighbors(neighbors, len(x))

  def loss(w, key):
    key_rows, key_neighbor = jax.random.split(key)
    ids = reducer.rows(key_rows, len(x), batch_size)
    near = reducer.neighbours(key_neighbor, neighbors, ids)
    d = m.pairwise(_points(m, w, x[ids]), _points(m, w, x[near])) / temperature
    # A neighbour that is the vector itself, or that two rows share, is no negative.
    same = (near[None] == near[:, None]) | (near[None] == ids[:, None])
    return jnp.mean(ranking.softmax_ranking(jnp.diagonal(d), jnp.where(same, jnp.inf, d)))

  # Unit vectors start within a distance of about 1 from the origin, where any manifold is flat.
  start = linear.pca(x, dim, center=False).weight
  w, _ = reducer.minimize(loss, start, key, steps=steps, learning_rate=learning_rate)
  return Head(m, w)


def _points(m: Manifold, w: Array, x: Array) -> Array:
  v = numerics.matmul(x, w)
  return m.proj(m.exp0(v))
