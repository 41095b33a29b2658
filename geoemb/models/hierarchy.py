"""The run around a ranked embedding of a hierarchy: its edges, batches, evaluation and files.

What an experiment decides (geometry, optimizer, first table) it passes in; the fields of its config
that are read here are those of `Settings`.
"""

import math
import os
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from geoemb import harness
from geoemb.analysis import disk
from geoemb.data import edge_list, splits, tree, wordnet
from geoemb.data.hierarchy import Hierarchy, reduce
from geoemb.graphs import sampling
from geoemb.harness import replicas
from geoemb.manifolds import Manifold
from geoemb.models import ranked
from geoemb.optim import schedules
from geoemb.retrieval import ranks
from geoemb.tables import embedding
from geoemb.typing import Array

_MIN_STEPS = 20  # a pass, at least
_CURVE_SOURCES = 1000  # ranked exactly for the training curve; the result ranks all

_STARTS = {"ancestral": ranked.ancestral, "caps": ranked.nested}  # init's, beside uniform


class Settings(Protocol):
  """Fields of an experiment's config; see the experiments for what they mean."""

  data: str
  edges: str
  closure: bool
  predict: bool
  manifold: str
  dim: int
  dtype: str
  lr: float
  lr_batch: int
  lr_end: float
  epochs: float
  burn_in: float
  burn_in_lr: float
  burn_in_negatives: float
  dampening: float
  batch_size: int
  negatives: int
  negatives_shared: int
  init: str
  init_scale: float
  hard_negatives: int
  hard_weight: float
  hard_from: float
  replicas: int
  local_steps: int
  word2vec: bool
  seed: int


def load(config: Settings) -> Hierarchy:
  """The hierarchy that a config names: a file of edges, a subset of WordNet, or a small tree."""
  if config.edges:
    return edge_list.read(config.edges, closure=config.closure)
  return tree.balanced(3, 4) if config.data == "tree" else wordnet.load(config.data)


def cpu_threads(config: Settings) -> int | None:
  """One thread of XLA's for small steps, whose operations are too short to hand around."""
  return 1 if config.batch_size <= 512 else None


def cpu_devices(config: Settings) -> int:
  """One a replica."""
  return config.replicas


