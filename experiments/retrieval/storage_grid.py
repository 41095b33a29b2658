"""Embeddings in fewer bytes: reducers, dimensions and number formats [huerga2025storage].

Run:         python launch.py --config=experiments/retrieval/storage_grid.py:grid
Cost:        4 reducers × 8 dimensions × 9 formats: the table shows the grid's seconds. The row of a
             linear reducer takes seconds, that of one that is trained minutes.
Departures:  one encoder, all-MiniLM-L6-v2, and two tasks, SciFact and the STS Benchmark, where the
             paper averages over MTEB's retrieval tasks with two encoders. Principal components come
             with and without the mean (svd). What is reduced is normalised again before it is
             stored. TLDR, the Matryoshka adaptor and the heads are trained as their modules say, by
             Adam, for `steps`, on the documents' ten nearest others.
Unspecified: goals of SciFact and of the STS Benchmark are figures measured earlier with other code;
             that of random is one draw.

Own vectors: --config.vectors=FILE.npz --config.qrels=FILE, see geoemb/data/vectors.py. Without
judgements the overlap of the first ten with those of the whole vectors counts.
A choice:    --config.budget_bytes=48 --config.max_loss=1.0 logs the best way to store.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from matplotlib import figure
from scipy import stats

from geoemb import harness, manifolds
from geoemb.data import files, paths, stsb, vectors
from geoemb.models import sentence_encoder
from geoemb.reduction import autoencoder, head, linear, matryoshka, mpad, peers, tldr
from geoemb.retrieval import codecs, exact, metrics
from geoemb.typing import Array, Key


@dataclasses.dataclass
class Config:
  """Which reducers, dimensions and formats are combined, on which vectors."""

  vectors: str = "scifact"  # or stsb, twin, twin_pairs, a file: see geoemb/data/vectors.py
  qrels: str = ""  # judgements of a FILE.npz of documents
  reducers: tuple[str, ...] = ("svd",)  # names of REDUCERS
  dims: tuple[int, ...] = (256, 192, 128, 64, 32, 16, 8)  # 0 is all coordinates
  codecs: tuple[str, ...] = ("float32",)  # see geoemb/retrieval/codecs.py
  queries: str = "coded"  # as documents are, or float
  similarity: str = "dot"  # of what is decoded, or cosine
  calibration: str = "documents"  # ranges and codebooks are theirs, or of the queries not judged
  fit: str = "fit"  # of pairs: reducers are fitted on the file's vectors to fit on, or on the pairs
  steps: int = 500  # of training, for reducers that are trained
  neighbors: int = 10  # per document, for reducers that look at them
  budget_bytes: int = 0  # a vector may take; 0 is any number
  max_loss: float = 1.0  # points of quality a choice may lose
  seed: int = 0


class Fitting(NamedTuple):
  """What a reducer may be fitted on."""

  x: Array  # [n, d] float32
  neighbors: Array | None  # [n, k] ids of their nearest others
  key: Key


# By what they are fitted on, coordinates, steps of training. Those of NESTED are fitted once, for
# the most coordinates.
REDUCERS: dict[str, Callable] = {
  "none": lambda f, dim, steps: linear.truncation(f.x, f.x.shape[1]),
  "truncation": lambda f, dim, steps: linear.truncation(f.x, dim),
  "pca": lambda f, dim, steps: linear.pca(f.x, dim),
  "svd": lambda f, dim, steps: linear.pca(f.x, dim, center=False),
  "whitened": lambda f, dim, steps: linear.pca(f.x, dim, whiten=True),
  "all_but_the_top": lambda f, dim, steps: linear.pca(f.x, dim, skip=3),
  "random": lambda f, dim, steps: linear.random_projection(f.x, dim, key=f.key),
  "kernel_pca": lambda f, dim, steps: peers.kernel_pca(f.x, dim, key=f.key),
  "umap": lambda f, dim, steps: peers.umap(f.x, dim, key=f.key),
  "mpad": lambda f, dim, steps: mpad.fit(f.x, dim, key=f.key),
  "mpad_largest": lambda f, dim, steps: mpad.fit(f.x, dim, key=f.key, share=0.01, largest=True),
  "tldr": lambda f, dim, steps: _tldr(f, dim, steps),
  "tldr_mlp": lambda f, dim, steps: _tldr(f, dim, steps, hidden=512),
  "autoencoder": lambda f, dim, steps: autoencoder.fit(f.x, dim, key=f.key, steps=steps),
  "matryoshka": lambda f, dim, steps: matryoshka.fit(
    f.x, dim, key=f.key, neighbors=f.neighbors, steps=steps
  ),
  "hyperbolic_head": lambda f, dim, steps: _head("poincare", f, dim, steps),
  "flat_head": lambda f, dim, steps: _head("euclidean", f, dim, steps),
}
NESTED = {"truncation", "pca", "svd", "whitened", "all_but_the_top", "mpad", "mpad_largest"}
NESTED |= {"matryoshka"}
_LOOKING = {"tldr", "tldr_mlp", "matryoshka", "hyperbolic_head", "flat_head"}  # at neighbours
_PEERS = {"kernel_pca", "umap"}  # not jax

_FORMATS = (
  "float32", "float16", "bfloat16", "float8_e4m3", "scaled_float8_e4m3", "float8_e5m2",
  "scaled_float4_e2m1", "float4_e2m1", "int8", "int8_codes", "int8_wrapped", "binary", "binary01",
)  # fmt: skip
_WHOLE = dict(reducers=("none",), dims=(0,), codecs=_FORMATS)
_HALF = dict(reducers=("svd",), dims=(192,), codecs=_FORMATS)
_TRAINED = ("tldr", "tldr_mlp", "autoencoder", "matryoshka", "hyperbolic_head", "flat_head")
_LINEAR = ("truncation", "pca", "svd", "whitened", "all_but_the_top", "random")
_STS = dict(vectors="stsb", dims=(256, 128, 64, 32, 16, 8))

VARIANTS = {
  "grid": dict(
    reducers=("truncation", "pca", "svd", "random"),
    dims=(0, 256, 192, 128, 64, 32, 16, 8),
    codecs=(
      "float32", "float16", "scaled_float8_e4m3", "float8_e5m2", "scaled_float4_e2m1", "int8",
      "int8_codes", "binary", "binary01",
    ),
  ),
  **{name: dict(reducers=(name,)) for name in _LINEAR},
  **{name: dict(reducers=(name,), dims=(64, 32), steps=300) for name in _TRAINED},
  **{name: dict(reducers=(name,), dims=(32, 16, 8)) for name in ("mpad", "mpad_largest")},
  "kernel_pca": dict(reducers=("kernel_pca",), dims=(64, 32)),
  "umap": dict(reducers=("umap",), dims=(64, 32)),
  "codes": _WHOLE,
  "codes_cosine": dict(_WHOLE, similarity="cosine"),
  "codes_documents": dict(_WHOLE, queries="float"),
  "codes_foreign": dict(_WHOLE, similarity="cosine", calibration="queries"),
  "codes_192": _HALF,
  "codes_192_documents": dict(_HALF, queries="float"),
  **{
    name: dict(reducers=("none",), dims=(0,), codecs=(name,), queries="float")
    for name in ("pq96", "pq48", "rabitq")
  },
  **{f"sts_{name}": dict(_STS, reducers=(name,)) for name in ("truncation", "pca", "svd")},
  "sts_pca_on_test": dict(_STS, reducers=("pca",), fit="pairs"),
  "smoke": dict(vectors="twin", dims=(256, 192, 128, 64, 32, 16, 8)),
  "smoke_codes": dict(_WHOLE, vectors="twin"),
  "smoke_one": dict(vectors="twin", reducers=("none",), dims=(0,), codecs=("binary",)),
  "smoke_pairs": dict(_STS, vectors="twin_pairs"),
  "smoke_grid": dict(
    vectors="twin", reducers=("svd", "flat_head"), dims=(2,),
    codecs=("float32", "binary"), steps=2, budget_bytes=8, max_loss=100.0,
  ),
}  # fmt: skip

_SCIFACT = {  # measured earlier with other code: nDCG@10, R@100, overlap@10
  "truncation": {256: (63.49, 91.7, 77), 192: (61.43, 91.0, 67), 128: (60.16, 88.8, 57),
                 64: (48.41, 83.4, 40), 32: (33.71, 69.8, 23), 16: (15.80, 49.9, 11),
                 8: (3.08, 32.8, 4)},
  "pca": {256: (63.70, 90.5, 82), 192: (62.74, 90.8, 80), 128: (61.07, 90.8, 75),
          64: (54.04, 88.3, 62), 32: (45.30, 83.7, 46), 16: (29.60, 71.8, 30),
          8: (12.72, 61.1, 15)},
  "svd": {256: (64.37, 92.5, 96), 192: (64.10, 92.0, 91), 128: (63.57, 92.0, 82),
          64: (55.90, 90.7, 65), 32: (45.65, 86.1, 48), 16: (29.89, 73.3, 29),
          8: (11.34, 59.8, 13)},
  "random": {256: (61.36, 90.9, 64), 192: (57.33, 89.3, 58), 128: (56.77, 86.6, 51),
             64: (47.20, 79.5, 38), 32: (36.02, 71.0, 23), 16: (12.07, 46.6, 8),
             8: (4.20, 30.7, 3)},
}  # fmt: skip
_CODES = {
  "codes": {
    "float32": (64.51, 92.5, 100), "float16": (64.51, 92.5, 100),
    "float8_e4m3": (64.64, 92.5, 97), "scaled_float8_e4m3": (64.64, 92.5, 97),
    "float8_e5m2": (64.31, 92.2, 95), "scaled_float4_e2m1": (64.32, 90.8, 90),
    "float4_e2m1": (0.12,), "int8": (64.56, 92.5, 99), "int8_codes": (59.15, 89.4, 63),
    "binary": (58.76,), "binary01": (51.55,),
  },
  "codes_cosine": {"int8_codes": (64.59, 93.2, 92), "binary01": (57.52,)},
  "codes_documents": {"binary": (62.16,)},
  "codes_192": {
    "float8_e4m3": (64.04, 92.8, 88), "scaled_float4_e2m1": (60.83, 90.2, 76),
    "int8": (64.24, 92.3, 91), "int8_codes": (7.58, 36.6, 5), "binary": (48.57,),
    "binary01": (34.34,),
  },
  "codes_192_documents": {"binary": (58.48,)},
}  # fmt: skip
_SPEARMAN = {
  "sts_truncation": (81.89, 80.68, 79.21, 76.67, 72.02, 62.46),
  "sts_pca_on_test": (82.15, 82.04, 80.28, 76.16, 69.37, 58.37),
  "sts_pca": (None,) * 6,
  "sts_svd": (None,) * 6,
}
_MEASURES = {"ndcg": "nDCG@10", "recall": "recall@100", "overlap": "overlap@10"}
_TOL = {"ndcg": 0.1, "recall": 0.1, "overlap": 1.0}  # overlaps were noted in whole points


def _targets():
  goal = functools.partial(harness.Target, goal=True)
  for measure, title in _MEASURES.items():
    at = list(_MEASURES).index(measure)
    for variant in (*_LINEAR, *_TRAINED, "mpad", "mpad_largest", "kernel_pca", "umap"):
      known, note = _SCIFACT.get(variant, {}), "one draw" if variant == "random" else ""
      for dim in VARIANTS[variant].get("dims", Config.dims):
        wanted, tol = known[dim][at] if dim in known else None, 3.0 if note else _TOL[measure]
        yield goal(f"SciFact, {title}", variant, f"d{dim}_{measure}", wanted, tol=tol, note=note)
    for variant in ("codes", "codes_cosine", "codes_documents", "codes_foreign", "codes_192",
                    "codes_192_documents"):  # fmt: skip
      for codec in _FORMATS:
        found = _CODES.get(variant, {}).get(codec, ())
        wanted = found[at] if at < len(found) else None
        signs = variant == "codes_192" and codec in ("int8_codes", "binary01") and wanted
        note = "depends on directions' signs" if signs else ""
        yield goal(f"SciFact, formats, {title}", variant, f"{codec}_{measure}", wanted,
                   tol=_TOL[measure], note=note, place=(codec, variant))  # fmt: skip
    for variant in ("pq96", "pq48", "rabitq"):
      yield goal(f"SciFact, formats, {title}", variant, measure, place=(variant, "codes"))
  for variant, row in _SPEARMAN.items():
    for dim, wanted in zip(_STS["dims"], row):
      yield goal("STS Benchmark, Spearman", variant, f"d{dim}_spearman", wanted, tol=0.1)
  yield goal("The grid", "grid", "pairs")
  yield goal("The grid", "grid", "seconds", 60.0, better="low", note="start of Python left out")
  for metric in ("chosen_bytes", "chosen_loss"):
    yield goal("The grid", "grid", metric, better="low")


TARGETS = tuple(_targets())


def get_config(variant: str = "grid") -> Config:
  """A row of reducers or formats, or all of them."""
  return Config(**VARIANTS[variant])


class Row(NamedTuple):
  """One way of storing vectors, and what it keeps."""

  reducer: str
  dim: int
  codec: str
  nbytes: int  # of a vector
  values: dict[str, float]  # measures, in percent; the first is the quality

  @property
  def quality(self) -> float:
    """What loss is measured in."""
    return next(iter(self.values.values()))


class Task(NamedTuple):
  """Vectors and what they are for."""

  fit: np.ndarray  # [k, d] reducers are fitted on these
  calibration: np.ndarray  # [l, d] and formats on these
  stored: np.ndarray  # [n, d]
  asked: np.ndarray  # [m, d]
  # Of what is stored and asked, by "dot" or a manifold's distance.
  measure: Callable[[np.ndarray, np.ndarray, str | manifolds.Manifold], dict[str, float]]


def run(config: Config, workdir: str) -> dict[str, float]:
  """Measures every combination; writes grid.tsv, draws several reducers, and logs a choice."""
  begin = time.perf_counter()
  _check(config)
  task = _task(config)
  d = task.stored.shape[1]
  values = task.measure(_unit(task.stored), _unit(task.asked), "dot")
  whole = Row("none", d, "float32", 4 * d, values)
  logging.info("whole vectors: %s", _words(whole))
  rows = [row for name in config.reducers for row in _rows(config, task, name)]
  os.makedirs(workdir, exist_ok=True)
  _write(rows, os.path.join(workdir, "grid.tsv"))
  chosen = choose(whole, rows, config.budget_bytes, config.max_loss)
  if len(config.reducers) == 1:
    return _metrics(rows)
  _draw(whole, rows, os.path.join(workdir, "pareto"))
  return {
    "pairs": len(rows),
    "front": len(front(rows)),
    "whole": whole.quality,
    "chosen_bytes": chosen.nbytes,
    "chosen_loss": whole.quality - chosen.quality,
    "seconds": time.perf_counter() - begin,
  }


def front(rows: list[Row]) -> list[Row]:
  """Rows than which no other has as much quality in as few bytes, by bytes."""
  kept = []
  for row in sorted(rows, key=lambda row: (row.nbytes, -row.quality)):
    if not kept or row.quality > kept[-1].quality:
      kept.append(row)
  return kept


def choose(whole: Row, rows: list[Row], budget_bytes: int, max_loss: float) -> Row:
  """The best row within the budget; without one, the smallest that loses at most `max_loss`.

  Logs why; if no row does both, the nearest miss is returned, and that is logged too.
  """
  best = front(rows)
  able = [row for row in best if whole.quality - row.quality <= max_loss]
  small = [row for row in best if row.nbytes <= budget_bytes] if budget_bytes else able[:1]
  if not small:
    small = best[:1] if budget_bytes else best[-1:]
  chosen = small[-1]
  lost = whole.quality - chosen.quality
  what = f"{_words(chosen)}; {whole.nbytes / chosen.nbytes:.3g}× smaller, loses {lost:.2f}"
  fits = not budget_bytes or chosen.nbytes <= budget_bytes
  if fits and lost <= max_loss:
    why = f"the best within {budget_bytes} bytes" if budget_bytes else "the fewest bytes"
    logging.info("choice: %s: %s that lose at most %g", what, why, max_loss)
  else:
    logging.warning(
      "no pair of %d loses at most %g%s; the nearest: %s; the smallest that loses no more: %s",
      len(rows), max_loss, f" within {budget_bytes} bytes" if budget_bytes else "", what,
      _words(able[0]) if able else "none",
    )  # fmt: skip
  return chosen


def _check(config: Config) -> None:
  for field, known in (
    ("queries", ("coded", "float")), ("similarity", ("dot", "cosine")),
    ("calibration", ("documents", "queries")), ("fit", ("fit", "pairs")),
  ):  # fmt: skip
    if getattr(config, field) not in known:
      raise ValueError(f"{field} must be {' or '.join(known)}, got {getattr(config, field)!r}")
  for name in config.reducers:
    if name not in REDUCERS:
      raise ValueError(f"reducers must be of {', '.join(REDUCERS)}, got {name!r}")
  if not config.reducers or not config.dims or not config.codecs or min(config.dims) < 0:
    raise ValueError(
      "reducers, dims and codecs must name at least one each, and dims not be below 0"
    )


def _task(config: Config) -> Task:
  if config.vectors == "twin":
    data = vectors.twin(d=384, seed=config.seed)
  elif config.vectors == "twin_pairs":
    data = vectors.twin_pairs(d=384, seed=config.seed)
  elif config.vectors == "stsb":
    data = _stsb()
  else:
    data = vectors.load(config.vectors, config.qrels)
  if isinstance(data, vectors.Pairs):
    fit = data.fit if config.fit == "fit" else np.concatenate([data.a, data.b])
    compare = functools.partial(_spearman, data.score)
    return Task(fit, fit, data.a, data.b, compare)
  judged = [i for i, name in enumerate(data.query_ids) if name in data.qrels]
  asked = data.q[judged] if judged else data.q
  calibration = data.c
  if config.calibration == "queries":
    calibration = np.delete(data.q, judged, axis=0)
    if not len(calibration):
      raise ValueError("calibration=queries needs queries without judgements, and there are none")
  names = [data.query_ids[i] for i in judged]
  index = metrics.index(data.qrels, names, data.doc_ids) if judged else None
  first = exact.search(asked, data.c, min(10, len(data.c)), by="cosine").ids
  compare = functools.partial(_retrieval, index, first)
  return Task(data.c, calibration, data.c, asked, compare)


def _stsb() -> vectors.Pairs:
  """The STS Benchmark's test pairs [cer2017stsb]; reducers are fitted on its training sentences."""
  encoder = sentence_encoder.load("minilm")
  encode = functools.partial(encoder.encode, cache=paths.cache())
  test, train = stsb.load("test"), stsb.load("train")
  fit = encode([*train.first, *train.second])
  return vectors.Pairs(encode(test.first), encode(test.second), test.scores, fit)


