"""A cache of hard negatives: for every source, the nearest negatives that were met so far.

With k uniform negatives of n nodes, one that lies nearer than a positive is met once in n/k visits.
Late in training only these few have a gradient left. A source therefore remembers, of the
candidates it is compared with anyway, those that lay nearest, and meets them at each visit.
Source: the cache of [zhang2019nscaching] §III, filled from the batch and never searched for.
"""

import jax.numpy as jnp

from geoemb.typing import Array


def init(n: int, size: int) -> Array:
  """An empty cache, [n, size] int32: every place holds the source itself, which counts for none."""
  return jnp.tile(jnp.arange(n, dtype=jnp.int32)[:, None], (1, size))


def update(
  cache: Array, u: Array, affinity: Array, candidates: Array, candidate_affinity: Array
) -> Array:
  """The cache with the nearest candidate of each source in place of its farthest entry, if nearer.

  Args:
    cache: [n, size].
    u: [b] sources.
    affinity: [b, size] of the sources to their entries, 0 for empty places.
    candidates: [b, k] ids.
    candidate_affinity: [b, k]; 0 for what is no negative.
  """
  best = jnp.argmax(candidate_affinity, axis=-1, keepdims=True)
  new = jnp.take_along_axis(candidates, best, axis=-1)
  worst = jnp.argmin(affinity, axis=-1, keepdims=True)
  nearer = jnp.max(candidate_affinity, axis=-1) > jnp.min(affinity, axis=-1)
  known = jnp.any(cache.at[u].get(mode="promise_in_bounds") == new, axis=-1)
  row = jnp.where(nearer & ~known, u, cache.shape[0])  # out of bounds: dropped
  return cache.at[row, worst[:, 0]].set(new[:, 0], mode="drop")
