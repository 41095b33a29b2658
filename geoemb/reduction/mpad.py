"""MPAD [fu2025mpad]: directions that keep even the closest pairs of projections apart.

The directions w₁, w₂, … are found one after the other, each a unit vector that maximises

  μ_b(w) − α Σ_{i<k} ⟨w_i, w⟩²,

μ_b the mean of the smallest b % of |⟨w, x_i − x_j⟩| over pairs of vectors. The authors' code of the
same name averages the largest b % instead; `largest` does that.
"""

import jax
import jax.numpy as jnp

from geoemb.reduction import linear, reducer
from geoemb.typing import Array, ArrayLike, Key


def utility(gaps: Array, share: float, *, largest: bool = False) -> Array:
  """μ_b: the mean of the smallest (or largest) share b of gaps [p], []."""
  count = max(1, round(share * gaps.size))
  edge = jnp.sort(jax.lax.stop_gradient(gaps))[-count if largest else count - 1]
  inside = (gaps >= edge) if largest else (gaps <= edge)
  inside = inside.astype(gaps.dtype)  # ties at the edge count all
  return jnp.sum(gaps * inside) / jnp.sum(inside)


def fit(
  x: ArrayLike,
  dim: int,
  *,
  key: Key,
  share: float = 0.8,
  alpha: float = 0.1,
  largest: bool = False,
  sample: int = 400,
  steps: int = 60,
  learning_rate: float = 0.3,
) -> linear.Linear:
  """A reducer of vectors x [n, d] to `dim` coordinates, which come in the order they were found.

  Args:
    x: [n, d].
    dim: coordinates.
    key: for the vectors that are compared and for the first directions.
    share: b/100, of the pairs that count.
    alpha: α, in units of the root mean square of the vectors' deviations along a direction.
    largest: average the largest gaps, as the authors' code does.
    sample: vectors that are compared, in all their pairs; the time grows with its square.
    steps: of ascent a direction, of lengths that fall to 0.
    learning_rate: length of the first step; the sphere's radius is 1.
  """
  x = reducer.check(x, dim)
  if not 0 < share <= 1:
    raise ValueError(f"share must be in (0, 1], got {share}")
  key_sample, key_start = jax.random.split(key)
  some = x[reducer.rows(key_sample, len(x), sample)]
  some = some - jnp.mean(some, axis=0)
  if len(some) < 2:
    raise ValueError(f"pairs need at least 2 vectors, got {len(some)}")
  # Gaps are measured in this unit, so that α weighs the same whatever the vectors' scale.
  scale = jnp.sqrt(jnp.mean(some * some))
  some = some / jnp.where(scale > 0, scale, 1)
  first, second = jnp.triu_indices(len(some), 1)

  def objective(w, found):
    p = some @ w
    mu = utility(jnp.abs(p[first] - p[second]), share, largest=largest)
    return mu - alpha * jnp.sum((found @ w) ** 2)

  def direction(found, k_start):
    k, w = k_start

    def ascend(w, rate):
      g = jax.grad(objective)(w, found)
      g = g - jnp.dot(g, w) * w
      length = jnp.linalg.norm(g)
      w = w + rate * g / jnp.where(length > 0, length, 1)
      return w / jnp.linalg.norm(w), None

    rates = learning_rate * (1 - jnp.arange(steps, dtype=x.dtype) / steps)
    w, _ = jax.lax.scan(ascend, w / jnp.linalg.norm(w), rates)
    return found.at[k].set(w), None

  starts = jax.random.normal(key_start, (dim, x.shape[1]), x.dtype)
  found, _ = jax.lax.scan(direction, jnp.zeros_like(starts), (jnp.arange(dim), starts))
  return linear.Linear(jnp.zeros_like(x[0]), found.T)
