"""A small autoencoder: the code of one hidden layer from which another reconstructs the vector.

As in [huerga2025storage], whose reducer is a rectified encoder and its mirror image, trained on the
squared error.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.reduction import reducer
from geoemb.typing import Array, ArrayLike, Key


class Encoder(NamedTuple):
  """x ↦ relu(x · hidden + bias) · out + shift."""

  hidden: Array  # [d, h]
  bias: Array  # [h]
  out: Array  # [h, dim]
  shift: Array  # [dim]

  def transform(self, x: Array) -> Array:
    """Vectors [..., d] in fewer coordinates, [..., dim]."""
    hidden = jax.nn.relu(numerics.matmul(jnp.asarray(x), self.hidden) + self.bias)
    return numerics.matmul(hidden, self.out) + self.shift


def fit(
  x: ArrayLike,
  dim: int,
  *,
  key: Key,
  hidden: int = 512,
  batch_size: int = 256,
  steps: int = 2000,
  learning_rate: float = 1e-3,
) -> Encoder:
  """A reducer of vectors x [n, d] to `dim` coordinates.

  Args:
    x: [n, d] float32.
    dim: coordinates.
    key: for weights and batches.
    hidden: units of the hidden layers.
    batch_size: vectors a step.
    steps: of Adam.
    learning_rate: its peak.
  """
  x = reducer.check(x, dim).astype(jnp.float32)
  d = x.shape[1]
  keys = jax.random.split(key, 5)

  def half(key_in, key_out, d, k):
    return Encoder(
      reducer.dense(key_in, d, hidden), jnp.zeros(hidden), reducer.dense(key_out, hidden, k),
      jnp.zeros(k),
    )  # fmt: skip

  def loss(params, key):
    encoder, decoder = params
    some = x[reducer.rows(key, len(x), batch_size)]
    error = decoder.transform(encoder.transform(some)) - some
    return jnp.mean(jnp.sum(error * error, axis=-1))

  params = half(*keys[:2], d, dim), half(*keys[2:4], dim, d)
  (encoder, _), _ = reducer.minimize(
    loss, params, keys[4], steps=steps, learning_rate=learning_rate
  )
  return encoder