def _retrieval(index, first, stored, asked, by) -> dict[str, float]:
  ids = exact.search(asked, stored, min(100, len(stored)), by=by).ids
  values = {}
  if index is not None:
    names = ("ndcg@10", f"recall@{ids.shape[1]}")
    found = metrics.evaluate_ids(index, ids, names)
    values = {"ndcg": found[names[0]].mean(), "recall": found[names[1]].mean()}
  values["overlap"] = metrics.overlap(ids[:, : first.shape[1]], first).mean()
  return {name: 100 * float(v) for name, v in values.items()}


def _spearman(score, a, b, by) -> dict[str, float]:
  ours = np.sum(a * b, axis=1) if by == "dot" else -np.asarray(by.dist(a, b))
  return {"spearman": 100 * float(stats.spearmanr(ours, score).statistic)}


def _rows(config: Config, task: Task, name: str) -> list[Row]:
  """All dimensions and formats of one reducer."""
  d = task.fit.shape[1]
  dims = sorted({dim or d for dim in config.dims if dim <= d}, reverse=True)
  if name == "none":
    dims = [d]
  if not dims:
    raise ValueError(f"dims must be between 1 and {d}, the vectors' coordinates, got {config.dims}")
  x = _unit(task.fit)
  near = _neighbors(x, config.neighbors) if name in _LOOKING else None
  given = Fitting(jnp.asarray(x), near, jax.random.key(config.seed))
  fit = REDUCERS[name] if name in _PEERS else jax.jit(REDUCERS[name], static_argnums=(1, 2))
  rows, whole = [], None
  for dim in dims:
    begin = time.perf_counter()
    if name in NESTED:
      whole = whole or fit(given, dim, config.steps)
      reducer = whole.first(dim)
    else:
      reducer = fit(given, dim, config.steps)
    some = _formats(config, task, name, dim, reducer)
    what = _words(some[0]) if len(some) == 1 else f"{name} {dim}, {len(some)} formats"
    logging.info("%s, %.1f s", what, time.perf_counter() - begin)
    rows += some
  return rows


