"""Speed of search, of text encoding and of MUVERA's encodings, beside what people use.

Run:         python launch.py --config=experiments/benchmarks/retrieval_speed.py:search
Cost:        minutes a variant; the machine should have no other work meanwhile.
Departures:  generated vectors for search, whose speed does not depend on them; generated bags of
             unit vectors, about as long as SciFact's abstracts are in tokens, for MUVERA; the
             sentences of the STS Benchmark for the encoder. Ours and each peer take turns in one
             process, and the figures are medians over turns of the peer's time over ours.
             naive is `argsort(-queries @ table.T)` for one query after another; loop encodes a
             document after another in numpy, bucket sums by np.add.at. all looks at all boxes; the
             boxes are those around WordNet's nouns below each noun, whose places are of
             `graphs.caps` and not trained. faiss is of the extra `search`; sentence-transformers is
             installed by hand, as it brings torch.
Unspecified: none; no paper is reproduced.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from geoemb import harness
from geoemb.boxes import box, volume
from geoemb.data import ragged, stsb, wordnet
from geoemb.graphs import caps
from geoemb.retrieval import box_index, exact, metrics, muvera


@dataclasses.dataclass
class Config:
  """A comparison."""

  job: str = "search"  # or encode, muvera, boxes
  against: str = "faiss"  # or naive; encode: sentence-transformers; muvera: loop; boxes: all
  rows: int = 1_000_000  # search: vectors; muvera: documents; boxes: nouns, 0 for all
  dim: int = 384  # of vectors
  queries: int = 256  # search: asked together; encode: sentences, 0 for all
  k: int = 10
  encoding: tuple[int, int, int] = (20, 5, 16)  # muvera: repetitions, bits, projected
  length: int = 250  # muvera: vectors a document, on average
  holds: str = "row"  # boxes: the ones sought hold the query, or query: it holds them
  temperature: float = 0.02  # boxes: of the soft volume
  repeats: int = 5  # turns
  seed: int = 0


VARIANTS = {
  "search": dict(),
  "search_naive": dict(against="naive", queries=16),
  "encode": dict(job="encode", against="sentence-transformers", queries=1000),
  "muvera": dict(job="muvera", against="loop", rows=200),
  "boxes_above": dict(job="boxes", against="all", rows=0, dim=10),
  "boxes_below": dict(job="boxes", against="all", rows=0, dim=10, holds="query"),
  "smoke_boxes": dict(job="boxes", against="all", rows=300, dim=4, queries=4, repeats=1),
  "smoke": dict(against="naive", rows=500, dim=8, queries=4, repeats=1),
}

_goal = lambda variant, goal, note: harness.Target(
  "Goals", variant, "ratio", goal, goal=True, note=note
)
TARGETS = (
  _goal("search", 0.8, "× faiss Flat, 1M × 384 float32, the best 10 of 256 queries"),
  _goal("search_naive", 5, "× a sort of all scores, query by query"),
  _goal("encode", 1, "× sentence-transformers' sentences a second"),
  _goal("muvera", 10, "× a loop over documents in numpy"),
  *(
    harness.Target("Boxes", variant, name, note=note)
    for variant in ("boxes_above", "boxes_below")
    for name, note in (
      ("ratio", "× all boxes, 82,115 × 10 dimensions, the best 10 of 256 queries"),
      ("looked_at", "share of boxes that it looks at"),
      ("recall_10_leaves", "of those, within the 10 best leaves"),
    )
  ),
)


def get_config(variant: str = "search") -> Config:
  """A comparison."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Times ours and the peer in turns; `ratio` is the peer's time over ours."""
  del workdir  # nothing is left but the result
  if config.job not in _JOBS:
    raise ValueError(f"job must be one of {', '.join(_JOBS)}, got {config.job!r}")
  ours, peer, same, *more = _JOBS[config.job](config)
  for _ in range(2):  # compilation, caches
    mine, theirs = ours(), peer()
  if not same(mine, theirs):
    raise harness.Abort(f"{config.against} and we do not agree: their times say nothing")
  turns = [(_seconds(ours), _seconds(peer)) for _ in range(config.repeats)]
  ratios = [b / a for a, b in turns]
  seconds = [statistics.median(x) for x in zip(*turns)]
  logging.info(
    "ours %.4g s, %s %.4g s, ratio %.3g (%.3g–%.3g)",
    seconds[0], config.against, seconds[1], statistics.median(ratios), min(ratios), max(ratios),
  )  # fmt: skip
  found = {"ratio": statistics.median(ratios), "seconds": seconds[0], "peer_seconds": seconds[1]}
  return found | {k: v for measure in more for k, v in measure().items()}


def _seconds(call: Callable) -> float:
  begin = time.perf_counter()
  call()
  return time.perf_counter() - begin


