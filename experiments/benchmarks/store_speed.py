"""Speed of a store of vectors [patel2018magnitude], beside gensim's and beside an npz.

Run:         python launch.py --config=experiments/benchmarks/store_speed.py:word2vec
Cost:        a minute a variant on two CPU cores, which should have no other work meanwhile.
Departures:  400,000 × 100 random numbers, where the paper has the 3,000,000 × 300 vectors of Google
             News; keys are WordNet's nouns, numbered beyond the first 82,115: a proxy. Files are in
             the page cache. "open" ends when a key's first vector is there, since most have not
             looked at their keys before. All answers are compared, and those of similarity are of
             queries that were not asked before. Ours and the peer's take turns in one process;
             ratios are medians over the turns, the peer's time over ours. gensim is the extra
             "peers".
Unspecified: what Table 1's gensim had loaded before its queries.
"""

import contextlib
import dataclasses
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from geoemb import harness
from geoemb.data import wordnet
from geoemb.tables import neighbours, store


@dataclasses.dataclass
class Config:
  """A peer and the size of what is compared."""

  against: str = "gensim"  # its own format, mapped; word2vec: its load of that binary file; npz
  vectors: int = 400_000
  dim: int = 100
  batch: int = 10_000  # keys that are looked up at once
  singles: int = 10_000  # keys that are looked up one by one
  repeats: int = 5  # turns
  seed: int = 0


VARIANTS = {
  "gensim": dict(),
  "word2vec": dict(against="word2vec"),
  "npz": dict(against="npz"),
  "smoke": dict(against="npz", vectors=2000, dim=5, batch=100, singles=100, repeats=1),
}

_what = {
  "open_ratio": "open and look up a key",
  "lookup_ratio": "a key",
  "batch_ratio": "10,000 keys at once",
  "similar_ratio": "the 10 most similar keys",
}
TARGETS = (
  harness.Target(
    "Section 1", "word2vec", "open_ratio", 97, note="Gensim 70 s, Magnitude 0.72 s for 3M × 300"
  ),
  *(
    harness.Target("Peer's time over ours", variant, metric, note=note)
    for variant in ("gensim", "word2vec", "npz")
    for metric, note in _what.items()
  ),
  *(
    harness.Target("Ours", "gensim", metric, better="low")
    for metric in ("open_ms", "lookup_us", "batch_ms", "similar_ms", "verify_ms", "write_seconds")
  ),
)


def get_config(variant: str = "gensim") -> Config:
  """A peer."""
  return Config(**VARIANTS[variant])


@dataclasses.dataclass
class _Contestant:
  """How vectors are opened, and what is asked of them."""

  open: Callable[[], Any]
  one: Callable[[Any, str], np.ndarray]
  many: Callable[[Any, Sequence[str]], np.ndarray]
  similar: Callable[[Any, str], list[tuple[str, float]]]


def run(config: Config, workdir: str) -> dict[str, float]:
  """Writes the files to a folder of its own, and times the contestants in turns."""
  del workdir  # nothing is left but the result
  if config.against not in _PEERS:
    raise ValueError(f"against must be one of {', '.join(_PEERS)}, got {config.against!r}")
  names = wordnet.load("noun").names
  n = config.vectors
  keys = [f"{names[i % len(names)]}{i // len(names) or ''}" for i in range(n)]
  rng = np.random.default_rng(config.seed)
  table = rng.standard_normal((n, config.dim), np.float32)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "x.vectors")
    seconds, _ = _timed(lambda: store.write(path, keys, table))
    metrics = {"write_seconds": seconds}
    logging.info("%d bytes for %d of vectors", os.path.getsize(path), table.nbytes)
    peer = _PEERS[config.against](folder, keys, table)
    ours = _Contestant(
      functools.partial(store.Store, path), store.Store.vector, store.Store.lookup,
      lambda s, key: neighbours.most_similar(s, key, k=10),
    )  # fmt: skip
    metrics["verify_ms"] = 1e3 * _timed(store.Store(path).verify)[0]
    ask = lambda size: [keys[i] for i in rng.integers(n, size=size)]
    turns = [
      _turn(config, ours, peer, ask(config.singles), ask(config.batch), ask(1)[0])
      for _ in range(config.repeats + 1)
    ][1:]  # the first warms up
  for name, unit, scale in (
    ("open", "ms", 1e3), ("lookup", "us", 1e6), ("batch", "ms", 1e3), ("similar", "ms", 1e3),
  ):  # fmt: skip
    mine, theirs = (np.array([turn[name][i] for turn in turns]) for i in (0, 1))
    ratios = theirs / mine
    metrics[f"{name}_{unit}"] = scale * statistics.median(mine)
    metrics[f"{name}_ratio"] = statistics.median(ratios)
    logging.info(
      "%s: ours %.4g %s, %s %.4g %s, ratio %.4g (%.4g–%.4g)",
      name, scale * np.median(mine), unit, config.against, scale * np.median(theirs), unit,
      np.median(ratios), ratios.min(), ratios.max(),
    )  # fmt: skip
  return {name: float(value) for name, value in metrics.items()}


