"""Hubs among sentence embeddings, and what reduces them [nielsen2024hubness].

Run:         python launch.py --config=experiments/retrieval/hubness.py:scifact
Cost:        50 s of one CPU core for scifact, 3 min for newsgroups (measured), and once 25 min to
             encode its posts, which the cache keeps.
Departures:  all-MiniLM-L6-v2, where the paper trains Sentence-BERT models of its own on STS-B, so
             no figure of the paper is a target here. Not in the paper: inductive marginals,
             empirical mutual proximity, CSLS, inverted softmax, points of curved spaces. Neighbours
             are exact, of all rows, where the paper rescales those of a graph.
Unspecified: none found.

For each method: skewness and Robin Hood index of the k-occurrence, shares of anti-hubs and hubs in
per cent, the largest k-occurrence; with labels the error in per cent of k nearest neighbours'
commonest. SciFact: neighbours of documents among the others. Newsgroups: of test posts among
training posts, without headers, quotations and signatures, as in the paper; the 515 of which
nothing is left then are left out, since equal vectors are each other's hubs. Of your own vectors,
--config.data=FILE.npy or .npz (see geoemb/data/vectors.py): of queries among documents.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import logging
from matplotlib import figure

from geoemb import harness, manifolds
from geoemb.data import newsgroups, paths, vectors
from geoemb.models import sentence_encoder
from geoemb.retrieval import hubness


@dataclasses.dataclass
class Config:
  """Vectors and how neighbours are counted."""

  data: str = "scifact"  # or newsgroups, a FILE.npy or .npz, or twin, a few generated vectors
  train: int = 0  # posts of newsgroups that are used, a random choice; 0 for all
  test: int = 0
  k: int = 10  # neighbours
  radius: float = 2.0  # mean distance from the origin of points of curved spaces
  seed: int = 0  # of the random draws of f-norm and f-unif


VARIANTS = {
  "scifact": dict(),
  "newsgroups": dict(data="newsgroups"),
  "newsgroups_part": dict(data="newsgroups", train=3000, test=1998),
  "smoke": dict(data="twin", k=5),
}
PARTIAL = {"newsgroups_part": "3,000 training posts and 1,998 test posts of 11,014 and 7,317"}


class Method(NamedTuple):
  """A map of vectors, the geometry they are compared in, and a secondary similarity."""

  map: str = "none"  # of hubness.MAPS; "matched f-norm" is the transductive one
  space: str = "cosine"  # or a manifold, which vectors are lifted to
  secondary: str = ""


METHODS = {
  "raw": Method(),
  "center": Method("center"),
  "zscore": Method("zscore"),
  "fnorm": Method("matched f-norm"),
  "fnorm_inductive": Method("f-norm"),
  "funif": Method("matched f-unif"),
  "funif_inductive": Method("f-unif"),
  "local_scaling": Method(secondary="local_scaling"),
  "mp": Method(secondary="mp"),
  "mp_empirical": Method(secondary="mp_empirical"),
  "csls": Method(secondary="csls"),
  "inverted_softmax": Method(secondary="inverted_softmax"),
  "fnorm_mp": Method("matched f-norm", secondary="mp"),
  "fnorm_inductive_mp": Method("f-norm", secondary="mp"),
  "fnorm_csls": Method("matched f-norm", secondary="csls"),
  "sphere": Method(space="sphere"),
  "lorentz": Method(space="lorentz"),
  "lorentz_mp": Method(space="lorentz", secondary="mp"),
  "lorentz_csls": Method(space="lorentz", secondary="csls"),
}

# Measured once with other code; MiniLM is too new for the paper.
_BEFORE = {
  "raw": (1.21, 0.242, 0.85, 57),
  "center": (1.16, 0.239, 0.87, 54),
  "fnorm": (1.17, 0.237, 0.83, 56),
  "mp": (0.88, 0.215, 0.69, 43),
  "fnorm_mp": (0.84, 0.210, 0.50, 44),
  "csls": (0.69, 0.134, 0.00, 26),
}
_MEASURES = {"skewness": 0.02, "robin_hood": 0.002, "antihubs": 0.1, "largest": 1}
TARGETS = tuple(
  harness.Target(
    "SciFact", "scifact", f"{name}_{measure}", paper, tol=tol, better="low", goal=True,
    note="measured once with other code",
  )
  for name, values in _BEFORE.items()
  for (measure, tol), paper in zip(_MEASURES.items(), values)
) + tuple(
  harness.Target("20 Newsgroups", variant, f"{name}_{measure}", better="low")
  for variant in ("newsgroups", "newsgroups_part")
  for name in METHODS
  for measure in ("error", "skewness")
)  # fmt: skip


def get_config(variant: str = "scifact") -> Config:
  """One of the sets of vectors."""
  return Config(**VARIANTS[variant])


class _Data(NamedTuple):
  train: np.ndarray  # [n, d]
  labels: np.ndarray | None  # [n]
  test: np.ndarray | None  # [b, d]; None: the training rows are the queries
  test_labels: np.ndarray | None  # [b]


def run(config: Config, workdir: str) -> dict[str, float]:
  """Measures of every method; draws the occurrences of some."""
  if config.k < 1:
    raise ValueError(f"k must be positive, got {config.k}")
  os.makedirs(workdir, exist_ok=True)
  data, metrics, counts = _load(config), {}, {}
  for name, method in METHODS.items():
    train, test = _mapped(config, method, data)
    secondary = hubness.SECONDARY[method.secondary]() if method.secondary else None
    by = method.space if method.space == "cosine" else manifolds.make(method.space)
    fitted = hubness.fit(train, secondary, by=by)
    hits = hubness.search(fitted, config.k, test)
    found = hubness.measures(hits.ids, len(train))
    counts[name] = hubness.occurrences(hits.ids, len(train))
    metrics |= {
      f"{name}_skewness": found.skewness,
      f"{name}_robin_hood": found.robin_hood,
      f"{name}_antihubs": 100 * found.antihubs,
      f"{name}_hubs": 100 * found.hubs,
      f"{name}_largest": found.largest,
    }
    text = f"skewness {found.skewness:.2f}, Robin Hood {found.robin_hood:.3f}"
    if data.labels is not None:
      wrong = hubness.vote(data.labels[hits.ids]) != data.test_labels
      metrics[f"{name}_error"] = 100 * float(wrong.mean())
      text += f", error {metrics[f'{name}_error']:.2f} %"
    logging.info("%s: %s", name, text)
  _draw(config, metrics, counts, os.path.join(workdir, "hubness"))
  return metrics


def _load(config: Config) -> _Data:
  if config.data == "scifact":
    path = os.path.join(paths.root(), "scifact", "minilm_f16.npz")
    if not os.path.exists(path):
      raise FileNotFoundError(f"{path} not found: put vectors of the documents, c, there")
    with np.load(path, allow_pickle=False) as held:
      return _Data(held["c"].astype(np.float32), None, None, None)
  if config.data == "twin":
    rng = np.random.default_rng(config.seed)
    labels = rng.integers(4, size=120)
    x = rng.normal(size=(4, 12))[labels] + rng.normal(size=(120, 12))
    return _Data(x[:80], labels[:80], x[80:], labels[80:])
  if config.data != "newsgroups":
    if not config.data.endswith((".npy", ".npz")):
      raise ValueError(
        f"data must be scifact, newsgroups, twin, or a .npy or .npz file, got {config.data!r}"
      )
    own = vectors.documents(config.data)
    return _Data(own.c, None, own.q, None)
  encoder = sentence_encoder.load("minilm")
  parts = []
  for split, count in (("train", config.train), ("test", config.test)):
    posts = newsgroups.load(split)
    written = np.array([i for i, text in enumerate(posts.texts) if text.strip()])
    n = len(written)
    if not 0 <= count <= n:
      raise ValueError(f"{split} must be between 0 and {n}, got {count}")
    some = written[np.random.default_rng(0).permutation(n)[: count or n]]
    x = encoder.encode([posts.texts[i] for i in some], cache=paths.cache())
    parts += [x, posts.groups[some]]
  return _Data(*parts)


def _mapped(config: Config, method: Method, data: _Data) -> tuple[np.ndarray, np.ndarray | None]:
  """Training and test vectors as the method compares them."""
  train, test = data.train, data.test
  if method.map.startswith("matched "):
    both = train if test is None else np.concatenate([train, test])
    both = hubness.matched(method.map.removeprefix("matched "), both, seed=config.seed)
    both = both.astype(np.float32)
    return both[: len(train)], None if test is None else both[len(train) :]
  transform: Callable[[np.ndarray], np.ndarray]
  if method.space == "cosine":
    fitted = hubness.fit_map(method.map, train)
    transform = lambda x: fitted(x).astype(np.float32)
  else:
    transform = hubness.fit_lift(manifolds.make(method.space), train, radius=config.radius)
  return transform(train), None if test is None else transform(test)


def _draw(
  config: Config, metrics: dict[str, float], counts: dict[str, np.ndarray], stem: str
) -> None:
  """How many points occur how often, and every method's skewness (with labels, against error)."""
  fig = figure.Figure(figsize=(11, 4.2), dpi=150, layout="constrained")
  left, right = fig.subplots(1, 2)
  for name in ("raw", "fnorm", "mp", "fnorm_mp", "csls", "lorentz"):
    count = np.bincount(counts[name])
    left.plot(np.arange(len(count)), count / count.sum(), label=name, lw=1)
  left.set(xlabel=f"$N_{{{config.k}}}$", ylabel="share of points", yscale="log", title=config.data)
  left.legend(frameon=False)
  skewness = [metrics[f"{name}_skewness"] for name in METHODS]
  if f"{next(iter(METHODS))}_error" in metrics:
    error = [metrics[f"{name}_error"] for name in METHODS]
    right.scatter(skewness, error, s=12)
    for name, x, y in zip(METHODS, skewness, error):
      right.annotate(name, (x, y), fontsize=7, xytext=(3, 2), textcoords="offset points")
    right.set(xlabel="skewness", ylabel=f"error of {config.k} nearest neighbours, %")
  else:
    right.barh(list(METHODS), skewness)
    right.invert_yaxis()
    right.set(xlabel="skewness")
  for kind in ("png", "svg"):
    fig.savefig(f"{stem}.{kind}")
