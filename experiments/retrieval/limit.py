"""How many numbers relevance judgments need [weller2025limit]: bounds, free embeddings, density.

Run:         python launch.py --config=experiments/retrieval/limit.py --config.qrels=FILE
Cost:        a minute on two CPU cores for LIMIT's 1000 queries; it grows with queries × documents.
Departures:  `qrels` may be any file of TREC, BEIR or JSON lines. Queries with the same relevant
             documents count once in the fits, as do documents of the same queries, for they may
             share a vector. LIMIT's judgments are the first 1000 of all pairs of 46 documents.
             dim_radon and dim_arcs are our own bounds, which the paper lacks: where they agree, the
             dimension is known. dim_free is what Adam with the paper's loss needs.
Unspecified: the graph in the paper's density is that of queries, against its text, as only that
             gives its figures.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import logging
from matplotlib import figure

from geoemb import harness
from geoemb.data import paths
from geoemb.data import qrels as judgments
from geoemb.retrieval import free_embedding, sign_rank
from geoemb.typing import Array, Key

_LARGEST = 1 << 26  # entries of the matrix of different queries by documents


@dataclasses.dataclass
class Config:
  """Judgments, and how long to try."""

  qrels: str = "limit"  # or scifact, or a file: TREC, BEIR or JSON lines
  queries: int = 0  # only the first so many; 0 for all
  others: bool = False  # the corpus has documents too that no query asks for
  margin: float = 0.1  # of dim_margin, on unit vectors
  most: int = 64  # largest dimension tried
  temperature: float = 0.1
  lr: float = 0.01
  steps: int = 100_000  # at most
  patience: int = 1000  # steps without a loss lower by 1e-5
  seed: int = 0


VARIANTS = {
  "limit": dict(),
  "scifact": dict(qrels="scifact"),
  "smoke": dict(queries=10, steps=500),
}
TARGETS = (
  *(
    harness.Target("Table 2", variant, metric, value, tol=tol)
    for variant, values in (("limit", (0.085481, 28.4653)), ("scifact", (0.001449, 0.4222)))
    for metric, value, tol in zip(("graph_density", "query_strength"), values, (5e-7, 5e-5))
  ),
  harness.Target("Dimensions", "limit", "dim_free", 12, better="low", note="least d in Table 6"),
  *(
    harness.Target("Dimensions", variant, metric)
    for variant in ("limit", "scifact")
    for metric in ("dim_radon", "dim_forster", "dim_margin", "dim_arcs")
  ),
  harness.Target("Dimensions", "scifact", "dim_free"),
)


def get_config(variant: str = "limit") -> Config:
  """LIMIT's judgments, or SciFact's."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Returns bounds, the least dimension that fits, and density; draws what each d reached."""
  if config.most < 1 or config.queries < 0:
    raise ValueError(
      f"most must be positive and queries not negative, got {config.most} and {config.queries}"
    )
  if not config.temperature > 0 or not config.lr > 0 or config.steps < 1:
    raise ValueError(
      f"temperature, lr and steps must be positive, got {config.temperature}, {config.lr} and "
      f"{config.steps}"
    )
  os.makedirs(workdir, exist_ok=True)
  relevant = _matrix(_load(config), config)
  rows = _distinct(relevant, config)
  density, arcs = sign_rank.density(relevant), sign_rank.arcs(rows)
  bounds = {
    "dim_radon": sign_rank.radon(rows),
    "dim_forster": sign_rank.forster(rows) - 1,
    "dim_margin": sign_rank.by_margin(rows, config.margin),
    "dim_arcs": arcs.dim,
  }
  least = bounds["dim_radon"]
  logging.info(
    "%d queries, %d documents: inner products need %d numbers at least, and %d are enough",
    *relevant.shape, least, arcs.dim,
  )  # fmt: skip
  if config.most < least:
    raise ValueError(f"most must be {least} or more, which these judgments need; got {config.most}")
  shares = _shares(config, rows, least, workdir)
  _draw(config, shares, bounds, os.path.join(workdir, "dimension"))
  enough = [d for d, share in shares.items() if share == 1]
  if not enough:
    best = max(shares, key=shares.get)
    raise harness.Abort(
      f"no dimension up to {max(shares)} ranked all queries rightly (d = {best} did "
      f"{shares[best]:.4f} of them); try a larger --config.most or --config.steps"
    )
  return {
    **bounds,
    "dim_free": min(enough),
    "graph_density": density.graph,
    "query_strength": density.strength,
    "queries": relevant.shape[0],
    "documents": relevant.shape[1],
    "most_relevant": int(relevant.sum(axis=1).max()),
  }


