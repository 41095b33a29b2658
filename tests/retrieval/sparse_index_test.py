import numpy as np
import pytest
import scipy.sparse

from geoemb.retrieval import sparse_index


def codes(n, seed, h=30, density=0.15):
  rng = np.random.default_rng(seed)
  return scipy.sparse.random_array((n, h), density=density, rng=rng).toarray().astype(np.float32)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, scipy.sparse.coo_array])
def test_finds_and_counts_what_a_dense_search_does(form):
  c, q = codes(200, 0), codes(20, 1)
  q[3] = 0
  c[:, 5] = 0
  c[7] = c[8]  # equal scores come by row
  found = sparse_index.SparseIndex(form(c)).search(form(q), 10)
  score = q @ c.T
  work = ((q != 0)[:, None] & (c != 0)[None]).sum(axis=(1, 2))
  np.testing.assert_array_equal(found.work, work)
  for i in range(len(q)):
    touched = np.flatnonzero(((q[i] != 0) & (c != 0)).any(axis=1))
    order = touched[np.argsort(-score[i, touched], kind="stable")][:10]
    np.testing.assert_array_equal(found.hits.ids[i, : len(order)], order)
    np.testing.assert_allclose(found.hits.scores[i, : len(order)], score[i, order], rtol=1e-5)
    assert (found.hits.ids[i, len(order) :] == -1).all()
    assert (found.hits.scores[i, len(order) :] == -np.inf).all()
  assert found.work[3] == 0 and (found.hits.ids[3] == -1).all()


def test_bytes_are_those_of_the_entries():
  c = codes(50, 0)
  assert sparse_index.SparseIndex(c).nbytes == 8 * np.count_nonzero(c)


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
