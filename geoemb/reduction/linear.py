"""Linear reducers: truncation, principal components and random projections.

For retrieval by cosine the mean must stay in: what centring takes away is part of every similarity.
`pca` with center=False is the truncated SVD of the vectors. All-but-the-top is [mu2018allbutthetop]
§3, in fewer dimensions as in [raunak2019effective].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.reduction import reducer
from geoemb.typing import Array, ArrayLike, Key


class Linear(NamedTuple):
  """x ↦ (x − mean) · weight."""

  mean: Array  # [d]
  weight: Array  # [d, dim]

  def transform(self, x: Array) -> Array:
    """Vectors [..., d] in fewer coordinates, [..., dim]."""
    return numerics.matmul(reducer.wide(x) - self.mean, self.weight)

  def first(self, dim: int) -> "Linear":
    """The reducer to the first `dim` of the coordinates."""
    return Linear(self.mean, self.weight[:, :dim])


def truncation(x: ArrayLike, dim: int) -> Linear:
  """The first `dim` coordinates as they are."""
  x = reducer.check(x, dim)
  return Linear(jnp.zeros_like(x[0]), jnp.eye(x.shape[1], dim, dtype=x.dtype))


def pca(
  x: ArrayLike, dim: int, *, center: bool = True, whiten: bool = False, skip: int = 0
) -> Linear:
  """The directions along which vectors x [n, d] vary most, the first the most.

  A direction's largest entry is positive, since formats that look at signs or at offsets would
  otherwise depend on the solver's choice.

  Args:
    x: [n, d], any n; directions beyond the rank of x come out as arbitrary ones, whitened as 0.
    dim: how many directions.
    center: subtract the mean; without it directions maximise mean squares.
    whiten: divide coordinates by their standard deviations; dead ones become 0.
    skip: first directions to leave out: all-but-the-top, with center=True.
  """
  x = reducer.check(x, dim)
  d = x.shape[1]
  if not 0 <= skip <= d - dim:
    raise ValueError(f"skip must be between 0 and {d - dim}, got {skip}")
  mean = jnp.mean(x, axis=0) if center else jnp.zeros_like(x[0])
  x = x - mean
  # The singular vectors of R are those of x = Q R, without the squared condition of xᵀx.
  _, s, vt = jnp.linalg.svd(jnp.linalg.qr(x, mode="r"), full_matrices=True)
  s = jnp.concatenate([s, jnp.zeros_like(s, shape=d - s.shape[0])])
  chosen = slice(skip, skip + dim)
  w = vt[chosen].T
  largest = jnp.take_along_axis(w, jnp.argmax(jnp.abs(w), axis=0)[None], axis=0)
  w = w * jnp.where(largest < 0, -1, 1).astype(w.dtype)
  if whiten:
    # Below this, singular values are rounding errors of the largest.
    alive = s[chosen] > s[0] * max(x.shape) * jnp.finfo(x.dtype).eps
    deviation = s[chosen] / jnp.sqrt(jnp.asarray(x.shape[0], s.dtype))
    w = jnp.where(alive, w / jnp.where(alive, deviation, 1), 0)
  return Linear(mean, w)


def random_projection(x: ArrayLike, dim: int, *, key: Key) -> Linear:
  """Gaussian entries of variance 1/dim, which keep squared lengths on average, for any dim ≥ 1."""
  x = reducer.check(x, dim, most=max(dim, 1))
  w = jax.random.normal(key, (x.shape[1], dim), x.dtype) / jnp.sqrt(jnp.asarray(dim, x.dtype))
  return Linear(jnp.zeros_like(x[0]), w)
