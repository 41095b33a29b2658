"""Intrinsic dimension of a cloud of points, from the distances of each to its nearest others.

Near a point of a smooth set of dimension m the number of others within t grows like tᵐ. TwoNN
[facco2017twonn] looks at the two nearest, Levina and Bickel [levina2004mle] at k of them. Both are
biased downwards where there are few points for the dimension, as in all high ones.
"""

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.typing import Array

_BLOCK = 1 << 22  # entries of a temporary array


def _places(x: Array) -> Array:
  """Numbers of the rows of x [n, d], [n] int32, the same for equal rows alone.

  These are next to each other in the order of two hashes of their bits.
  """
  bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0, x), jnp.uint16)  # −0 is 0
  bits = bits.reshape(x.shape[0], -1).astype(jnp.uint32)
  odd = 1 | np.random.default_rng(0).integers(1 << 32, size=(2, bits.shape[1]), dtype=np.uint32)
  order = jnp.lexsort(jnp.sum(bits * odd[:, None], axis=-1, dtype=jnp.uint32))
  y = x[order]
  new = jnp.any(y[1:] != y[:-1], axis=-1)
  return jnp.zeros(x.shape[0], jnp.int32).at[order[1:]].set(jnp.cumsum(new, dtype=jnp.int32))


def neighbor_distances(x: Array, k: int) -> Array:
  """Distances from each of x [n, d] to its k nearest others, ascending, [n, k].

  Blocks of inner products find them, and differences measure them: near pairs lose no digits.
  Copies of a point are left out, since they say nothing about dimension; where that leaves fewer
  than k others the rest are infinite.

  Raises:
    ValueError: k is not between 1 and n − 1.
  """
  n = x.shape[0]
  if not 1 <= k < n:
    raise ValueError(f"k must be between 1 and {n - 1}, got {k}")
  x = x - jnp.mean(x, axis=0)
  square, places = jnp.sum(x * x, axis=-1), _places(x)
  # The nearest by inner products may be in another order: some more, to be sorted exactly.
  more = min(k + 8, n)

  def one(point):
    x_i, place = point
    score = jnp.where(places == place, jnp.inf, square - 2 * numerics.matmul(x, x_i))
    _, ids = jax.lax.top_k(-score, more)
    d = numerics.safe_norm(x[ids] - x_i)
    return jnp.sort(jnp.where(d > 0, d, jnp.inf))[:k]

  return jax.lax.map(one, (x, places), batch_size=max(1, _BLOCK // (n + more * x.shape[1])))


def two_nn(d: Array, *, share: float = 0.9) -> Array:
  """Dimension from the ratios μ of second to first distances, [].

  The slope of −log(1 − F(μ)) against log μ through the origin, F their empirical distribution: its
  last points, of the largest ratios, scatter most and are left out [facco2017twonn].

  Args:
    d: [n, ≥ 2] ascending distances.
    share: of the points, the smallest ratios, that are kept.
  """
  n = d.shape[0]
  log_mu = jnp.sort(jnp.log(d[:, 1] / d[:, 0]))
  kept = max(1, int(share * n))
  y = -jnp.log1p(-jnp.arange(1, n + 1, dtype=d.dtype)[:kept] / n) if kept < n else None
  if y is None:
    raise ValueError(f"share must leave the last of {n} points out, got {share}")
  x = log_mu[:kept]
  return jnp.sum(x * y) / jnp.sum(x * x)


def levina_bickel(d: Array, *, harmonic: bool = False) -> Array:
  """Maximum likelihood dimension from k nearest neighbours, [].

  At a point m̂ = (1/(k − 1) Σ_{j<k} log(T_k / T_j))⁻¹ [levina2004mle] eq. 8, T_j the distance of its
  j-th neighbour; then the mean over points.

  Args:
    d: [n, k] ascending distances, k ≥ 2.
    harmonic: mean of the inverses instead, which is the likelihood of all points together.
  """
  inverse = jnp.mean(jnp.log(d[:, -1:] / d[:, :-1]), axis=-1)
  return 1 / jnp.mean(inverse) if harmonic else jnp.mean(1 / inverse)