def _load(config: Config) -> dict[str, dict[str, int]]:
  if config.qrels == "limit":
    pairs = itertools.islice(itertools.combinations(range(46), 2), 1000)
    return {str(i): dict.fromkeys(map(str, pair), 1) for i, pair in enumerate(pairs)}
  if config.qrels == "scifact":
    path = os.path.join(paths.root(), "scifact", "qrels", "test.tsv")
    if not os.path.exists(path):
      raise FileNotFoundError(f"{path} not found: put BEIR's SciFact there, or name its folder's")
    return judgments.read(path)
  return judgments.read(config.qrels)


def _matrix(found: dict[str, dict[str, int]], config: Config) -> scipy.sparse.csr_matrix:
  """Relevant documents, [queries, documents] of 0 and 1; queries without any are left out."""
  sets = [[d for d, grade in row.items() if grade > 0] for row in found.values()]
  kept = [row for row in sets if row]
  if not kept:
    raise ValueError(f"{config.qrels} has no relevant document: no grade is above 0")
  if len(sets) > len(kept):
    logging.warning("%d of %d queries have no relevant document", len(sets) - len(kept), len(sets))
  kept = kept[: config.queries or None]
  ids = {d: i for i, d in enumerate(dict.fromkeys(itertools.chain.from_iterable(kept)))}
  columns = np.array([ids[d] for row in kept for d in row])
  begins = np.cumsum([0, *map(len, kept)])
  ones = np.ones(len(columns))
  return scipy.sparse.csr_matrix((ones, columns, begins), shape=(len(kept), len(ids)))


def _distinct(relevant: scipy.sparse.csr_matrix, config: Config) -> np.ndarray:
  """Different rows and columns, [m, n] bool, and a column of zeros for all other documents."""
  m, n = relevant.shape
  if m * n > _LARGEST:
    raise ValueError(
      f"{config.qrels} has {m} queries by {n} documents, and they are fitted all at once: at most "
      f"{_LARGEST} pairs; try --config.queries={_LARGEST // n}"
    )
  rows = np.unique(relevant.toarray().astype(bool), axis=0)
  columns = np.unique(rows, axis=1)
  return np.pad(columns, ((0, 0), (0, int(config.others))))


def _shares(config: Config, rows: np.ndarray, least: int, workdir: str) -> dict[int, float]:
  """The share of queries that free embeddings ranked rightly, by the dimensions tried."""
  labels = jnp.where(rows, 1, -1).astype(jnp.int8)
  program, shares, begin = _program(config), {}, time.monotonic()
  writer = harness.Writer(workdir)

  def solved(d: int) -> bool:
    width = -(-d // 8) * 8  # so that one program serves several d
    fit = pool.submit(program, jax.random.key(config.seed), width, jnp.int32(d), labels)
    share, steps, loss = jax.device_get(fit.result())
    shares[d] = float(share)
    logging.info("d = %d: %.4f of the queries right after %d steps", d, share, steps)
    seconds = round(time.monotonic() - begin, 3)
    writer.write(len(shares), d=d, solved=share, steps=steps, loss=loss, seconds=seconds)
    return shares[d] == 1

  # In a thread, as the main one has to be free to answer a signal.
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    free_embedding.critical(lambda d: not solved(d), least, least=least, most=config.most)
  writer.close()
  return dict(sorted(shares.items()))


def _program(config: Config) -> Callable:
  """One fit, (key, width, d, labels) → what `fit` returns but for the parameters."""
  objective = free_embedding.infonce(config.temperature)
  options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}

  @functools.partial(jax.jit, static_argnums=1, compiler_options=options)
  def program(key: Key, width: int, d: Array, labels: Array) -> tuple[Array, Array, Array]:
    model = free_embedding.narrowed(free_embedding.unit(width, config.lr), d)
    fit = free_embedding.fit(
      key, model, objective, labels, steps=config.steps, patience=config.patience
    )
    return fit.solved, fit.steps, fit.loss

  return program


def _draw(config: Config, shares: dict[int, float], bounds: dict[str, float], stem: str) -> None:
  """Share of right queries against d, with the bounds."""
  fig = figure.Figure(figsize=(6, 3.6), dpi=150, layout="constrained")
  ax = fig.subplots()
  ax.plot(list(shares), list(shares.values()), "o-", label="free embeddings")
  ax.axvline(bounds["dim_radon"], color="C1", ls="--", label="lower bound (Radon)")
  ax.axvline(bounds["dim_arcs"], color="C2", ls=":", lw=2, label="upper bound (arcs)")
  ax.set(xlabel="d, numbers a document", ylabel="share of queries ranked rightly")
  ax.set_title(os.path.basename(config.qrels))
  ax.legend(frameon=False)
  for kind in ("png", "svg"):
    fig.savefig(f"{stem}.{kind}")
