"""Speed of pairwise distances and of row-sparse Riemannian Adam, beside other libraries.

Run:         python launch.py --config=experiments/benchmarks/geometry_speed.py:pairwise_numpy
Cost:        about two minutes a variant; the machine should have no other work meanwhile.
Departures:  those who are compared work in turns in one process, compiled and warm before the
             first; figures are medians over the turns. XLA and torch have one thread; numpy's
             matrix products take what its BLAS takes. Each has the fastest for it of three sizes of
             block, and hands every block of distances over before the next. Those of the first 512
             points to all are timed; seconds of all to all are multiples of that.
             Distances of numpy are textbook formulas by inner products, in float32 as all of them;
             geoopt and hyperbolix have no distances of many to many, so theirs are broadcast, which
             is how their users get them.
             A step of geoopt is a forward and a backward pass by torch, and its
             SparseRiemannianAdam. All steps get the same rows, drawn beforehand.
             A peer that is not installed (extra "peers") is left out, and so are the ratios to it;
             hyperbolix needs Python 3.12.
             library is the same step with sums by YNNPACK, as XLA has them by default on a CPU.
Unspecified: the points; they lie up to a distance of 2 from the origin.
"""

import dataclasses
import functools
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from geoemb import harness, manifolds
from geoemb.graphs import sampling
from geoemb.harness import cpu
from geoemb.losses import ranking
from geoemb.models import ranked
from geoemb.optim import radam
from geoemb.typing import Array

_CHARTS = manifolds.NAMES
_BLOCKS = (32, 128, 512)


@dataclasses.dataclass
class Config:
  """One comparison."""

  job: str = "pairwise"  # distances of all to all, or step: one of Riemannian Adam
  charts: tuple[str, ...] = _CHARTS
  # Whom to divide by: geoopt; pairwise: numpy, hyperbolix; step: dense, library.
  against: str = "numpy"
  repeats: int = 5  # turns of each, whose median counts
  seconds: float = 0.5  # length of a turn
  n: int = 10_000  # points, or rows of the table
  small: int = 1000  # step: rows of a small table
  dim: int = 16  # coordinates
  batch_size: int = 50  # step: edges
  negatives: int = 50  # step: per edge
  lr: float = 1e-5  # step: so low that the points stay where they are
  threads: int = 1  # of XLA and torch
  seed: int = 0


_STEP = dict(job="step", n=82_115, dim=10, seconds=2.0)
_THEIRS = {  # charts that others have
  "geoopt": ("euclidean", "sphere", "poincare", "lorentz"), "hyperbolix": ("poincare", "lorentz"),
}  # fmt: skip
VARIANTS = {
  "pairwise_numpy": dict(),
  **{f"pairwise_{peer}": dict(against=peer, charts=charts) for peer, charts in _THEIRS.items()},
  **{
    f"step_{chart}_{against}": dict(_STEP, charts=(chart,), against=against)
    for chart in ("poincare", "lorentz")
    for against in ("dense", "geoopt", "library")
  },
  "smoke": dict(n=64, repeats=1, seconds=0.0),
  "smoke_step": dict(_STEP, charts=("poincare",), against="dense")
  | dict(n=2000, small=100, repeats=1, seconds=0.0, batch_size=5, negatives=5),
}

_goal = functools.partial(harness.Target, goal=True)
TARGETS = (
  *(
    _goal("Distances of all to all", f"pairwise_{peer}", chart, note=f"× {peer}'s speed")
    for peer, charts in {"numpy": _CHARTS, **_THEIRS}.items()
    for chart in charts
  ),
  *(
    target
    for chart in ("poincare", "lorentz")
    for variant, target in (
      ("dense", dict(metric="over_small", paper=1.5, better="low",
                     note="× the time with a table of 1,000 rows")),
      ("dense", dict(metric="ratio", note="× the dense step's speed")),
      ("geoopt", dict(metric="ratio", paper=30, note="× geoopt's sparse step's speed")),
      ("geoopt", dict(metric="microseconds")),
      ("library", dict(metric="ratio", note="× the speed with sums by YNNPACK")),
    )
    for target in (_goal("A step of Riemannian Adam", f"step_{chart}_{variant}", **target),)
  ),
)  # fmt: skip

Work = Callable[[int], None]  # does so many units of work, and returns when they are done


def get_config(variant: str = "pairwise_numpy") -> Config:
  """One comparison."""
  return Config(**VARIANTS[variant])


def cpu_threads(config: Config) -> int:
  """Of XLA; for launch.py, before jax is used."""
  return config.threads


