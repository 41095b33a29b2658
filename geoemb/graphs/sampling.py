"""Training batches of a hierarchy's edges with negatives, drawn on the device.

Everything here is a pure function of (key, step): batch `t` is the same however a run is cut into
calls, so a resumed run repeats an uninterrupted one bit for bit. Nothing is drawn in Python.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geoemb.data import hierarchy
from geoemb.typing import Array, Key, PyTree

_ROUNDS = 6  # of the Feistel network; 4 are pseudo-random in theory, 2 more for its small halves


def _mix(h: Array) -> Array:
  """A 32-bit finaliser: every input bit flips each output bit with probability near 1/2."""
  h = (h ^ (h >> 16)) * jnp.uint32(0x7FEB352D)
  h = (h ^ (h >> 15)) * jnp.uint32(0x846CA68B)
  return h ^ (h >> 16)


def permute(key: Key, i: Array, n: int) -> Array:
  """The image of `i` [...] under a pseudo-random permutation of range(n), int32 [...].

  A generalised Feistel network on ℤ_a × ℤ_a, a = ⌈√n⌉, with cycle walking: O(1) memory and no
  sort, where shuffling n edges anew each epoch costs a sort of n keys. a² exceeds n by less than
  2√n + 1, so a walk almost never takes a second turn.

  Args:
    key: one key per permutation; broadcast against `i` if it is an array of keys.
    i: int32 positions in [0, n).
    n: size of the range, at most 2³¹ − 1.
  """
  a = int(np.ceil(np.sqrt(n)))
  while a * a < n:
    a += 1
  bits = jax.vmap(lambda k: jax.random.bits(k, (_ROUNDS,), jnp.uint32))(key.reshape(-1))
  rounds = jnp.moveaxis(bits.reshape(*key.shape, _ROUNDS), -1, 0)
  size = jnp.uint32(a)

  def turn(x: Array) -> Array:
    left, right = x // size, x % size
    for r in range(_ROUNDS):
      left, right = right, (left + _mix(right ^ rounds[r]) % size) % size
    return left * size + right

  def walk(x: Array) -> Array:
    return jnp.where(x >= n, turn(x), x)

  x = turn(i.astype(jnp.uint32))
  x = jax.lax.while_loop(lambda x: jnp.any(x >= n), walk, x)
  return x.astype(jnp.int32)


def uniform(key: Key, shape: tuple[int, ...], n: int) -> Array:
  """Uniform draws from range(n), int32 [*shape], by hashing their places with the key.

  Two rounds of a 32-bit finaliser and one product, in place of the twenty rounds of threefry for
  each of jax.random.randint's two words: negatives are most of what a step draws.

  Args:
    key: as of jax.random.
    shape: of the result.
    n: size of the range, at most 2³¹ − 1.
  """
  a, b = jax.random.bits(key, (2,), jnp.uint32)
  place = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
  h = _mix(_mix(place ^ a) + b)
  # ⌊h n / 2³²⌋ from halves of 16 bits: some values get one draw in 2³²/n more than others
  h_hi, h_lo, n_hi, n_lo = h >> 16, h & 0xFFFF, jnp.uint32(n >> 16), jnp.uint32(n & 0xFFFF)
  middle = h_hi * n_lo + (h_lo * n_lo >> 16)
  high = h_hi * n_hi + (middle >> 16) + (h_lo * n_hi + (middle & 0xFFFF) >> 16)
  return high.astype(jnp.int32)


class Alias(NamedTuple):
  """Walker's alias table of a distribution over range(n): two look-ups a draw."""

  prob: Array  # [n] float32: keep the column that was drawn with this probability
  other: Array  # [n] int32: else take this one


def alias_table(weights: np.ndarray) -> Alias:
  """Alias table of a distribution proportional to `weights` [n], built on the host in O(n)."""
  w = np.asarray(weights, np.float64)
  if w.ndim != 1 or not np.all(np.isfinite(w)) or np.any(w < 0) or w.sum() <= 0:
    raise ValueError("weights must be a vector of finite numbers >= 0 with a positive sum")
  n = len(w)
  p = w * (n / w.sum())
  prob, other = np.ones(n), np.arange(n, dtype=np.int32)
  small, large = list(np.flatnonzero(p < 1)), list(np.flatnonzero(p >= 1))
  while small and large:
    s, g = small.pop(), large[-1]
    prob[s], other[s] = p[s], g
    p[g] -= 1 - p[s]
    if p[g] < 1:
      small.append(large.pop())
  return Alias(jnp.asarray(prob, jnp.float32), jnp.asarray(other))


def draw(key: Key, alias: Alias, shape: tuple[int, ...]) -> Array:
  """Independent draws from an alias table, int32 [*shape]."""
  key_column, key_coin = jax.random.split(key)
  i = jax.random.randint(key_column, shape, 0, len(alias.prob), jnp.int32)
  keep = jax.random.uniform(key_coin, shape, jnp.float32) < alias.prob[i]
  return jnp.where(keep, i, alias.other[i])


class Batch(NamedTuple):
  """b edges with negatives: g = b/s groups of s edges, each group with its own k negatives."""

  u: Array  # [b] int32 sources
  v: Array  # [b] int32 targets
  neg: Array  # [g, k] int32 candidates
  known: Array  # [g, s, k] bool: no negative of this edge, since it is u or one of its targets

  @property
  def ids(self) -> Array:
    """All rows of the batch, [2 b + g k] int32: u, then v, then the negatives."""
    return jnp.concatenate([self.u, self.v, self.neg.reshape(-1)])


