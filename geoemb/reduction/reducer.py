"""What all reducers share: one shape, its checks, and the loop that trains some of them."""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from geoemb.manifolds import euclidean
from geoemb.optim import radam
from geoemb.typing import Array, ArrayLike, Key, PyTree


class Reducer(Protocol):
  """What a fit returns: a map to fewer coordinates, for vectors seen or not."""

  def transform(self, x: Array) -> Array:
    """Vectors [..., d] in fewer coordinates, [..., dim]; not normalised."""


def wide(x: ArrayLike) -> Array:
  """The array, in float32 if its floats are narrower: half precision has no decompositions."""
  x = jnp.asarray(x)
  narrow = jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32
  return x.astype(jnp.float32) if narrow else x


def check(x: ArrayLike, dim: int, most: int | None = None) -> Array:
  """The vectors [n, d] as `wide` has them, if `dim` coordinates can be had from them.

  Raises:
    ValueError: no vectors, some that are not finite, or a dim that is not between 1 and `most`,
      which is d by default.
  """
  x = wide(x)
  if x.ndim != 2 or not x.size or not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(f"vectors must be a floating [n, d], got {x.dtype} {list(x.shape)}")
  if not isinstance(x, jax.core.Tracer):
    bad = np.flatnonzero(~np.isfinite(np.asarray(x)).all(axis=1))
    if len(bad):
      raise ValueError(f"vectors must be finite, got {len(bad)} that are not, first {bad[0]}")
  most = x.shape[1] if most is None else most
  if not 1 <= dim <= most:
    raise ValueError(f"dim must be between 1 and {most}, got {dim}")
  return x


def minimize(
  loss: Callable[[PyTree, Key], Array],
  params: PyTree,
  key: Key,
  *,
  steps: int,
  learning_rate: float,
) -> tuple[PyTree, Array]:
  """Parameters after `steps` of Adam, and the losses on the way, [steps]: one compiled scan.

  The learning rate rises for a tenth of the steps and then falls along a cosine.
  """
  params, _, losses = minimize_with(
    lambda params, key, i, state: (loss(params, key), state), params, (), key,
    steps=steps, learning_rate=learning_rate,
  )  # fmt: skip
  return params, losses


def minimize_with(
  loss: Callable[[PyTree, Key, Array, PyTree], tuple[Array, PyTree]],
  params: PyTree,
  state: PyTree,
  key: Key,
  *,
  steps: int,
  learning_rate: float,
) -> tuple[PyTree, PyTree, Array]:
  """`minimize` of a loss of (params, key, step, state) that returns the next state too."""
  if steps < 1:
    raise ValueError(f"steps must be positive, got {steps}")
  rise = max(1, steps // 10)
  rate = lambda i: (
    learning_rate * jnp.minimum((i + 1) / rise, 1) * (0.5 + 0.5 * jnp.cos(jnp.pi * (i / steps)))
  )
  tx = radam.radam(rate, euclidean.manifold())  # Adam

  def step(carry, key_i):
    (params, moments, state), (key, i) = carry, key_i
    (value, state), g = jax.value_and_grad(loss, has_aux=True)(params, key, i, state)
    updates, moments = tx.update(g, moments, params)
    return (optax.apply_updates(params, updates), moments, state), value

  each = jax.random.split(key, steps), jnp.arange(steps, dtype=jnp.int32)
  (params, _, state), losses = jax.lax.scan(step, (params, tx.init(params), state), each)
  return params, state, losses


def rows(key: Key, n: int, b: int) -> Array:
  """Ids of a batch, [min(b, n)] int32, none twice."""
  return jax.random.choice(key, n, (min(b, n),), replace=False).astype(jnp.int32)


def neighbours(key: Key, neighbors: Array, ids: Array) -> Array:
  """One of the neighbours [n, k] of each row in ids [b], [b] int32."""
  column = jax.random.randint(key, ids.shape, 0, neighbors.shape[1])
  return neighbors[ids, column].astype(jnp.int32)


def check_neighbors(neighbors: ArrayLike, n: int) -> Array:
  """The ids [n, k] of each row's neighbours, int32.

  Raises:
    ValueError: another shape, or ids outside the rows.
  """
  ids = jnp.asarray(neighbors)
  if ids.ndim != 2 or len(ids) != n or not ids.shape[1]:
    raise ValueError(f"neighbors must be [{n}, k] ids of rows, got {list(ids.shape)}")
  if not isinstance(ids, jax.core.Tracer):
    host = np.asarray(ids)
    if host.min() < 0 or host.max() >= n:
      raise ValueError(f"neighbors must be ids from 0 to {n - 1}, got {host.min()} … {host.max()}")
  return ids.astype(jnp.int32)


def dense(key: Key, d: int, k: int) -> Array:
  """A layer's first weights, [d, k], of variance 1/d."""
  return jax.random.normal(key, (d, k)) / jnp.sqrt(float(d))