def _formats(config: Config, task: Task, name: str, dim: int, reducer) -> list[Row]:
  """One reducer's vectors in all formats."""
  m = getattr(reducer, "manifold", None)

  def place(x):
    call = _transform.__wrapped__ if name in _PEERS else _transform
    z = np.asarray(call(reducer, jnp.asarray(_unit(x))), np.float32)
    return z if m else _unit(z)

  z, asked = place(task.stored), place(task.asked)
  calibration = z if task.calibration is task.stored else place(task.calibration)
  rows = []
  for codec in config.codecs:
    kept = codecs.make(codec, calibration, seed=config.seed)
    both = [kept.decode(kept.encode(z)), asked]
    if config.queries == "coded":
      both[1] = kept.decode(kept.encode(asked))
    by = "dot"
    if m:
      both, by = [np.asarray(_proj(m, x)) for x in both], m
    elif config.similarity == "cosine":
      both = [_unit(x) for x in both]
    rows.append(Row(name, dim, codec, kept.nbytes, task.measure(*both, by)))
  return rows


@jax.jit
def _transform(reducer, x):
  return reducer.transform(x)


@jax.jit
def _proj(m, x):
  return m.proj(x)


def _neighbors(x: np.ndarray, k: int) -> Array:
  """Ids of each row's k nearest others by cosine, [n, k]."""
  k = min(k, len(x) - 1)
  ids = exact.search(x, x, k + 1).ids
  other = ids != np.arange(len(x))[:, None]
  other[other.all(axis=1), -1] = False  # copies of a row may push it out of its own list
  return jnp.asarray(ids[other].reshape(len(x), k))