def split(rows: PyTree, batch: Batch) -> tuple[PyTree, PyTree, PyTree]:
  """Rows [2 b + g k, ...] gathered at `batch.ids` as u, v [g, s, ...] and negatives [g, k, ...]."""
  b, (g, s, k) = len(batch.u), batch.known.shape
  leaves, treedef = jax.tree.flatten(rows)
  # The gradient of a split is one concatenation; those of slices are padded to length and added.
  parts = zip(*(jax.lax.split(x, (b, b, len(x) - 2 * b)) for x in leaves))
  grouped = lambda n, part: [x.reshape(g, n, *x.shape[1:]) for x in part]
  return tuple(jax.tree.unflatten(treedef, grouped(n, part)) for n, part in zip((s, s, k), parts))


def is_known(u: Array, neg: Array, targets: Array) -> Array:
  """Which candidates are no negatives, [g, s, k] bool, for sources u [g, s] and neg [g, k].

  Args:
    u: sources.
    neg: candidates.
    targets: [n, a] int32, the targets of each node, padded with an id that no node has.
  """
  rows = targets.at[u].get(mode="promise_in_bounds")  # [g, s, a]
  hit = neg[:, None, :] == u[..., None]
  for i in range(targets.shape[1]):  # a chain of compares is vectorised, an any() over a is not
    hit = hit | (rows[..., i, None] == neg[:, None, :])
  return hit


def ranked_edges(
  edges: np.ndarray,
  n: int,
  *,
  batch_size: int,
  negatives: int,
  shared: int = 1,
  burn_in_steps: int = 0,
  burn_in_negatives: int | None = None,
  dampening: float = 0.75,
) -> Callable[[Key, Array], Batch]:
  """sample(key, steps [t]) → batches with leading axis t, for ranking losses [nickel2017poincare].

  The steps of one call ascend.

  A pass goes through all edges once, in an order of its own; the last m mod b edges of that order
  wait for another pass. Negatives are uniform over all nodes; those that are the source itself or
  one of its targets are marked as `known`, to be left out of the loss.

  Args:
    edges: [m, 2] int32.
    n: number of nodes.
    batch_size: b, edges a step.
    negatives: k, candidates per group.
    shared: s, edges that share their negatives; 1 is the paper's protocol.
    burn_in_steps: steps at the start whose negatives are drawn ∝ frequency^dampening, where
      frequency counts how often a node is a target.
    burn_in_negatives: how many of the k count in these steps; all by default.
    dampening: see burn_in_steps; 0.75 in the authors' mammals script, 1 in that for nouns.

  Raises:
    ValueError: sizes that do not fit.
  """
  m = len(edges)
  if not 1 <= batch_size <= m:
    raise ValueError(f"batch_size must be between 1 and the number of edges, {m}, got {batch_size}")
  if shared < 1 or batch_size % shared:
    raise ValueError(f"shared must divide the batch of {batch_size} edges, got {shared}")
  if negatives < 1:
    raise ValueError(f"negatives must be at least 1, got {negatives}")
  burn_in_negatives = negatives if burn_in_negatives is None else burn_in_negatives
  if not 1 <= burn_in_negatives <= negatives:
    raise ValueError(
      f"burn_in_negatives must be between 1 and {negatives}, got {burn_in_negatives}"
    )
  groups, per_pass = batch_size // shared, m // batch_size
  pairs = jnp.asarray(edges, jnp.int32)
  targets = jnp.asarray(hierarchy.ancestors(edges, n))
  frequent = alias_table(np.bincount(edges[:, 1], minlength=n) ** dampening)
  active = jnp.arange(negatives) < burn_in_negatives

  def sample(key: Key, steps: Array) -> Batch:
    key_order, key_neg = jax.random.split(key)
    at = steps % per_pass * batch_size
    key_order = jax.vmap(jax.random.fold_in, (None, 0))(key_order, steps // per_pass)
    key_neg = jax.vmap(jax.random.fold_in, (None, 0))(key_neg, steps)

    position = at[:, None] + jnp.arange(batch_size, dtype=jnp.int32)
    edge = permute(key_order[:, None], position, m)
    u, v = jnp.moveaxis(pairs.at[edge].get(mode="promise_in_bounds"), -1, 0)
    shape = (groups, negatives)
    plain = jax.vmap(lambda k: uniform(k, shape, n))(key_neg)
    known = jax.vmap(is_known, (0, 0, None))
    groups_u = u.reshape(-1, groups, shared)

    def usual() -> tuple[Array, Array]:
      return plain, known(groups_u, plain, targets)

    def burning() -> tuple[Array, Array]:
      popular = jax.vmap(lambda k: draw(k, frequent, shape))(key_neg)
      early = (steps < burn_in_steps)[:, None, None]
      neg = jnp.where(early, popular, plain)
      return neg, known(groups_u, neg, targets) | (early & ~active)[:, :, None, :]

    if not burn_in_steps:
      neg, hit = usual()
    else:  # one look at the block's first step spares all others the second draw
      neg, hit = jax.lax.cond(steps[0] < burn_in_steps, burning, usual)
    return Batch(u, v, neg, hit)

  return sample