def run(config: Config, workdir: str) -> dict[str, float]:
  """Times everyone in turns; logs every figure with its spread, and returns the ratios."""
  del workdir  # nothing is left but the result
  jobs = {"pairwise": _pairwise, "step": _step}
  if config.job not in jobs:
    raise ValueError(f"job must be {' or '.join(jobs)}, got {config.job!r}")
  if unknown := [chart for chart in config.charts if chart not in _CHARTS]:
    raise ValueError(f"charts must be of {', '.join(_CHARTS)}, got {unknown[0]!r}")
  if config.job == "step" and len(config.charts) != 1:
    raise ValueError(f"a step is timed on one chart, got {config.charts}")
  return jobs[config.job](config)


def _is_present(config: Config, known: tuple[str, ...]) -> bool:
  """Whether the peer can be measured here."""
  if config.against not in known:
    raise ValueError(
      f"against must be {' or '.join(known)} where the job is {config.job}, got {config.against!r}"
    )
  if config.against not in ("numpy", "dense", "library") and not importlib.util.find_spec(
    config.against
  ):
    logging.warning(
      "%s is not installed (the extra 'peers'): nothing to compare with", config.against
    )
    return False
  if config.against == "geoopt":
    import torch

    torch.set_num_threads(config.threads)
  return True


def _seconds(work: Work, size: int) -> float:
  begin = time.perf_counter()
  work(size)
  return time.perf_counter() - begin


def _turns(config: Config, works: dict[str, Work]) -> dict[str, list[float]]:
  """Seconds of a unit of everyone's work, by turn."""
  sizes = {}
  for name, work in works.items():
    work(1)  # compiles
    size = 1
    while (took := _seconds(work, size)) < config.seconds / 4:
      size *= 4
    sizes[name] = max(1, round(size * config.seconds / took))
  rounds = [
    {name: _seconds(work, sizes[name]) / sizes[name] for name, work in works.items()}
    for _ in range(config.repeats)
  ]
  return {name: [r[name] for r in rounds] for name in works}


def _ratio(what: str, a: list[float], b: list[float]) -> float:
  """Median of b/a over the turns."""
  ratios = [y / x for x, y in zip(a, b)]
  logging.info("%s: %.4g× (%.4g–%.4g)", what, statistics.median(ratios), min(ratios), max(ratios))
  return statistics.median(ratios)


# Distances of all to all.


def _pairwise(config: Config) -> dict[str, float]:
  libraries = {"numpy": _numpy, "geoopt": _geoopt_pairwise, "hyperbolix": _hyperbolix}
  present, metrics = _is_present(config, tuple(libraries)), {}
  for chart in config.charts:
    x, y = _points(config, chart)
    mine = jax.jit(manifolds.make(chart).pairwise), jnp.asarray(x), jnp.asarray(y)
    works = {"ours": _fastest(config, *mine)}
    if present:
      dist, *points = theirs = libraries[config.against](chart, x, y)
      near = lambda dist, x, y: np.asarray(dist(x[:32], y))
      if (off := np.max(np.abs(near(dist, *points) - near(*mine)))) > 0.02:
        raise harness.Abort(
          f"distances of {config.against} differ from ours on {chart} by {off:.2g}"
        )
      works["theirs"] = _fastest(config, *theirs)
    took = _turns(config, works)
    share = _first(config) / config.n
    metrics[f"{chart}_seconds"] = statistics.median(took["ours"]) / share
    logging.info("%s: %.3g s", chart, metrics[f"{chart}_seconds"])
    if present:
      metrics[chart] = _ratio(f"{chart}, {config.against}", took["ours"], took["theirs"])
  return metrics


def _points(config: Config, chart: str) -> tuple[np.ndarray, np.ndarray]:
  """Two clouds of n points up to a distance of 2 from the origin, [n, ·] float32 each."""

  @jax.jit
  def draw(key: Array) -> Array:
    m = manifolds.make(chart)
    key_v, key_r = jax.random.split(key)
    x = m.origin((2, config.n), config.dim)
    v = m.tangent(x, jax.random.normal(key_v, x.shape, x.dtype))
    if chart == "horospherical":  # the last parts of a position are remainders of its first
      v = v.at[..., config.dim :].set(0)
    r = jax.random.uniform(key_r, (2, config.n), x.dtype, maxval=2)
    return m.exp(x, v * (r / m.norm(x, v))[..., None])

  x, y = np.asarray(draw(jax.random.key(config.seed)))
  return x, y


