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


def utility(p: Array, share: float, *, largest: bool = False) -> Array:
  """μ_b: the mean of the smallest (or largest) share b of the gaps between numbers p [n], [].

  Gaps equal to the last of them count too. Of sorted numbers those within δ of each are a run, so
  the pairs are counted, and by prefix sums added up, without being formed.
  """
  n = p.shape[0]
  total = n * (n - 1) // 2
  count = max(1, round(share * total))
  s = jnp.sort(p)
  fixed = jax.lax.stop_gradient(s)
  place = jnp.arange(n)

  def reach(delta):  # how many numbers lie at or below s_i + δ, [n]
    found = jnp.searchsorted(fixed, fixed + delta, side="right", method="scan_unrolled")
    return jnp.maximum(found, place + 1)  # s_i + δ may round below s_i

  wanted = total - count if largest else count

  def halve(_, ends):
    middle = 0.5 * (ends[0] + ends[1])
    enough = jnp.sum(reach(middle) - place - 1) >= wanted
    return jnp.where(enough, ends[0], middle), jnp.where(enough, middle, ends[1])

  ends = jnp.zeros_like(fixed[0]), 2 * (fixed[-1] - fixed[0])
  _, delta = jax.lax.fori_loop(0, 32, halve, ends)
  end = reach(delta)
  below = jnp.concatenate([jnp.zeros_like(s[:1]), jnp.cumsum(s)])
  within = end - place - 1
  inside = jnp.sum(below[end] - below[place + 1] - within.astype(s.dtype) * s)
  if not largest:
    return inside / jnp.sum(within).astype(s.dtype)
  every = jnp.sum((2 * place - (n - 1)).astype(s.dtype) * s)  # Σ_{i<j} s_j − s_i
  # Where the largest tie with more than `count`, all of those are within δ.
  rest = jnp.maximum(total - jnp.sum(within), 1).astype(s.dtype)
  return (every - inside) / rest


def fit(
  x: ArrayLike,
  dim: int,
  *,
  key: Key,
  share: float = 0.8,
  alpha: float = 100.0,
  largest: bool = False,
  sample: int = 500,
  steps: int = 50,
  learning_rate: float = 0.3,
) -> linear.Linear:
  """A reducer of vectors x [n, d] to `dim` coordinates, which come in the order they were found.

  Args:
    x: [n, d].
    dim: coordinates.
    key: for the vectors that are compared and for the first directions.
    share: b/100, of the pairs that count.
    alpha: α, in units of the root mean square of the vectors' deviations along a coordinate; where
      it is not far above 1, later directions are copies of the first.
    largest: average the largest gaps, as the authors' code does.
    sample: vectors that are compared, in all their pairs.
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

  def objective(w, found):
    return utility(some @ w, share, largest=largest) - alpha * jnp.sum((found @ w) ** 2)

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
