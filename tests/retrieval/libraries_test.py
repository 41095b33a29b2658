"""Foreign indexes behind one search, against exact search."""

import sys

import numpy as np
import pytest

from geoemb.retrieval import exact, libraries

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 6))
QUERIES = RNG.normal(size=(9, 6))
ALLOW = RNG.random(300) < 0.3
MADE = {
  "faiss_flat": (lambda: libraries.faiss_flat(X), None),
  "faiss_ivf": (lambda: libraries.faiss_ivf(X, lists=8), 8),
  "faiss_hnsw": (lambda: libraries.faiss_hnsw(X), 300),
  "usearch": (lambda: libraries.usearch(X), 300),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SWIG's types
@pytest.mark.parametrize("name", MADE)
def test_full_effort_is_exact_search(name):
  package = name.partition("_")[0]
  pytest.importorskip(package, reason="the extra search has it")
  make, effort = MADE[name]
  index = make()
  for allow in (None, ALLOW):
    got = index.search(QUERIES, 7, allow, effort)
    want = exact.search(QUERIES, X, 7, by="cosine", allow=allow)
    np.testing.assert_array_equal(got.ids, want.ids)
    np.testing.assert_allclose(got.scores, want.scores, rtol=1e-4, atol=1e-5)
    count = 300 if allow is None else ALLOW.sum()
    if name == "faiss_flat":
      assert (got.evaluations == count).all()
    if name == "faiss_ivf":
      assert (got.evaluations == 8 + count).all()
    if effort:
      assert (index.search(QUERIES, 7, allow, 1).evaluations <= got.evaluations).all()
  few = np.zeros(300, bool)
  few[[4, 9]] = True
  got = index.search(QUERIES, 4, few, effort)
  assert (np.sort(got.ids[:, :2], axis=1) == [4, 9]).all() and (got.ids[:, 2:] == -1).all()
  assert (got.scores[:, 2:] == -np.inf).all()
  for bad, message in [(QUERIES[:, :5], "vectors"), (QUERIES * np.nan, "finite")]:
    with pytest.raises(ValueError, match=message):
      index.search(bad, 3)
  with pytest.raises(ValueError, match=r"allow must be \[300\] bool"):
    index.search(QUERIES, 3, ALLOW[:9])
  with pytest.raises(ValueError, match="k must be positive"):
    index.search(QUERIES, 0)


def test_bm25_scores():
  """Lucene's form, typed out: idf ln(1 + (N − n + ½)/(n + ½))."""
  pytest.importorskip("bm25s", reason="the extra search has it")
  texts = ["apple pear apple", "pear plum", "cherry", "plum plum plum cherry apple quince"]
  docs = [t.split() for t in texts]
  mean = np.mean([len(d) for d in docs])

  def score(query, d):
    total = 0.0
    for word in query.split():
      n = sum(word in other for other in docs)
      tf = d.count(word)
      idf = np.log(1 + (4 - n + 0.5) / (n + 0.5))
      total += idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * len(d) / mean))
    return total

  index = libraries.bm25(texts, stemmer=None)
  queries = ["apple", "plum cherry", "unknown"]
  got = index.search(queries, 3)
  want = np.array([[score(q, d) for d in docs] for q in queries])
  for row, ids, scores in zip(want, got.ids, got.scores):
    order = [i for i in np.argsort(-row, kind="stable") if row[i] > 0][:3]
    assert list(ids) == order + [-1] * (3 - len(order))
    np.testing.assert_allclose(scores[: len(order)], row[order], rtol=1e-4)
  np.testing.assert_array_equal(got.evaluations, (want > 0).sum(axis=1))
  only = index.search(queries, 3, np.array([False, True, True, True]))
  assert 0 not in only.ids
  with pytest.raises(ValueError, match="a sequence of texts"):
    index.search("apple", 3)


def test_stems_meet():
  pytest.importorskip("bm25s", reason="the extra search has it")
  pytest.importorskip("Stemmer", reason="the extra search has it")
  index = libraries.bm25(["walking dogs", "cats"])
  assert index.search(["dog walks"], 1).ids == [[0]]


@pytest.mark.parametrize("make", [libraries.faiss_flat, libraries.usearch, libraries.bm25])
def test_a_missing_library_is_named(make, monkeypatch):
  for name in ("faiss", "usearch.index", "bm25s"):
    monkeypatch.setitem(sys.modules, name, None)
  with pytest.raises(ImportError, match=r"pip install 'geoemb\[search\]'"):
    make(X)
