"""Filtered search: who needs how many distances [iff2025filtered], [emanuilov2025billion].

Run:         python launch.py --config=experiments/retrieval/filtered.py:debian
Cost:        3 min on two shared CPU cores, and once 11 min to encode 30,170 descriptions.
Departures:  descriptions of Debian's packages, 30,170 vectors by all-MiniLM-L6-v2, where the paper
             has millions of arXiv abstracts and 4096 dimensions; distances are counted, not timed;
             ACORN, SeRF and other indexes made for filters are absent.
Unspecified: none found.

Queries are packages held out. A condition is met by a given share of the table, and is one of
    own     sections like the query's, its own first: rows near the query pass
    any     any section
    other   sections unlike the query's, the most unlike first: rows near the query do not pass
and a range of the installed size that leaves the share wanted. Each method is tried at several
efforts; a figure is its best mean recall@10 among those that took at most `budget` distances on
average, centroids included, or 0 if all took more.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import logging
from matplotlib import figure

from geoemb import harness
from geoemb.data import debian, paths
from geoemb.models import sentence_encoder
from geoemb.retrieval import filters, ivf, libraries

RELATIONS = ("own", "any", "other")
PERCENT = {"50": 0.5, "10": 0.1, "1": 0.01, "0.1": 0.001}


@dataclasses.dataclass
class Config:
  """A table with attributes, and the methods."""

  data: str = "debian"  # or twin, a few generated packages
  queries: int = 50  # packages held out
  k: int = 10
  lists: int = 174  # √n
  budget: int = 1000  # distances a query
  libraries: bool = True  # faiss and usearch too, of the extra search
  seed: int = 0  # of the queries, the ranges of sizes, and k-means


VARIANTS = {
  "debian": dict(),
  "smoke": dict(data="twin", queries=5, k=3, lists=8, budget=90, libraries=False),
  "smoke_libraries": dict(data="twin", queries=3, k=3, lists=8, budget=90),
}

_OURS = ("prefilter", "ivf", "ivf_least")
_LIBRARIES = ("postfilter", "faiss_ivf", "faiss_hnsw", "usearch")
TARGETS = tuple(
  harness.Target(
    f"{percent} % of rows pass", "debian", f"{method}_{percent}_{relation}",
    place=(method, relation),
  )
  for percent in PERCENT
  for method in (*_OURS, *_LIBRARIES)
  for relation in RELATIONS
)  # fmt: skip


def get_config(variant: str = "debian") -> Config:
  """The only table."""
  return Config(**VARIANTS[variant])


class _Table(NamedTuple):
  vectors: np.ndarray  # [n, d] of length 1
  columns: dict[str, np.ndarray]
  queries: np.ndarray  # [b, d]
  sections: np.ndarray  # [b] of the queries


class _Task(NamedTuple):
  query: np.ndarray  # [1, d]
  where: filters.Filter
  allow: np.ndarray  # [n] bool
  truth: np.ndarray  # ids of the nearest rows that pass, at most k


class _Method(NamedTuple):
  efforts: tuple[int, ...]
  search: Callable[[_Task, int], ivf.Found]  # (task, effort)


def run(config: Config, workdir: str) -> dict[str, float]:
  """Recall within the budget of every method; draws recall against distances."""
  os.makedirs(workdir, exist_ok=True)
  table = _load(config)
  methods = _methods(config, table)
  metrics, curves = {}, {}
  for percent, share in PERCENT.items():
    for relation in RELATIONS:
      tasks = _tasks(config, table, share, relation)
      passing = np.mean([task.allow.mean() for task in tasks])
      best = {}
      for name, method in methods.items():
        curve = np.array([_measured(method, tasks, effort) for effort in method.efforts])
        curves[percent, relation, name] = curve
        within = curve[curve[:, 0] <= config.budget, 1]
        best[name] = float(within.max(initial=0))
        metrics[f"{name}_{percent}_{relation}"] = best[name]
      told = ", ".join(f"{name} {value:.3f}" for name, value in best.items())
      logging.info("%s %% (%.2f %% pass), %s: %s", percent, 100 * passing, relation, told)
  _draw(config, list(methods), curves, os.path.join(workdir, "filtered"))
  return metrics


def _load(config: Config) -> _Table:
  if config.data == "debian":
    packages = debian.load()
    vectors = sentence_encoder.load("minilm").encode(packages.texts, cache=paths.cache())
  elif config.data == "twin":
    packages = debian.twin()
    rng = np.random.default_rng(0)
    words = {w: rng.normal(size=8) for w in sorted(set(" ".join(packages.descriptions).split()))}
    vectors = np.array([sum(words[w] for w in text.split()) for text in packages.descriptions])
  else:
    raise ValueError(f"data must be debian or twin, got {config.data!r}")
  n = len(vectors)
  if not 1 <= config.queries <= n // 2:
    raise ValueError(f"queries must be between 1 and {n // 2}, got {config.queries}")
  vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  out = np.zeros(n, bool)
  out[np.random.default_rng(config.seed).choice(n, config.queries, replace=False)] = True
  columns = {"section": packages.section[~out], "size": packages.size[~out]}
  vectors = vectors.astype(np.float32)
  return _Table(vectors[~out], columns, vectors[out], packages.section[out])


def _methods(config: Config, table: _Table) -> dict[str, _Method]:
  x, k = table.vectors, config.k
  index = ivf.build(x, lists=config.lists, columns=table.columns, seed=config.seed)
  probes = tuple(p for p in (1, 4, 16, 64) if p < config.lists)

  def prefilter(task: _Task, effort: int) -> ivf.Found:
    """Exact search among the rows that pass: the truth itself."""
    return ivf.Found(np.empty(0), task.truth[None], np.array([task.allow.sum()]))

  methods = {
    "prefilter": _Method((0,), prefilter),
    "ivf": _Method(
      probes, lambda task, effort: ivf.search(index, task.query, k, probes=effort, where=task.where)
    ),
    "ivf_least": _Method(
      tuple(k * f for f in (1, 4, 16, 64)),
      lambda task, effort: ivf.search(
        index, task.query, k, probes=2, least=effort, where=task.where
      ),
    ),
  }
  if not config.libraries:
    return methods
  graph = libraries.faiss_hnsw(x)

  def postfilter(task: _Task, effort: int) -> ivf.Found:
    """As many rows as the effort says; of these the first k that pass."""
    found = graph.search(task.query, min(effort, len(x)), effort=effort)
    good = found.ids[0][found.ids[0] >= 0]
    good = good[task.allow[good]][:k]
    return ivf.Found(found.scores[:, : len(good)], good[None], found.evaluations)

  inside = lambda made: lambda task, effort: made.search(task.query, k, task.allow, effort)
  walks = (16, 64, 256, 1024)
  return methods | {
    "postfilter": _Method(walks, postfilter),
    "faiss_ivf": _Method(
      probes, inside(libraries.faiss_ivf(x, lists=config.lists, seed=config.seed))
    ),
    "faiss_hnsw": _Method(walks, inside(graph)),
    "usearch": _Method(walks, inside(libraries.usearch(x))),
  }


def _tasks(config: Config, table: _Table, share: float, relation: str) -> list[_Task]:
  """A condition for each query, met by about that share of the table."""
  n, section = len(table.vectors), table.columns["section"]
  want = max(1, round(share * n))
  kinds = np.arange(section.max() + 1)
  count = np.bincount(section, minlength=len(kinds))
  total = np.zeros((len(kinds), table.vectors.shape[1]))
  np.add.at(total, section, table.vectors)
  mean = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)  # 0 of none
  rng = np.random.default_rng(config.seed)
  tasks = []
  cosines = table.queries @ table.vectors.T
  for query, own, cosine in zip(table.queries, table.sections, cosines):
    like = mean @ mean[own]
    like[own] = np.inf
    order = kinds[np.argsort(-like if relation == "own" else like, kind="stable")]
    parts: tuple[filters.Filter, ...] = ()
    if relation != "any":
      enough = int(np.searchsorted(np.cumsum(count[order]), want)) + 1
      parts = (filters.OneOf("section", tuple(map(int, order[:enough]))),)
    among = filters.mask(parts[0], table.columns) if parts else np.ones(n, bool)
    where = filters.And((*parts, _window(rng, table.columns["size"][among], want)))
    allow = filters.mask(where, table.columns)
    rows = np.flatnonzero(allow)
    truth = rows[np.argsort(-cosine[rows], kind="stable")[: config.k]]
    tasks.append(_Task(query[None], where, allow, truth))
  return tasks


def _window(rng: np.random.Generator, size: np.ndarray, want: int) -> filters.Range:
  """A range of sizes that `want` of these rows meet, or a few more: sizes repeat."""
  value, count = np.unique(size, return_counts=True)
  before = np.cumsum(count) - count
  last = np.searchsorted(before + count, before + want)
  fits = np.flatnonzero(last < len(value))
  met = (before + count)[last[fits]] - before[fits]
  close = fits[met <= max(1.1 * want, met.min())]
  first = rng.choice(close)
  return filters.Range("size", int(value[first]), int(value[last[first]]))


def _measured(method: _Method, tasks: list[_Task], effort: int) -> tuple[float, float]:
  """Mean distances and mean recall."""
  work, recall = [], []
  for task in tasks:
    found = method.search(task, effort)
    work.append(found.evaluations[0])
    recall.append(len(np.intersect1d(found.ids[0], task.truth)) / len(task.truth))
  return float(np.mean(work)), float(np.mean(recall))


def _draw(config: Config, methods: list[str], curves: dict[tuple, np.ndarray], stem: str) -> None:
  """Recall against distances: a column a share, a row a relation; dashed, the budget."""
  fig = figure.Figure(figsize=(12, 7.5), dpi=150)
  axes = fig.subplots(len(RELATIONS), len(PERCENT), sharey=True, sharex=True)
  fig.subplots_adjust(left=0.08, right=0.99, bottom=0.08, top=0.96, wspace=0.05)
  for row, relation in zip(axes, RELATIONS):
    for ax, percent in zip(row, PERCENT):
      for name in methods:
        ax.plot(*curves[percent, relation, name].T, marker=".", ms=5, lw=1, label=name)
      ax.axvline(config.budget, color="0.7", ls="--", lw=0.8)
      ax.set(xscale="log", title=f"{percent} % pass, {relation} sections")
      ax.minorticks_off()
  fig.supxlabel("distances computed for a query")
  fig.supylabel(f"recall@{config.k}")
  axes[0, 0].legend(frameon=False, fontsize=7)
  for kind in ("png", "svg"):
    fig.savefig(f"{stem}.{kind}")