def _tldr(f: Fitting, dim: int, steps: int, hidden: int = 0):
  return tldr.fit(
    f.x, dim, key=f.key, neighbors=f.neighbors[:, :5], hidden=hidden, projector=512,
    batch_size=512, steps=steps,
  )  # fmt: skip


def _head(name: str, f: Fitting, dim: int, steps: int):
  m = manifolds.make(name)
  return head.fit(m, f.x, dim, key=f.key, neighbors=f.neighbors, steps=steps)


def _unit(x: np.ndarray) -> np.ndarray:
  """Rows of length 1; a row of zeros, of which a format may leave nothing, stays."""
  length = np.linalg.norm(x, axis=1, keepdims=True)
  return x / np.where(length > 0, length, 1)


def _words(row: Row) -> str:
  values = " ".join(f"{name} {value:.2f}" for name, value in row.values.items())
  return f"{row.reducer} {row.dim} {row.codec} ({row.nbytes} bytes) {values}"


def _metrics(rows: list[Row]) -> dict[str, float]:
  """Named by what differs: d64_ndcg, int8_ndcg, d64_int8_ndcg or ndcg."""
  dims = len({row.dim for row in rows}) > 1
  formats = len({row.codec for row in rows}) > 1
  name = lambda row: (f"d{row.dim}_" if dims else "") + (f"{row.codec}_" if formats else "")
  return {f"{name(row)}{key}": v for row in rows for key, v in row.values.items()}


