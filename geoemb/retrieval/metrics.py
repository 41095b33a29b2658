"""Measures of a ranking against relevance judgements, as trec_eval and BEIR define them.

    run = qrels.read_run("bm25.trec")
    values = metrics.evaluate(judged, run, ("ndcg@10", "recall@100"))
    values["ndcg@10"].mean()

With gᵢ the grade of the document at place i (0 if it is not judged), relevant if gᵢ > 0, and R the
number of relevant documents of a query:

  recall@k     |relevant among the first k| / R
  precision@k  |relevant among the first k| / k
  success@k    1 if one of the first k is relevant
  mrr@k        1 / the first place i ≤ k of a relevant document, else 0
  map@k        1/R Σ_{i ≤ k, gᵢ > 0} precision@i
  ndcg@k       Σ_{i ≤ k} gᵢ / log₂(1 + i), over its value for the best ranking [jarvelin2002ndcg]

Without "@k" the whole ranking counts, but precision needs a k. Values are float64, one for each
judged query; where nothing is retrieved, or nothing is relevant, they are 0.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from geoemb.typing import ArrayLike

MEASURES = ("recall", "precision", "success", "mrr", "map", "ndcg")


class Judged(NamedTuple):
  """Judgements by row numbers of queries and documents: those of query i start at start[i]."""

  start: np.ndarray  # [q + 1] int64
  doc: np.ndarray  # [e] int64, ascending for each query
  grade: np.ndarray  # [e] int64


def index(
  qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str], doc_ids: Sequence[str]
) -> Judged:
  """Judgements of these queries, in this order; ids become row numbers.

  Raises:
    ValueError: an id stands twice, a query is not judged, or a judged document is unknown.
  """
  rows = {doc: i for i, doc in enumerate(doc_ids)}
  for what, ids in (("document", doc_ids), ("query", query_ids)):
    if len(set(ids)) != len(ids):
      raise ValueError(f"{what} ids must differ, got {len(ids) - len(set(ids))} repetitions")
  start, doc, grade = [0], [], []
  for query in query_ids:
    if query not in qrels:
      raise ValueError(f"the query {query!r} is not judged")
    try:
      found = sorted((rows[d], g) for d, g in qrels[query].items())
    except KeyError as error:
      raise ValueError(f"{error} is judged for query {query!r} but is no document") from None
    doc += [d for d, _ in found]
    grade += [g for _, g in found]
    start.append(len(doc))
  return Judged(*(np.asarray(a, np.int64) for a in (start, doc, grade)))


def evaluate(
  qrels: Mapping[str, Mapping[str, int]],
  run: Mapping[str, Mapping[str, float]],
  measures: Sequence[str],
) -> dict[str, np.ndarray]:
  """Values of the measures for each query of `qrels`, in its order, {measure: [q] float64}.

  Documents are ranked by score, and equal ones by id, the larger first, as in trec_eval, which
  however compares scores in single precision.

  Args:
    qrels: {query: {document: grade}}.
    run: {query: {document: score}}; queries that are not judged are ignored.
    measures: names such as "ndcg@10".

  Raises:
    ValueError: there is no such measure, a score is NaN, or the run has none of the queries.
  """
  if not any(query in run for query in qrels):
    raise ValueError(f"the run has none of the {len(qrels)} judged queries")
  gains, best = [], []
  for query, grades in qrels.items():
    scores = run.get(query, {})
    if any(s != s for s in scores.values()):
      raise ValueError(f"a score of query {query!r} is NaN")
    order = sorted(scores, key=lambda doc: (scores[doc], doc), reverse=True)
    gains.append([grades.get(doc, 0) for doc in order])
    best.append(sorted(grades.values(), reverse=True))
  return _measure(_padded(gains), _padded(best), measures)


def evaluate_ids(judged: Judged, ids: ArrayLike, measures: Sequence[str]) -> dict[str, np.ndarray]:
  """The same for rankings as search returns them, {measure: [q] float64}.

  Args:
    judged: judgements of the same q queries.
    ids: [q, k] row numbers of documents, best first; −1 for none.
    measures: names such as "ndcg@10", none of them beyond k.

  Raises:
    ValueError: the shapes do not agree, a measure looks beyond k, or a document stands twice.
  """
  ids = np.asarray(ids)
  q = len(judged.start) - 1
  if ids.ndim != 2 or len(ids) != q or ids.dtype.kind not in "iu":
    raise ValueError(f"ids must be [{q}, k] integers, got {ids.dtype} {ids.shape}")
  ranked = np.sort(ids, axis=1)
  if ((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0)).any():
    raise ValueError("a document stands twice in a ranking")
  for name in measures:
    if (parse(name)[1] or 0) > ids.shape[1]:
      raise ValueError(f"{name} needs longer rankings than {ids.shape[1]}")
  # One search for all: a document of query i is i · n + its row.
  n = 1 + max(ids.max(initial=0), judged.doc.max(initial=0))
  query = np.repeat(np.arange(q), np.diff(judged.start))
  place = np.arange(q)[:, None] * n + ids
  keys = query * n + judged.doc
  at = np.minimum(np.searchsorted(keys, place), max(len(keys) - 1, 0))
  found = (keys[at] == place) & (ids >= 0) if len(keys) else np.zeros(ids.shape, bool)
  gains = np.where(found, judged.grade[at], 0) if len(keys) else np.zeros(ids.shape, np.int64)
  grades = [np.sort(part)[::-1] for part in np.split(judged.grade, judged.start[1:-1])]
  return _measure(gains, _padded(grades), measures)


def overlap(ids: ArrayLike, truth: ArrayLike) -> np.ndarray:
  """The share of each query's true neighbours that was found, [b]: |ids ∩ truth| / k.

  Args:
    ids: [b, m] rows that were found, each once.
    truth: [b, k] rows of the true neighbours, each once.
  """
  both = np.asarray(truth)[:, :, None] == np.asarray(ids)[:, None]
  return both.any(axis=-1).mean(axis=-1)


def parse(name: str) -> tuple[str, int | None]:
  """The measure and its depth k: "ndcg@10" is ("ndcg", 10), and "map" is ("map", None).

  Raises:
    ValueError: there is no such measure, or it is precision without k.
  """
  match = re.fullmatch(r"([a-z]+)(?:@([1-9]\d*))?", name)
  if not match or match[1] not in MEASURES:
    raise ValueError(f"no measure {name!r}; there are {', '.join(MEASURES)}, each with @k or not")
  if match[1] == "precision" and not match[2]:
    raise ValueError("precision needs a depth, such as precision@10")
  return match[1], match[2] and int(match[2])


def _padded(rows):
  """Rows of different length as one array, zeros at their ends."""
  out = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
  for row, values in zip(out, rows):
    row[: len(values)] = values
  return out


def _measure(gains, best, measures):
  """Of gains by rank, [q, k], and the grades of all judged documents, descending, [q, j]."""
  relevant = np.maximum((best > 0).sum(axis=1), 1)
  return {name: _VALUES[parse(name)[0]](gains, best, relevant, parse(name)[1]) for name in measures}


def _recall(gains, best, relevant, k):
  return (gains[:, :k] > 0).sum(axis=1) / relevant


def _precision(gains, best, relevant, k):
  return (gains[:, :k] > 0).sum(axis=1) / k


def _success(gains, best, relevant, k):
  return (gains[:, :k] > 0).any(axis=1).astype(np.float64)


def _mrr(gains, best, relevant, k):
  hit = gains[:, :k] > 0
  return (hit / np.arange(1, 1 + hit.shape[1])).max(axis=1, initial=0)


def _map(gains, best, relevant, k):
  hit = gains[:, :k] > 0
  return (hit * np.cumsum(hit, axis=1) / np.arange(1, 1 + hit.shape[1])).sum(axis=1) / relevant


def _ndcg(gains, best, relevant, k):
  ideal = _dcg(best, k)
  return _dcg(gains, k) / np.where(ideal > 0, ideal, 1)


def _dcg(gains, k):
  gains = np.maximum(gains[:, :k], 0)
  return (gains / np.log2(2 + np.arange(gains.shape[1]))).sum(axis=1)


_VALUES = dict(zip(MEASURES, (_recall, _precision, _success, _mrr, _map, _ndcg)))
