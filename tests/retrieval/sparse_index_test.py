import numpy as np
import pytest
import scipy.sparse

from geoemb.retrieval import sparse_index


def codes(n, seed, h=30, density=0.15):
  rng = np.random.default_rng(seed)
  return scipy.sparse.random_array((n, h), density=density, rng=rng).toarray().astype(np.float32)


@pytest.mark.parametrize("k", [10, 150])
@pytest.mark.parametrize("kind", ["positive", "signs", "tiny"])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, scipy.sparse.coo_array])
def test_finds_and_counts_what_a_dense_search_does(form, kind, k, monkeypatch):
  monkeypatch.setattr(sparse_index, "_SCORES", 1500)  # 7 queries at a time
  c, q = codes(200, 0), codes(20, 1)
  if kind == "signs":  # whose products cancel
    signs = np.random.default_rng(2).choice([-1, 1], (220, 30))
    c, q = np.sign(c) * signs[:200], np.sign(q) * signs[200:]
  if kind == "tiny":  # and underflow
    c, q = c * np.float32(1e-30), q * np.float32(1e-30)
  q[3] = 0
  c[:, 5] = 0
  c[7] = c[8]  # equal scores come by row
  found = sparse_index.SparseIndex(form(c)).search(form(q), k)
  score = q @ c.T
  shared = ((q != 0)[:, None] & (c != 0)[None]).any(axis=2)
  assert (score[shared] == 0).any() == (kind != "positive")
  work = ((q != 0)[:, None] & (c != 0)[None]).sum(axis=(1, 2))
  np.testing.assert_array_equal(found.work, work)
  for i in range(len(q)):
    touched = np.flatnonzero(((q[i] != 0) & (c != 0)).any(axis=1))
    order = touched[np.argsort(-score[i, touched], kind="stable")][:k]
    np.testing.assert_array_equal(found.hits.ids[i, : len(order)], order)
    np.testing.assert_allclose(found.hits.scores[i, : len(order)], score[i, order], rtol=1e-5)
    assert (found.hits.ids[i, len(order) :] == -1).all()
    assert (found.hits.scores[i, len(order) :] == -np.inf).all()
  assert found.work[3] == 0 and (found.hits.ids[3] == -1).all()


def test_bytes_are_those_of_the_entries():
  c = codes(50, 0)
  assert sparse_index.SparseIndex(c).nbytes == 8 * np.count_nonzero(c)


def test_an_overflow_is_refused():
  index = sparse_index.SparseIndex(np.float32([[3e38, 3e38, 0], [0, 0, 1]]))
  for last in ([1, 1, 0], [2, -2, 0]):  # inf, and inf − inf
    with pytest.raises(ValueError, match="overflow float32, the first is of query 1$"):
      index.search(np.float32([[0, 0, 1], last]), 1)


def test_mistakes():
  index = sparse_index.SparseIndex(codes(5, 0))
  with pytest.raises(ValueError, match="index's 30 coordinates, got 29"):
    index.search(codes(2, 0, h=29), 1)
  with pytest.raises(ValueError, match="k must be positive"):
    index.search(codes(2, 0), 0)
  with pytest.raises(ValueError, match=r"codes must be \[n, h\], got \[3\]"):
    sparse_index.SparseIndex(np.ones(3))
  with pytest.raises(ValueError, match="codes must be finite"):
    sparse_index.SparseIndex(np.full((1, 2), np.nan))