def _write(rows: list[Row], path: str) -> None:
  names = list(rows[0].values)
  best = {id(row) for row in front(rows)}
  lines = ["\t".join(("reducer", "dim", "codec", "bytes", *names, "front"))]
  for row in rows:
    values = (f"{row.values[name]:.3f}" for name in names)
    mark = "*" if id(row) in best else ""
    lines.append("\t".join((row.reducer, str(row.dim), row.codec, str(row.nbytes), *values, mark)))
  files.replace(path, lambda file: file.write("\n".join([*lines, ""]).encode()))


def _draw(whole: Row, rows: list[Row], stem: str) -> None:
  """Quality against bytes, a colour for each format, and the front."""
  fig = figure.Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
  ax = fig.subplots()
  for i, codec in enumerate(dict.fromkeys(row.codec for row in rows)):
    some = [row for row in rows if row.codec == codec]
    ax.plot([r.nbytes for r in some], [r.quality for r in some], "o", ms=3.5, color=f"C{i % 10}",
            mfc="none" if i >= 10 else None, label=codec)  # fmt: skip
  best = front(rows)
  ax.plot([r.nbytes for r in best], [r.quality for r in best], color="0.6", lw=1, zorder=0)
  ax.axhline(whole.quality, color="0.6", ls=":", lw=1)
  ax.set(xscale="log", xlabel="bytes a vector", ylabel=f"{next(iter(whole.values))}, %")
  ax.legend(frameon=False, fontsize=7, ncols=2)
  for kind in ("png", "svg"):
    fig.savefig(f"{stem}.{kind}")
