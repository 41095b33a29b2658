"""TLDR [kalantidis2021tldr]: a neighbour is a distortion, and redundancy reduction does the rest.

Pairs of a vector and one of its nearest neighbours go through an encoder and a projector; the
Barlow Twins loss [zbontar2021barlow] eq. 1 makes the correlations of the projections the identity.
The projector is thrown away. The scale 1/32 of the authors' code only rescales the gradient, which
Adam undoes, and is left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.reduction import linear, reducer
from geoemb.typing import Array, ArrayLike, Key

_EPSILON = 1e-5  # of batch normalisation's variance, as in torch; dead units stay 0


def barlow_twins(z1: Array, z2: Array, *, off_diagonal: float) -> Array:
  """Σ (1 − C_ii)² + λ Σ_{i≠j} C_ij², [], C the correlations of z1 and z2 [b, p] over the batch.

  Args:
    z1: [b, p].
    z2: [b, p]; row i belongs to row i of z1.
    off_diagonal: λ.
  """
  c = _standard(z1).T @ _standard(z2) / z1.shape[0]
  diagonal = jnp.diagonal(c)
  rest = jnp.sum(c * c) - jnp.sum(diagonal * diagonal)
  return jnp.sum((1 - diagonal) ** 2) + off_diagonal * rest


class Encoder(NamedTuple):
  """One hidden layer of batch-normalised rectified units, normalised by the training vectors."""

  mean: Array  # [h] of the hidden layer
  std: Array  # [h]
  hidden: Array  # [d, h]
  out: Array  # [h, dim]

  def transform(self, x: Array) -> Array:
    """Vectors [..., d] in fewer coordinates, [..., dim]."""
    hidden = (numerics.matmul(jnp.asarray(x), self.hidden) - self.mean) / self.std
    return numerics.matmul(jax.nn.relu(hidden), self.out)


def fit(
  x: ArrayLike,
  dim: int,
  *,
  key: Key,
  neighbors: ArrayLike,
  hidden: int = 0,
  projector: int = 2048,
  off_diagonal: float = 3.9e-3,
  batch_size: int = 1024,
  steps: int = 500,
  learning_rate: float = 1e-3,
) -> linear.Linear | Encoder:
  """A reducer of vectors x [n, d] to `dim` coordinates.

  Args:
    x: [n, d] float32.
    dim: coordinates.
    key: for weights and batches.
    neighbors: [n, k] ids of each row's nearest other rows; the paper has k from 3 to 100.
    hidden: units of the encoder's hidden layer; 0 makes it linear.
    projector: units of the projector's two hidden layers and of its output.
    off_diagonal: λ of the loss.
    batch_size: pairs a step.
    steps: of Adam, where the paper has LARS.
    learning_rate: its peak.
  """
  x = reducer.check(x, dim).astype(jnp.float32)
  neighbors = reducer.check_neighbors(neighbors, len(x))
  keys = jax.random.split(key, 6)
  d, p = x.shape[1], projector
  encoder = (
    {"hidden": reducer.dense(keys[0], d, hidden), "out": reducer.dense(keys[1], hidden, dim)}
    if hidden
    else {"out": reducer.dense(keys[1], d, dim)}
  )
  projected = [reducer.dense(k, *size) for k, size in zip(keys[2:5], ((dim, p), (p, p), (p, p)))]

  def embed(params, x):
    z = x
    if hidden:
      z = jax.nn.relu(_standard(z @ params[0]["hidden"]))
    z = z @ params[0]["out"]
    for w in params[1][:-1]:
      z = jax.nn.relu(_standard(z @ w))
    return z @ params[1][-1]

  def loss(params, key):
    key_rows, key_neighbor = jax.random.split(key)
    ids = reducer.rows(key_rows, len(x), batch_size)
    near = reducer.neighbours(key_neighbor, neighbors, ids)
    z1, z2 = embed(params, x[ids]), embed(params, x[near])
    return barlow_twins(z1, z2, off_diagonal=off_diagonal) / p

  (encoder, _), _ = reducer.minimize(
    loss, (encoder, projected), keys[5], steps=steps, learning_rate=learning_rate
  )
  if not hidden:
    return linear.Linear(jnp.zeros_like(x[0]), encoder["out"])
  h = numerics.matmul(x, encoder["hidden"])
  std = jnp.sqrt(jnp.var(h, axis=0) + _EPSILON)
  return Encoder(jnp.mean(h, axis=0), std, encoder["hidden"], encoder["out"])


def _standard(z: Array) -> Array:
  """Batch normalisation without scale and shift."""
  return (z - jnp.mean(z, axis=0)) / jnp.sqrt(jnp.var(z, axis=0) + _EPSILON)
