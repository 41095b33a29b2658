"""Redundancy, isotropy and intrinsic dimension of embeddings [tsukagoshi2025redundancy].

Run:         python launch.py --config=experiments/analysis/redundancy.py:scifact
Cost:        the table shows it.
Departures:  all-MiniLM-L6-v2 on SciFact alone, where the paper has prompted models of up to 4,096
             coordinates on many tasks; MiniLM takes no prompts. Its claim that the first quarter of
             the coordinates loses little is a goal here; that half of them, at random, lose less
             than 10 % is another's [takeshita2025randomly].
Unspecified: how many neighbours the estimators look at; `neighbors` here.

Estimators of dimension, isotropy and rank describe the documents; what a share of the coordinates
keeps is of nDCG@10, in percent of that of the whole vectors; without judgements, of the first ten
that the whole vectors find.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from geoemb import harness
from geoemb.analysis import dimension, isotropy
from geoemb.data import vectors
from geoemb.reduction import linear
from geoemb.retrieval import exact, metrics


@dataclasses.dataclass
class Config:
  """Whose vectors, and how they are looked at."""

  vectors: str = "scifact"  # or twin, or a FILE.npz or .npy; see geoemb/data/vectors.py
  qrels: str = ""  # judgements of a FILE.npz
  neighbors: int = 20  # k of the Levina–Bickel estimator
  draws: int = 5  # of random coordinates
  seed: int = 0


VARIANTS = {"scifact": dict(), "smoke": dict(vectors="twin", neighbors=5, draws=1)}

_DIMENSION = ("two_nn", "levina_bickel", "levina_bickel_harmonic")
_EVEN = ("isoscore", "effective_rank", "mean_cosine", "dead", "dims_90", "dims_99")
_KEPT = tuple(f"{how}_{share}" for how in ("first", "random", "svd") for share in (50, 25, 12))
_GOALS = {"first_25": 95.0, "random_50": 90.0}
TARGETS = (
  *(harness.Target("Intrinsic dimension", "scifact", name) for name in _DIMENSION),
  *(harness.Target("Isotropy and rank", "scifact", name) for name in _EVEN),
  *(harness.Target("What a share of the coordinates keeps, %", "scifact", name, _GOALS.get(name),
                   goal=True) for name in _KEPT),
)  # fmt: skip


def get_config(variant: str = "scifact") -> Config:
  """The vectors of a collection."""
  return Config(**VARIANTS[variant])


@jax.jit
def _shape(x) -> dict[str, jax.Array]:
  """Of vectors [n, d], centred but for the mean cosine."""
  v = isotropy.variances(x)
  explained = jnp.cumsum(v) / jnp.sum(v)
  return {
    "isoscore": isotropy.isoscore(v),
    "effective_rank": isotropy.effective_rank(v),
    "mean_cosine": isotropy.mean_cosine(x),
    "dead": jnp.sum(jnp.ptp(x, axis=0) <= 1e-6 * jnp.max(jnp.abs(x))),
    "dims_90": 1 + jnp.sum(explained < 0.9),
    "dims_99": 1 + jnp.sum(explained < 0.99),
  }


def run(config: Config, workdir: str) -> dict[str, float]:
  """Measures the documents' cloud, and searches with parts of the coordinates."""
  twin = config.vectors == "twin"
  data = vectors.twin() if twin else vectors.documents(config.vectors, config.qrels)
  judged = [i for i, name in enumerate(data.query_ids) if name in data.qrels]
  c, q = _unit(data.c), _unit(data.q[judged] if judged else data.q)

  near = jax.jit(dimension.neighbor_distances, static_argnums=1)(c, config.neighbors)
  near = near[jnp.isfinite(near).all(axis=1)]  # more copies than neighbours
  found = {
    "two_nn": dimension.two_nn(near),
    "levina_bickel": dimension.levina_bickel(near),
    "levina_bickel_harmonic": dimension.levina_bickel(near, harmonic=True),
    **_shape(c),
  }

  search = lambda stored, asked: exact.search(_unit(asked), _unit(stored), min(10, len(c))).ids
  if judged:
    index = metrics.index(data.qrels, [data.query_ids[i] for i in judged], data.doc_ids)
    score = lambda ids: metrics.evaluate_ids(index, ids, ("ndcg@10",))["ndcg@10"].mean()
  else:
    truth = search(c, q)
    score = lambda ids: metrics.overlap(ids, truth).mean()
  quality = lambda stored, asked: score(search(stored, asked))
  whole, d = quality(c, q), c.shape[1]
  rng = np.random.default_rng(config.seed)
  components = linear.pca(c, d, center=False)
  for share in (50, 25, 12):
    k = max(1, d * share // 100)
    svd = components.first(k)
    draws = [rng.choice(d, k, replace=False) for _ in range(config.draws)]
    found |= {
      f"first_{share}": 100 * quality(c[:, :k], q[:, :k]) / whole,
      f"random_{share}": 100 * np.mean([quality(c[:, s], q[:, s]) for s in draws]) / whole,
      f"svd_{share}": 100 * quality(*(np.asarray(svd.transform(x)) for x in (c, q))) / whole,
    }
  for name, value in found.items():
    logging.info("%s %.3f", name, value)
  return {name: float(value) for name, value in found.items()}


def _unit(x: np.ndarray) -> np.ndarray:
  length = np.linalg.norm(x, axis=1, keepdims=True)
  return x / np.where(length > 0, length, 1)
