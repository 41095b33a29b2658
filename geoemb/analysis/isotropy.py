"""How evenly a cloud of vectors fills its space.

`isoscore` is [rudman2022isoscore], `effective_rank` [roy2007effective]. The mean cosine is not
rotation's but the mean vector's: it is 0 for a centred cloud, however flat that is.
"""

import jax.numpy as jnp

from geoemb import numerics
from geoemb.typing import Array


def variances(x: Array, *, center: bool = True) -> Array:
  """Along the principal directions of x [n, d], the largest first, [d]."""
  x = x - jnp.mean(x, axis=0) if center else x
  values = jnp.linalg.eigvalsh(numerics.matmul(x.T, x) / x.shape[0])
  return jnp.maximum(values[::-1], 0)


def isoscore(v: Array) -> Array:
  """The share of dimensions that variances v [d] use evenly, [], in [0, 1]; d ≥ 2.

  δ = ‖√d v/‖v‖ − 1‖ / √(2 (d − √d)),  φ = (d − δ² (d − √d))² / d²,  ι = (d φ − 1) / (d − 1).
  """
  d = v.shape[0]
  root = d**0.5
  length = jnp.linalg.norm(v)
  even = root * v / jnp.where(length > 0, length, 1)
  square = jnp.sum((even - 1) ** 2) / (2 * (d - root))
  phi = ((d - square * (d - root)) / d) ** 2
  return (d * phi - 1) / (d - 1)


def effective_rank(v: Array) -> Array:
  """The exponential of the entropy of the singular values √v over their sum, [], from 1 to d."""
  s = jnp.sqrt(v)
  p = s / jnp.sum(s)
  return jnp.exp(-jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0)))


def mean_cosine(x: Array) -> Array:
  """Of all pairs of different rows of x [n, d], [], in n d operations; 0 with rows of zeros."""
  n = x.shape[0]
  some = jnp.sum(jnp.any(x != 0, axis=-1), dtype=x.dtype)
  total = jnp.sum(numerics.unit(x), axis=0)
  return (numerics.dot(total, total) - some) / (n * (n - 1))
