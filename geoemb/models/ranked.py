"""Embeddings of a graph by ranking: a source is to have its targets nearer than other nodes.

A model is a table, a `Score` that says what near means, and the step below.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import sparse

from geoemb import manifolds
from geoemb.graphs import caps, sampling
from geoemb.graphs import hard_negatives as hard
from geoemb.losses import ranking
from geoemb.manifolds import Manifold, euclidean
from geoemb.tables import rows
from geoemb.typing import Array, PyTree

NAMES = ("poincare", "lorentz", "euclidean", "translational")


class Score(NamedTuple):
  """Dissimilarity of rows; `dense` are the model's parameters beside the table."""

  dist: Callable[..., Array]  # (u [..., d], v [..., d], *dense) → [...]
  affinity: Callable[..., Array]  # (u [..., s, d], w [..., k, d], *dense) → exp(−dist), [..., s, k]
  lift: Callable[[Array], PyTree] = lambda x: x  # rows → what of them dist and affinity take


def geodesic(m: Manifold) -> Score:
  """The manifold's distance."""
  return Score(m.dist, m.pairwise_affinity, m.lift)


def squared() -> Score:
  """‖u − v‖², the Euclidean baseline of [nickel2017poincare]."""

  def affinity(u: Array, w: Array) -> Array:
    return jnp.exp(-jnp.square(euclidean.pairwise(u, w)))

  return Score(lambda u, v: jnp.sum(jnp.square(u - v), axis=-1), affinity)


def translational() -> Score:
  """‖u + r − v‖² with one r [d] for all, the second baseline of [nickel2017poincare]."""
  dist, affinity, _ = squared()
  return Score(lambda u, v, r: dist(u + r, v), lambda u, w, r: affinity(u + r, w))


def model(name: str, c: float) -> tuple[Manifold, Score]:
  """Manifold and score by name: a manifold's own distance, or the two flat baselines.

  Args:
    name: one of NAMES; "euclidean" means squared distances, "translational" those from u + r.
    c: curvature −c of a curved one.

  Raises:
    ValueError: no such model.
  """
  if name not in NAMES:
    raise ValueError(f"manifold must be one of {', '.join(NAMES)}, got {name!r}")
  if name in ("euclidean", "translational"):
    return manifolds.make("euclidean"), (squared() if name == "euclidean" else translational())
  m = manifolds.make(name, c)
  return m, geodesic(m)