def _fastest(config: Config, dist: Callable, x: Any, y: Any) -> Work:
  """Distances of the first points to all by blocks of the size that suits `dist` best."""

  def blocks(size: int) -> Work:
    def work(times: int) -> None:
      for _ in range(times):
        for i in range(0, _first(config), size):
          jax.block_until_ready(dist(x[i : i + size], y))

    return work

  works = {size: blocks(size) for size in _BLOCKS}
  for work in works.values():
    work(1)  # compiles
  return works[min(works, key=lambda size: _seconds(works[size], 1))]


def _first(config: Config) -> int:
  """So many points are measured to all: as many as the largest block has."""
  return min(config.n, max(_BLOCKS))


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  xx, yy = np.sum(x * x, axis=-1), np.sum(y * y, axis=-1)
  return np.maximum(xx[:, None] + yy - 2 * (x @ y.T), 0)


def _alpha(x: np.ndarray) -> np.ndarray:
  return 1 - np.sum(x * x, axis=-1)


def _ball(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return np.arccosh(1 + 2 * _square(x, y) / (_alpha(x)[:, None] * _alpha(y)))


def _sheet(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  t_x, t_y = (np.sqrt(1 + np.sum(z * z, axis=-1)) for z in (x, y))
  return np.arccosh(np.maximum(t_x[:, None] * t_y - x @ y.T, 1))


def _klein(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  cosh = (1 - x @ y.T) / np.sqrt(_alpha(x)[:, None] * _alpha(y))
  return np.arccosh(np.maximum(cosh, 1))


def _halfspace(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return np.arccosh(1 + _square(x, y) / (2 * x[:, -1:] * y[:, -1]))


def _horospherical(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  n = (x.shape[-1] - 1) // 3
  flat = lambda x: np.concatenate([x[:, 1 : 1 + n], np.exp(x[:, :1])], axis=-1)
  return _halfspace(flat(x), flat(y))


_NUMPY = {
  "euclidean": lambda x, y: np.sqrt(_square(x, y)),
  "sphere": lambda x, y: np.arccos(np.clip(x @ y.T, -1, 1)),
  "poincare": _ball, "stereographic": _ball, "lorentz": _sheet, "klein": _klein,
  "halfspace": _halfspace, "horospherical": _horospherical,
}  # fmt: skip


def _ambient(x: np.ndarray) -> np.ndarray:
  """Time first, [n, d + 1]."""
  return np.concatenate([np.sqrt(1 + np.sum(x * x, axis=-1, keepdims=True)), x], axis=-1)


# A peer: (chart, x, y) → distances of a block [b, ·] to all points [n, ·], and its own x and y.


def _numpy(chart: str, x: np.ndarray, y: np.ndarray) -> tuple:
  return _NUMPY[chart], x, y


def _geoopt_manifold(chart: str) -> Any:
  import geoopt

  makers = {
    "euclidean": functools.partial(geoopt.Euclidean, ndim=1), "sphere": geoopt.Sphere,
    "poincare": geoopt.PoincareBall, "lorentz": geoopt.Lorentz,
  }  # fmt: skip
  if chart not in makers:
    raise ValueError(f"geoopt has {', '.join(makers)}, got {chart!r}")
  return makers[chart]()


def _geoopt_pairwise(chart: str, x: np.ndarray, y: np.ndarray) -> tuple:
  import torch

  m = _geoopt_manifold(chart)
  x, y = map(torch.tensor, (_ambient(x), _ambient(y)) if chart == "lorentz" else (x, y))
  return lambda x, y: m.dist(x[:, None], y[None]), x, y


def _hyperbolix(chart: str, x: np.ndarray, y: np.ndarray) -> tuple:
  import hyperbolix.manifolds

  names = {"poincare": "Poincare", "lorentz": "Hyperboloid"}
  if chart not in names:
    raise ValueError(f"hyperbolix has {', '.join(names)}, got {chart!r}")
  m = getattr(hyperbolix.manifolds, names[chart])(dtype=jnp.float32)
  one = lambda x, y: m.dist(x, y, c=1.0)
  x, y = map(jnp.asarray, (_ambient(x), _ambient(y)) if chart == "lorentz" else (x, y))
  return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None))), x, y


# A step of Riemannian Adam.


def _step(config: Config) -> dict[str, float]:
  peers = {"dense": _dense, "geoopt": _geoopt, "library": _library}
  present, (chart,) = _is_present(config, tuple(peers)), config.charts
  works = {"ours": _ours(config, chart, config.n), "small": _ours(config, chart, config.small)}
  if present:
    works["theirs"] = peers[config.against](config, chart)
  took = _turns(config, works)
  micro = 1e6 * statistics.median(took["ours"])
  logging.info("%s, %d rows: %.4g µs a step", chart, config.n, micro)
  metrics = {"microseconds": micro, "over_small": _ratio("small", took["small"], took["ours"])}
  if present:
    metrics["ratio"] = _ratio(config.against, took["ours"], took["theirs"])
  return metrics


def _table(config: Config, chart: str, n: int) -> Array:
  return jnp.asarray(_points(dataclasses.replace(config, n=n), chart)[0])


def _ids(config: Config, n: int) -> np.ndarray:
  """Rows of 64 batches, [64, b (2 + k)] int32: sources, targets, negatives."""
  rng = np.random.default_rng(config.seed)
  return rng.integers(n, size=(64, config.batch_size * (2 + config.negatives)), dtype=np.int32)


def _batch(config: Config, ids: Array) -> sampling.Batch:
  b, k = config.batch_size, config.negatives
  return sampling.Batch(
    ids[:b], ids[b : 2 * b], ids[2 * b :].reshape(b, k), jnp.zeros((b, 1, k), bool)
  )


def _looped(
  config: Config, step: Callable, state: Any, n: int, options: dict[str, str] | None = None
) -> Work:
  """Steps in one compiled loop, as harness.fit has them."""
  ids = jnp.asarray(_ids(config, n))
  one = lambda t, state: step(state, _batch(config, ids[t % 64]))
  options = cpu.compiler_options() if options is None else options
  run = lambda state, k: jax.lax.fori_loop(0, k, one, state)
  loop = jax.jit(run, donate_argnums=0, compiler_options=options)

  def work(steps: int) -> None:
    nonlocal state
    state = jax.block_until_ready(loop(state, steps))

  return work


def _ours(config: Config, chart: str, n: int, options: dict[str, str] | None = None) -> Work:
  m, score = ranked.model(chart, 1.0)
  tx = radam.radam(config.lr, m)
  step = ranked.step(tx, score)
  state = ranked.init(tx, _table(config, chart, n))
  return _looped(config, lambda s, b: step(s, b)[0], state, n, options)


def _library(config: Config, chart: str) -> Work:
  """Our step as XLA compiles it by default, for whom launch.py has set it otherwise too."""
  return _ours(config, chart, config.n, {cpu.LIBRARY: "LIBRARY_FUSION_TYPE_REDUCE"})


def _dense(config: Config, chart: str) -> Work:
  """The same loss, and a step of every row."""
  m, score = ranked.model(chart, 1.0)
  tx = radam.radam(config.lr, m)

  def step(state: tuple, batch: sampling.Batch) -> tuple:
    x, opt = state

    def loss(x: Array) -> Array:
      u, v, neg = sampling.split(score.lift(x[batch.ids]), batch)
      return ranking.softmax_ranking_affinity(score.dist(u, v), score.affinity(u, neg)).mean()

    updates, opt = tx.update(jax.grad(loss)(x), opt, x)
    return optax.apply_updates(x, updates), opt

  x = _table(config, chart, config.n)
  return _looped(config, step, (x, tx.init(x)), config.n)


def _geoopt(config: Config, chart: str) -> Work:
  """An embedding with sparse gradients, and the optimizer for these."""
  import geoopt
  import torch

  m = _geoopt_manifold(chart)
  x = np.asarray(_table(config, chart, config.n))
  x = torch.tensor(_ambient(x) if chart == "lorentz" else x)
  table = torch.nn.Embedding(*x.shape, sparse=True)
  table.weight = geoopt.ManifoldParameter(x, manifold=m)
  optimizer = geoopt.optim.SparseRiemannianAdam(table.parameters(), lr=config.lr)
  ids, b = torch.tensor(_ids(config, config.n), dtype=torch.int64), config.batch_size
  t = 0

  def work(steps: int) -> None:
    nonlocal t
    for _ in range(steps):
      rows = table(ids[t % 64])
      u, v, neg = rows[:b], rows[b : 2 * b], rows[2 * b :].reshape(b, config.negatives, -1)
      d, d_neg = m.dist(u, v), m.dist(u[:, None], neg)
      loss = (d + torch.logsumexp(torch.cat([-d[:, None], -d_neg], dim=-1), dim=-1)).mean()
      optimizer.zero_grad()
      loss.backward()
      optimizer.step()
      t += 1

  return work
