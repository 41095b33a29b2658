"""Speed of exact search, of text encoding and of MUVERA's encodings, beside what people use.

Run:         python launch.py --config=experiments/benchmarks/retrieval_speed.py:search
Cost:        minutes a variant; the machine should have no other work meanwhile.
Departures:  generated vectors for search, whose speed does not depend on them; generated bags of
             unit vectors, about as long as SciFact's abstracts are in tokens, for MUVERA; the
             sentences of the STS Benchmark for the encoder. Ours and each peer take turns in one
             process, and the figures are medians over turns of the peer's time over ours.
             naive is `argsort(-queries @ table.T)` for one query after another; loop encodes a
             document after another in numpy, bucket sums by np.add.at. faiss is of the extra
             `search`; sentence-transformers is installed by hand, as it brings torch.
Unspecified: none; no paper is reproduced.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from geoemb import harness
from geoemb.data import ragged, stsb
from geoemb.retrieval import exact, muvera


@dataclasses.dataclass
class Config:
  """A comparison."""

  job: str = "search"  # or encode, muvera
  against: str = "faiss"  # search: faiss or naive; encode: sentence-transformers; muvera: loop
  rows: int = 1_000_000  # search: vectors; muvera: documents
  dim: int = 384  # of vectors
  queries: int = 256  # search: asked together; encode: sentences, 0 for all
  k: int = 10
  encoding: tuple[int, int, int] = (20, 5, 16)  # muvera: repetitions, bits, projected
  length: int = 250  # muvera: vectors a document, on average
  repeats: int = 5  # turns
  seed: int = 0


VARIANTS = {
  "search": dict(),
  "search_naive": dict(against="naive", queries=16),
  "encode": dict(job="encode", against="sentence-transformers", queries=1000),
  "muvera": dict(job="muvera", against="loop", rows=200),
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
)


def get_config(variant: str = "search") -> Config:
  """A comparison."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Times ours and the peer in turns; `ratio` is the peer's time over ours."""
  del workdir  # nothing is left but the result
  if config.job not in _JOBS:
    raise ValueError(f"job must be one of {', '.join(_JOBS)}, got {config.job!r}")
  ours, peer, same = _JOBS[config.job](config)
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
  return {"ratio": statistics.median(ratios), "seconds": seconds[0], "peer_seconds": seconds[1]}


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


_JOBS = {"search": _search, "encode": _encode, "muvera": _muvera}