def run(
  config: Settings,
  workdir: str,
  *,
  m: Manifold,
  score: ranked.Score,
  optimizer: Callable[[optax.Schedule], optax.GradientTransformation],
) -> dict[str, float]:
  """Trains, evaluates, writes the embedding and its picture; returns the metrics.

  Args:
    config: the experiment's.
    workdir: where everything goes.
    m: manifold of the table.
    score: what near means.
    optimizer: schedule → transformation of (rows, dense).

  Returns:
    mean_rank and map of the reconstruction; with `predict` those of the held-out edges instead.

  Raises:
    ValueError: a setting that makes no sense.
  """
  sizes = {name: getattr(config, name) for name in ("dim", "batch_size", "lr_batch")}
  for name, value in (sizes | {"c": m.c}).items():
    if not value > 0:
      raise ValueError(f"{name} must be positive, got {value}")
  for name in ("epochs", "burn_in"):
    if not getattr(config, name) >= 0:
      raise ValueError(f"{name} must be at least 0, got {getattr(config, name)}")
  if config.hard_weight and config.hard_negatives < 1:
    raise ValueError(
      f"hard_weight needs hard_negatives of at least 1, got {config.hard_negatives}; "
      "a weight of 0 trains without"
    )
  if config.dtype not in ("float32", "float64"):
    raise ValueError(f"dtype must be float32 or float64, got {config.dtype!r}")
  if config.init not in ("uniform", *_STARTS):
    raise ValueError(f"init must be uniform or {' or '.join(_STARTS)}, got {config.init!r}")
  graph = load(config)
  n = len(graph.names)
  held_out = splits.link_prediction(graph) if config.predict else None
  edges = held_out.train if held_out else graph.edges
  # Small graphs get small batches: a pass of few steps learns little.
  batch = max(1, min(config.batch_size, len(edges) // _MIN_STEPS))
  shared = config.negatives_shared if batch == config.batch_size else batch
  per_epoch = len(edges) // batch
  steps, burn_in = (round(e * per_epoch) for e in (config.epochs, config.burn_in))
  logging.info("%d nodes, %d edges; %d steps of %d pairs", n, len(edges), steps, batch)

  schedule = schedules.burn_in(
    config.lr * batch / config.lr_batch,
    steps=steps, burn_in_steps=burn_in, factor=config.burn_in_lr, end=config.lr_end,
  )  # fmt: skip
  tx = optimizer(schedule)
  sample = sampling.ranked_edges(
    edges, n, batch_size=batch, negatives=config.negatives, shared=shared, burn_in_steps=burn_in,
    burn_in_negatives=max(1, round(config.negatives * config.burn_in_negatives)),
    dampening=config.dampening,
  )  # fmt: skip
  take = ranked.step(
    tx, score, hard_weight=config.hard_weight, hard_from=round(config.hard_from * per_epoch)
  )
  key_init, key_train = jax.random.split(jax.random.key(config.seed))
  state = ranked.init(
    tx, *_first(config, key_init, m, edges, n), hard_negatives=config.hard_negatives
  )

  # A fixed sample of sources, apart from the run's own randomness: curves of runs compare.
  have = np.unique(edges[:, 0])
  some = np.random.default_rng(0).permutation(have)[:_CURVE_SOURCES]

  def evaluate(state: ranked.State) -> dict[str, float]:
    r = _ranks(m, state, edges, sources=some)
    table = state.rows.table
    at_the_cap = int(jnp.sum(m.saturated(table)))
    return {"mean_rank": r.mean_rank, "map": r.map, "radius": _radius(m, table),
            "saturated": at_the_cap}  # fmt: skip

  if config.replicas != 1:
    take, sample, state, per_round = _side_by_side(config, m, tx, take, sample, state, per_epoch)
    # A run of no steps stays one; the last round is a whole one.
    steps, batch = math.ceil(steps / per_round), batch * per_round
  fit = harness.fit(
    take, sample, state, key_train, steps=steps, workdir=workdir, items_per_step=batch,
    evaluate=evaluate, eval_every=max(1, steps // 20),
  )  # fmt: skip
  return _finish(config, workdir, graph, m, fit.state, held_out)


def _side_by_side(
  config: Settings,
  m: Manifold,
  tx: optax.GradientTransformation,
  take: Callable,
  sample: Callable,
  state: ranked.State,
  per_epoch: int,
) -> tuple[Callable, Callable, ranked.State, int]:
  """Step, sample and state of rounds of local steps, and how many steps a round has."""
  mesh = replicas.mesh(config.replicas)
  # Replicas that did not agree for a pass would each have learned all of a small graph.
  most = max(1, per_epoch // (2 * config.replicas))
  local_steps = min(config.local_steps, most)
  logging.info("%d replicas agree after %d steps each", config.replicas, local_steps)
  take, sample = replicas.local_steps(
    take, sample, ranked.merge(tx, m), mesh=mesh, steps=local_steps
  )
  return take, sample, replicas.place(state, mesh), config.replicas * local_steps


def _first(config: Settings, key: Array, m: Manifold, edges: np.ndarray, n: int) -> tuple:
  """The first table and, for the translational model, its offset r = 0."""
  dtype, dim, scale = jnp.dtype(config.dtype), config.dim, config.init_scale
  if config.init == "uniform":
    table = m.random(key, (n,), dim, scale=scale, dtype=dtype)
  else:
    table = _STARTS[config.init](key, m, edges, n, dim, scale=scale, dtype=dtype)
  return (table, jnp.zeros(dim, dtype)) if config.manifold == "translational" else (table,)


def _queries(state: ranked.State) -> np.ndarray | None:
  """Where sources stand, if not at their rows."""
  if not state.rows.dense:
    return None
  return np.asarray(state.rows.table) + np.asarray(state.rows.dense[0])


def _ranks(m: Manifold, state: ranked.State, edges: np.ndarray, **kwargs) -> ranks.Ranks:
  return ranks.reconstruction(m, state.rows.table, edges, queries=_queries(state), **kwargs)


def _radius(m: Manifold, table: Array) -> float:
  """Median distance of the rows from the origin."""
  return float(jnp.median(m.dist(table, jnp.zeros_like(table))))


def _finish(
  config: Settings,
  workdir: str,
  graph: Hierarchy,
  m: Manifold,
  state: ranked.State,
  held_out: splits.Split | None,
) -> dict[str, float]:
  points = embedding.Embedding(graph.names, np.asarray(state.rows.table), m.name, float(m.c))
  points.save(workdir, word2vec=config.word2vec)
  logging.info("ranking all nodes from every source")
  if held_out:
    known = np.concatenate([held_out.train, held_out.valid])
    r = ranks.link_prediction(m, state.rows.table, held_out.test, known, queries=_queries(state))
    metrics = {"link_mean_rank": r.mean_rank, "link_map": r.map}
  else:
    r = _ranks(m, state, graph.edges)
    metrics = {"mean_rank": r.mean_rank, "map": r.map}
  closed = config.closure or not config.edges
  direct = reduce(graph.edges, len(graph.names)) if closed else graph.edges
  what = os.path.basename(config.edges) or {"tree": "A tree"}.get(config.data)
  title = f"{what or f'WordNet {config.data}s'}, d = {config.dim}"
  picture = disk.draw(m, state.rows.table, graph.names, direct, title=title, metrics=metrics)
  disk.save(picture, os.path.join(workdir, "disk"))
  return metrics
