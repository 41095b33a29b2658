"""Training in a random subspace: θ = θ₀ + P z, z ∈ ℝ^d [li2018intrinsic].

    z, expand = subspace.make(key, params, 750)
    loss = lambda z, batch: loss_fn(expand(z), batch)

The columns of P ∈ ℝ^{D×d} are random and of unit length, dense ones exactly and the others in the
mean square, so a step in z is as long in θ. The least d at which training reaches 90 % of its full
quality measures the landscape's intrinsic dimension; `least_dimension` seeks it.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from geoemb import numerics
from geoemb.typing import Array, Key, PyTree

Projection = Literal["dense", "sparse", "fastfood"]
_HADAMARD = 64  # the largest matrix by which a transform is taken apart


def hadamard(x: Array) -> Array:
  """H x over the last axis, [..., n]: the Walsh–Hadamard transform, n a power of two.

  H_n = H_64 ⊗ … ⊗ H_k, so that it takes O(n log n) operations, as products with small matrices.

  Raises:
    ValueError: n is no power of two.
  """
  n = x.shape[-1]
  if n & (n - 1) or not n:
    raise ValueError(f"the length must be a power of two, got {n}")
  parts = []
  while n > 1:
    parts.append(min(n, _HADAMARD))
    n //= parts[-1]
  y = x.reshape(*x.shape[:-1], *parts)
  for i, k in enumerate(parts):
    axis = i - len(parts)
    y = jnp.moveaxis(y, axis, -1)
    y = numerics.matmul(y, _matrix(k, x.dtype))
    y = jnp.moveaxis(y, -1, axis)
  return y.reshape(x.shape)


def _matrix(n: int, dtype: jnp.dtype) -> Array:
  """H_n, [n, n], of ±1."""
  h = np.ones((1, 1))
  while len(h) < n:
    h = np.block([[h, h], [h, -h]])
  return jnp.asarray(h, dtype)


def dense(key: Key, n: int, d: int, dtype: jnp.dtype = jnp.float32) -> Callable[[Array], Array]:
  """Z [d] → P z [n] for Gaussian columns; P is kept, n d numbers."""
  p = jax.random.normal(key, (n, d), dtype)
  p = p / jnp.linalg.norm(p, axis=0)
  return lambda z: numerics.matmul(p, z)


def sparse(key: Key, n: int, d: int, dtype: jnp.dtype = jnp.float32) -> Callable[[Array], Array]:
  """Z [d] → P z [n] for columns with ⌈√n⌉ entries ±1/⌈√n⌉^½ in random rows.

  A density of 1/√n is that of [li2006sparse] §4. Rows of a column may repeat, where entries add.
  """
  k = math.isqrt(n - 1) + 1
  key_row, key_sign = jax.random.split(key)
  rows = jax.random.randint(key_row, (d, k), 0, n, jnp.int32)
  signs = jax.random.rademacher(key_sign, (d, k), dtype) * k**-0.5
  return lambda z: jnp.zeros(n, dtype).at[rows].add(signs * z[:, None])


def fastfood(key: Key, n: int, d: int, dtype: jnp.dtype = jnp.float32) -> Callable[[Array], Array]:
  """Z [d] → P z [n] by S H G Π H B for each l rows, l = 2^⌈log₂ d⌉ [le2013fastfood].

  B are random signs, Π is a permutation, G a Gaussian diagonal, and S makes columns of unit length:
  exactly if n is a multiple of l, else in the mean square, as of the last l some rows are left out.
  Takes O(n log d) operations and O(n) numbers, where a dense matrix takes n d.
  """
  size = 1 << max(0, d - 1).bit_length()
  blocks = -(-n // size)
  key_b, key_p, key_g = jax.random.split(key, 3)
  b = jax.random.rademacher(key_b, (blocks, size), dtype)
  pi = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key_p, blocks))
  g = jax.random.normal(key_g, (blocks, size), dtype)
  # A column of H G Π H B has ‖·‖² = l Σ g², whatever B and Π: H is orthogonal up to l.
  g = g / jnp.linalg.norm(g, axis=-1, keepdims=True) / n**0.5

  def project(z: Array) -> Array:
    y = hadamard(b * jnp.pad(z, (0, size - d)))
    y = hadamard(g * jnp.take_along_axis(y, pi, axis=-1))
    return y.reshape(-1)[:n]

  return project


_PROJECTIONS = {"dense": dense, "sparse": sparse, "fastfood": fastfood}


def make(
  key: Key,
  params: PyTree,
  d: int,
  *,
  projection: Projection = "fastfood",
  structure_aware: bool = False,
) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
  """The origin of a random subspace through `params`, and the map from it to parameters.

  Args:
    key: PRNG key.
    params: θ₀, any tree of floating-point arrays.
    d: dimension of the subspace, m scales included.
    projection: of what P is made, see the functions of these names.
    structure_aware: every array of the tree has a trained scale of its own,
      θ_i = θ₀_i + λ_i (P z)_i with λ = 1 at first [aghajanyan2021intrinsic] eq. 3.

  Returns:
    z, and expand: z → parameters like `params`, which is `params` at z. Without scales z is an
    array [d] of zeros; with them a dict of "z", [d − m], and "scale", [m].

  Raises:
    ValueError: no such projection, or d that leaves no room.
  """
  if projection not in _PROJECTIONS:
    raise ValueError(f"projection must be one of {', '.join(_PROJECTIONS)}, got {projection!r}")
  theta, unravel = ravel_pytree(params)
  sizes = [x.size for x in jax.tree.leaves(params)]
  scales = len(sizes) if structure_aware else 0
  if not scales < d <= len(theta):
    what = f"{scales} scales" if scales else "0"
    raise ValueError(f"d must be more than {what} and at most {len(theta)}, got {d}")
  project = _PROJECTIONS[projection](key, len(theta), d - scales, theta.dtype)
  z = jnp.zeros(d - scales, theta.dtype)
  if not structure_aware:
    return z, lambda z: unravel(theta + project(z))
  whose = np.repeat(np.arange(scales), sizes)

  def expand(z: PyTree) -> PyTree:
    return unravel(theta + z["scale"][whose] * project(z["z"]))

  return {"z": z, "scale": jnp.ones(scales, theta.dtype)}, expand


def least_dimension(
  reaches: Callable[[int], bool], start: int, most: int, *, resolution: float = 0.05
) -> int | None:
  """The least d that reaches a quality, by search.

  d is doubled or halved from `start` until the outcome changes, and log d is bisected between.

  Args:
    reaches: of a d, asked once for each.
    start: the first d.
    most: the largest, as a rule the number of parameters.
    resolution: the search ends where d and a smaller one that fails differ by this share of it.

  Returns:
    A d that reaches it; None if none up to `most` did.

  Raises:
    ValueError: `start` is not between 1 and `most`, or a resolution that is not positive.
  """
  if not 1 <= start <= most:
    raise ValueError(f"start must be between 1 and {most}, got {start}")
  if not resolution > 0:
    raise ValueError(f"resolution must be positive, got {resolution}")
  low, high, d = 0, most + 1, start  # the largest that failed, the least that did not
  while True:
    low, high = (low, d) if reaches(d) else (d, high)
    if high > most:
      if low == most:
        return None
      d = min(2 * low, most)
    elif high - low <= max(1, resolution * low):
      return high
    else:
      d = round(math.sqrt(low * high)) if low else high // 2