def _turn(
  config: Config, ours: _Contestant, peer: _Contestant, singles: list, batch: list, query: str
) -> dict[str, list[float]]:
  """Seconds of ours and of the peer's."""
  times = {"open": [], "lookup": [], "batch": [], "similar": []}
  answers = []
  for who in (ours, peer):
    first = lambda who=who: (vectors := who.open(), who.one(vectors, singles[0]))
    seconds, (vectors, _) = _timed(first)
    times["open"].append(seconds)
    seconds, one = _timed(lambda who=who, v=vectors: [who.one(v, key) for key in singles])
    times["lookup"].append(seconds / len(singles))
    seconds, many = _timed(lambda who=who, v=vectors: who.many(v, batch))
    times["batch"].append(seconds)
    who.similar(vectors, singles[0])  # whatever is computed once, such as lengths
    seconds, similar = _timed(lambda who=who, v=vectors: who.similar(v, query))
    times["similar"].append(seconds)
    answers.append((np.stack(one), many, [key for key, _ in similar]))
  a, b = answers
  if not (np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and a[2] == b[2]):
    raise harness.Abort(f"ours and {config.against} do not answer the same about {query!r}")
  return times


def _timed(f: Callable[[], Any]) -> tuple[float, Any]:
  begin = time.perf_counter()
  found = f()
  return time.perf_counter() - begin, found


def _gensim(folder: str, keys: list[str], table: np.ndarray, *, binary: bool) -> _Contestant:
  """KeyedVectors, from its own format mapped into memory, or from word2vec's."""
  try:
    from gensim.models import KeyedVectors
  except ImportError as error:
    raise harness.Abort("gensim is compared with: pip install 'geoemb[peers]'") from error
  vectors, path = KeyedVectors(table.shape[1]), os.path.join(folder, "x.peer")
  vectors.add_vectors(keys, table)
  if binary:
    vectors.save_word2vec_format(path, binary=True)
    open_ = lambda: KeyedVectors.load_word2vec_format(path, binary=True)
  else:
    vectors.save(path)
    open_ = lambda: KeyedVectors.load(path, mmap="r")
  return _Contestant(
    open_, lambda v, key: v[key], lambda v, some: v[some],
    lambda v, key: v.most_similar(key, topn=10),
  )  # fmt: skip


def _npz(folder: str, keys: list[str], table: np.ndarray) -> _Contestant:
  """A dictionary and an array, as one would write it."""
  path = os.path.join(folder, "x.npz")
  np.savez(path, keys=np.array(keys), table=table)

  def open_() -> tuple[list[str], dict[str, int], np.ndarray]:
    with contextlib.closing(np.load(path)) as file:
      names = file["keys"].tolist()
      return names, {key: i for i, key in enumerate(names)}, file["table"]

  def similar(v: tuple, key: str) -> list[tuple[str, float]]:
    names, ids, x = v
    cosine = x @ x[ids[key]] / np.linalg.norm(x, axis=1)
    first = np.argsort(-cosine)[:11]
    return [(names[i], float(cosine[i])) for i in first if i != ids[key]][:10]

  return _Contestant(
    open_, lambda v, key: v[2][v[1][key]], lambda v, some: v[2][[v[1][k] for k in some]], similar
  )


_PEERS = {
  "gensim": functools.partial(_gensim, binary=False),
  "word2vec": functools.partial(_gensim, binary=True),
  "npz": _npz,
}
