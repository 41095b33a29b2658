"""Measures of rankings, against trec_eval."""

import numpy as np
import pytest

from geoemb.retrieval import metrics

DEPTHS = (1, 3, 10, 100)


def random_task(seed, *, ties):
  """Judgements with grades from −1 to 3, and a run of which some queries have nothing."""
  rng = np.random.default_rng(seed)
  qrels, run = {}, {}
  for q in range(30):
    docs = [f"d{i}" for i in rng.permutation(60)]
    qrels[f"q{q}"] = {d: int(rng.integers(-1, 4)) for d in docs[: rng.integers(1, 20)]}
    scores = rng.integers(0, 5, 60) if ties else rng.permutation(60)
    ranked = rng.permutation(docs)[: rng.integers(1, 60)]
    run[f"q{q}"] = {str(d): float(s) / 4 for d, s in zip(ranked, scores)}
  qrels["alone"] = {"d1": 1}
  run["stranger"] = {"d1": 1.0}
  return qrels, run


@pytest.mark.parametrize("ties", [False, True])
def test_equals_trec_eval(ties):
  pytrec_eval = pytest.importorskip("pytrec_eval", reason="is the reference")
  names = {"map": "map", "recip_rank": "mrr", "ndcg": "ndcg"}
  for k in DEPTHS:
    names |= {
      f"ndcg_cut_{k}": f"ndcg@{k}",
      f"recall_{k}": f"recall@{k}",
      f"P_{k}": f"precision@{k}",
    }
    names |= {f"map_cut_{k}": f"map@{k}", f"success_{k}": f"success@{k}"}
  for seed in range(5):
    qrels, run = random_task(seed, ties=ties)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(names)).evaluate(run)
    ours = metrics.evaluate(qrels, run, tuple(names.values()))
    for foreign, name in names.items():
      want = [theirs.get(q, {}).get(foreign, 0.0) for q in qrels]
      np.testing.assert_allclose(ours[name], want, rtol=1e-12, atol=1e-15, err_msg=name)


def test_row_numbers_give_the_same():
  qrels, run = random_task(7, ties=False)
  doc_ids, query_ids = [f"d{i}" for i in range(60)], list(qrels)
  ids = np.full((len(query_ids), 60), -1)
  for row, q in zip(ids, query_ids):
    order = sorted(run.get(q, {}), key=run.get(q, {}).get, reverse=True)
    row[: len(order)] = [doc_ids.index(d) for d in order]
  names = [f"{m}@10" for m in metrics.MEASURES]
  ours = metrics.evaluate_ids(metrics.index(qrels, query_ids, doc_ids), ids, names)
  want = metrics.evaluate(qrels, run, names)
  for name in names:
    np.testing.assert_array_equal(ours[name], want[name], err_msg=name)


def test_mrr_is_cut():
  values = metrics.evaluate({"q": {"c": 1}}, {"q": {"a": 3, "b": 2, "c": 1}}, ("mrr@2", "mrr@3"))
  assert (values["mrr@2"], values["mrr@3"]) == ([0], [1 / 3])


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: metrics.parse("ndgc@10"), "no measure 'ndgc@10'; there are recall"),
    (lambda: metrics.parse("precision"), "precision needs a depth"),
    (lambda: metrics.evaluate({"q": {}}, {"p": {}}, ()), "none of the 1 judged"),
    (lambda: metrics.evaluate({"q": {}}, {"q": {"d": np.nan}}, ()), "is NaN"),
    (lambda: metrics.index({"q": {"d": 1}}, ["q"], ["e"]), "'d' is judged for query 'q' but"),
    (lambda: metrics.index({}, ["q"], []), "query 'q' is not judged"),
    (lambda: metrics.index({}, ["q", "q"], []), "query ids must differ"),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_rankings_of_ids_are_checked():
  judged = metrics.index({"q": {"a": 1}}, ["q"], ["a", "b"])
  assert metrics.evaluate_ids(judged, [[1, 0, -1, -1]], ["mrr"])["mrr"] == [0.5]
  with pytest.raises(ValueError, match="stands twice"):
    metrics.evaluate_ids(judged, [[0, 0]], ["mrr"])
  with pytest.raises(ValueError, match=r"must be \[1, k\] integers"):
    metrics.evaluate_ids(judged, [[0], [1]], ["mrr"])
  with pytest.raises(ValueError, match="ndcg@10 needs longer rankings than 2"):
    metrics.evaluate_ids(judged, [[0, 1]], ["ndcg@10"])


def test_overlap_is_that_of_sets():
  rng = np.random.default_rng(0)
  ids, truth = (rng.permuted(np.tile(np.arange(9), (20, 1)), axis=1)[:, :k] for k in (5, 4))
  expected = [len(set(a) & set(b)) / 4 for a, b in zip(ids.tolist(), truth.tolist())]
  np.testing.assert_allclose(metrics.overlap(ids, truth), expected)
