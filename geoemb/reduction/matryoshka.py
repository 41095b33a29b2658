"""A Matryoshka adaptor [yoon2024matryoshka]: a map after which every prefix keeps similarities.

The loss sums over prefixes m what [yoon2024matryoshka] asks of pairs, random and neighbouring ones:
that the cosine of the first m coordinates of the adapted vectors is that of the whole originals.
Ours starts from the principal directions, where theirs starts at the identity, and has squares.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.reduction import linear, reducer
from geoemb.typing import Array, ArrayLike, Key


def prefix_cosines(x: Array, dims: Sequence[int]) -> Array:
  """Cosines of all pairs of x [b, d] by their first m coordinates, [len(dims), b, b]."""
  return jnp.stack([numerics.unit(x[:, :m]) @ numerics.unit(x[:, :m]).T for m in dims])


def fit(
  x: ArrayLike,
  dim: int,
  *,
  key: Key,
  neighbors: ArrayLike,
  dims: Sequence[int] = (),
  near: float = 1.0,
  batch_size: int = 256,
  steps: int = 1000,
  learning_rate: float = 1e-3,
) -> linear.Linear:
  """A linear reducer of vectors x [n, d] to `dim` coordinates, whose prefixes are reducers too.

  Args:
    x: [n, d] float32, no zero vector.
    dim: coordinates; more than the largest of `dims` are not trained.
    key: for batches.
    neighbors: [n, k] ids of each row's nearest other rows.
    dims: prefixes that are trained; powers of 2 from 8 on, and dim, by default.
    near: weight of pairs of neighbours beside random pairs.
    batch_size: vectors a step, and as many of their neighbours.
    steps: of Adam.
    learning_rate: its peak.

  Raises:
    ValueError: prefixes that are not between 1 and dim.
  """
  x = reducer.check(x, dim).astype(jnp.float32)
  neighbors = reducer.check_neighbors(neighbors, len(x))
  dims = tuple(dims) or (*(m for m in (8, 16, 32, 64, 128, 256, 512, 1024) if m < dim), dim)
  if min(dims) < 1 or max(dims) > dim:
    raise ValueError(f"dims must be between 1 and {dim}, got {dims}")

  def loss(w, key):
    key_rows, key_neighbor = jax.random.split(key)
    ids = reducer.rows(key_rows, len(x), batch_size)
    b = len(ids)
    both = x[jnp.concatenate([ids, reducer.neighbours(key_neighbor, neighbors, ids)])]
    error = prefix_cosines(both @ w, dims) - numerics.unit(both) @ numerics.unit(both).T
    square = error * error
    pairs = jnp.diagonal(square, offset=b, axis1=1, axis2=2)  # row i and its neighbour b + i
    return jnp.sum(jnp.mean(square, axis=(1, 2)) + near * jnp.mean(pairs, axis=1))

  start = linear.pca(x, dim, center=False).weight
  w, _ = reducer.minimize(loss, start, key, steps=steps, learning_rate=learning_rate)
  return linear.Linear(jnp.zeros_like(x[0]), w)