def _search(config: Config):
  rng = np.random.default_rng(config.seed)
  normal = lambda n: rng.standard_normal((n, config.dim), np.float32)
  table, queries = normal(config.rows), normal(config.queries)
  ours = lambda: exact.search(queries, table, config.k).ids
  if config.against == "naive":
    peer = lambda: np.stack([np.argsort(-(table @ q))[: config.k] for q in queries])
  elif config.against == "faiss":
    try:
      import faiss
    except ImportError:
      raise harness.Abort("faiss is what is compared with: pip install 'geoemb[search]'") from None
    index = faiss.IndexFlatIP(config.dim)
    index.add(table)
    peer = lambda: index.search(queries, config.k)[1]
  else:
    raise ValueError(f"against must be faiss or naive, got {config.against!r}")
  return ours, peer, lambda a, b: (a == b).mean() > 0.999  # sums are rounded in other orders


def _encode(config: Config):
  from geoemb.models import sentence_encoder

  try:
    import sentence_transformers
  except ImportError:
    raise harness.Abort("pip install sentence-transformers: it is what is compared with") from None
  pairs = stsb.load("test")
  texts = (pairs.first + pairs.second)[: config.queries or None]
  encoder = sentence_encoder.load("minilm")
  peer = sentence_transformers.SentenceTransformer(sentence_encoder.minilm_folder(), device="cpu")
  return (
    lambda: encoder.encode(texts, progress=lambda *_: None),
    lambda: peer.encode(texts),
    lambda a, b: np.abs(a - b).max() < 1e-5,
  )


def _muvera(config: Config):
  rng = np.random.default_rng(config.seed)
  sizes = np.clip(rng.normal(config.length, config.length / 4, config.rows), 8, 256).astype(int)
  x = rng.standard_normal((sizes.sum(), config.dim), np.float32)
  bags = ragged.Ragged(x / np.linalg.norm(x, axis=1, keepdims=True), np.append(0, sizes.cumsum()))
  repetitions, bits, projected = config.encoding
  encoding = muvera.init(
    jax.random.key(config.seed), config.dim, repetitions=repetitions, bits=bits, projected=projected
  )
  planes, signs = np.asarray(encoding.planes), np.asarray(encoding.signs)
  ours = lambda: muvera.encode(encoding, bags, documents=True)
  return ours, lambda: _loop(planes, signs, bags), lambda a, b: np.abs(a - b).max() < 1e-4


def _loop(planes: np.ndarray, signs: np.ndarray, bags: ragged.Ragged) -> np.ndarray:
  """Documents' encodings, one after another."""
  weights, found = 1 << np.arange(planes.shape[2]), []
  codes = np.arange(2 ** planes.shape[2])[:, None] & weights > 0
  for x in np.split(bags.vectors, bags.start[1:-1]):
    blocks = []
    for plane, sign in zip(planes, signs):
      side, y = x @ plane > 0, x @ sign
      bucket = side @ weights
      total, count = np.zeros((len(codes), y.shape[1]), np.float32), np.zeros(len(codes))
      np.add.at(total, bucket, y)
      np.add.at(count, bucket, 1)
      total /= np.maximum(count, 1)[:, None]
      empty = np.flatnonzero(count == 0)
      differs = (side[None] != codes[empty, None]).sum(axis=2)
      total[empty] = y[differs.argmin(axis=1)]
      blocks.append(total)
    found.append(np.concatenate(blocks).ravel())
  return np.stack(found)


def _boxes(config: Config):
  nouns = wordnet.load("noun")
  n = min(config.rows or len(nouns.names), len(nouns.names))
  edges = nouns.edges[(nouns.edges < n).all(axis=1)]
  placed = caps.place(edges, n, config.dim, seed=config.seed)
  points = placed.direction * placed.radius[:, None]
  lower, upper = points - 0.05, points + 0.05
  np.minimum.at(lower, edges[:, 1], points[edges[:, 0]] - 0.05)
  np.maximum.at(upper, edges[:, 1], points[edges[:, 0]] + 0.05)
  rows = box.Box(lower.astype(np.float32), upper.astype(np.float32))
  some = np.random.default_rng(config.seed).choice(n, min(n, config.queries), replace=False)
  queries = box.Box(*(x[some] for x in rows))
  log_side = functools.partial(volume.log_soft_side, temperature=config.temperature)

  def score(q, r):
    a, b = box.Box(q[:, None, 0], q[:, None, 1]), box.Box(r[None, :, 0], r[None, :, 1])
    a, b = (b, a) if config.holds == "row" else (a, b)
    return volume.log_containment(a, b, log_side=log_side)

  index = box_index.build(rows)
  find = functools.partial(
    box_index.search, index, queries, config.k, log_side=log_side, holds=config.holds
  )
  table, asked = np.stack(rows, axis=1), np.stack(queries, axis=1)

  def more() -> dict[str, float]:
    all_of, few = find(), find(leaves=10)
    return {
      "looked_at": float(all_of.evaluations.mean() / n),
      "recall_10_leaves": float(metrics.overlap(few.ids, all_of.ids).mean()),
    }

  return (
    lambda: find().scores,
    lambda: exact.search(asked, table, config.k, by=score).scores,
    lambda a, b: np.allclose(a, b, rtol=1e-3, atol=1e-3),  # float32; equal scores abound
    more,
  )


_JOBS = {"boxes": _boxes, "search": _search, "encode": _encode, "muvera": _muvera}