def ancestral(
  key: Array,
  m: Manifold,
  edges: np.ndarray,
  n: int,
  dim: int,
  *,
  scale: float,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """A first table that knows the graph, [n, dim]: node u at exp₀ Σ z over u and its targets.

  z is one normal vector a node, so two nodes start as near to each other as they share targets.
  The sums are centred and scaled: `scale` is the root mean square distance from the origin.

  Args:
    key: PRNG key.
    m: manifold whose tangents have d entries.
    edges: [m, 2] a closure.
    n: number of nodes.
    dim: d.
    scale: root mean square distance from the origin.
    dtype: of the table.
  """
  z = np.asarray(jax.random.normal(key, (n, dim), jnp.float32), np.float64)
  ones = np.ones(len(edges))
  v = sparse.csr_array((ones, (edges[:, 0], edges[:, 1])), shape=(n, n)) @ z + z
  v = jnp.asarray(v - v.mean(axis=0), dtype)
  origin = m.origin((n,), dim, dtype)
  length = jnp.sqrt(jnp.mean(jnp.square(m.norm(origin, v))))
  return m.exp(origin, v * (scale / jnp.where(length > 0, length, 1)))  # 0 of a single node


def nested(
  key: Array,
  m: Manifold,
  edges: np.ndarray,
  n: int,
  dim: int,
  *,
  scale: float = 1.0,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """A first table in which caps nest as the hierarchy does, [n, dim]: see `graphs.caps`.

  Args:
    key: PRNG key.
    m: manifold whose tangents have d entries.
    edges: [m, 2] a closure.
    n: number of nodes.
    dim: d, at least 2.
    scale: of the radii; 1 is for hyperbolic space, in which they are in units of 1/√c.
    dtype: of the table.

  Raises:
    ValueError: dim < 2.
  """
  seed = int(jax.random.bits(key, (), jnp.uint32))
  polar = caps.place(edges, n, dim, seed=seed)
  v = jnp.asarray(polar.direction, dtype)
  origin = m.origin((n,), dim, dtype)
  radius = jnp.asarray(polar.radius, dtype) * (scale / jnp.sqrt(jnp.asarray(m.c, dtype)))
  return m.exp(origin, v * (radius / m.norm(origin, v))[:, None])


class State(NamedTuple):
  """A model in training."""

  rows: rows.State
  hard: Array  # [n, h] int32 cache of hard negatives
  count: Array  # [] int32 steps taken


def init(
  tx: optax.GradientTransformation, table: Array, *dense: Array, hard_negatives: int = 0
) -> State:
  """State of a fresh run, with room for `hard_negatives` a source."""
  cache = hard.init(table.shape[0], hard_negatives)
  return State(rows.init(tx, table, *dense), cache, jnp.zeros([], jnp.int32))


def step(
  tx: optax.GradientTransformation,
  score: Score,
  *,
  hard_weight: float = 0.0,
  hard_from: int = 0,
) -> Callable[[State, sampling.Batch], tuple[State, dict[str, Array]]]:
  """(state, batch) → (state, {"loss": mean over the batch's edges of the first term, in nats}).

  ℓ(u, v) = log(1 + Σ_j e^{d(u,v) − d(u,n_j)}) + w Σ_i log(1 + e^{d(u,v) − d(u,h_i)})

  The first term, over the batch's negatives, is [nickel2017poincare] eq. 6. The second, over the
  cached hard ones, is what the first tends to where a violation is rare; each h_i stands alone, so
  that one near negative does not silence the others.

  Args:
    tx: transformation of (rows, dense).
    score: what near means.
    hard_weight: w.
    hard_from: first step with hard negatives in the loss; the cache fills before.
  """

  def take(state: State, batch: sampling.Batch) -> tuple[State, dict[str, Array]]:
    loss_fn = lambda x, *dense: _ranking(score, batch, x, *dense)[0]
    table, loss = rows.update(tx, loss_fn, state.rows, batch.ids)
    return state._replace(rows=table, count=state.count + 1), {"loss": loss}

  def take_hard(state: State, batch: sampling.Batch) -> tuple[State, dict[str, Array]]:
    b, r = len(batch.u), len(batch.ids)
    entries = state.hard.at[batch.u].get(mode="promise_in_bounds")  # [b, h]
    empty = entries == batch.u[:, None]
    w = jnp.where(state.count < hard_from, 0, hard_weight)

    def loss_fn(x: Array, *dense: Array) -> tuple[Array, tuple[Array, ...]]:
      u, h = x[:b, None], x[r:].reshape(b, entries.shape[1], -1)
      loss, d, a = _ranking(score, batch, x[:r], *dense)
      near = jnp.where(empty, 0, score.affinity(u, h, *dense)[:, 0])  # [b, h]
      each = ranking.softmax_ranking_affinity(d.reshape(b, 1), near[..., None])
      return loss + w.astype(x.dtype) * each.sum(axis=-1).mean(), (loss, near, a)

    ids = jnp.concatenate([batch.ids, entries.reshape(-1)])
    table, (loss, near, a) = rows.update(tx, loss_fn, state.rows, ids, has_aux=True)
    candidates = jnp.repeat(batch.neg, b // len(batch.neg), axis=0)
    cache = hard.update(state.hard, batch.u, near, candidates, a.reshape(b, -1))
    return State(table, cache, state.count + 1), {"loss": loss}

  return take_hard if hard_weight else take


def merge(tx: optax.GradientTransformation, m: Manifold) -> Callable[[State, State, str], State]:
  """(old, new, axis) → one state of those of an axis's devices, for `replicas.local_steps`.

  A cache of hard negatives is that of the first device that has changed it.
  """

  def agree(old: State, new: State, axis: str) -> State:
    count = old.count + jax.lax.psum(new.count - old.count, axis)
    me, none = jax.lax.axis_index(axis), jax.lax.axis_size(axis)
    changed = jnp.any(new.hard != old.hard, axis=-1)
    first = jax.lax.pmin(jnp.where(changed, me, none), axis)
    theirs = jax.lax.psum(jnp.where((first == me)[:, None], new.hard, 0), axis)
    cache = jnp.where((first < none)[:, None], theirs, old.hard)
    return State(rows.merge(tx, m, old.rows, new.rows, axis), cache, count)

  return agree


def _ranking(
  score: Score, batch: sampling.Batch, x: Array, *dense: Array
) -> tuple[Array, Array, Array]:
  """Mean loss [], distances of the edges [g, s], affinities to the negatives [g, s, k]."""
  u, v, neg = sampling.split(score.lift(x), batch)
  d = score.dist(u, v, *dense)
  a = jnp.where(batch.known, 0, score.affinity(u, neg, *dense))
  return ranking.softmax_ranking_affinity(d, a).mean(), d, a
