"""MaxSim, and fixed dimensional encodings of bags against the paper's words in numpy."""

import jax
import numpy as np
import pytest

from geoemb.data import ragged
from geoemb.retrieval import maxsim, muvera


def bags(sizes, d=6, seed=0):
  x = np.random.default_rng(seed).normal(size=(sum(sizes), d)).astype(np.float32)
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  return ragged.Ragged(x, np.concatenate([[0], np.cumsum(sizes)]))


def parts(x):
  return np.split(x.vectors, x.start[1:-1])


def reference(encoding, x, *, document, fill_empty=True):
  """An encoding by loops over repetitions, buckets and vectors, float64."""
  blocks = []
  for r, planes in enumerate(np.asarray(encoding.planes, np.float64)):
    y = x if encoding.signs is None else x @ np.asarray(encoding.signs[r], np.float64)
    signs = x @ planes > 0
    for bucket in range(2 ** planes.shape[1]):
      code = np.array([bucket >> j & 1 for j in range(planes.shape[1])], bool)
      differs = (signs != code).sum(axis=1)
      inside = y[differs == 0]
      if document and len(inside):
        block = inside.mean(axis=0)
      elif document and fill_empty:
        block = y[np.argmin(differs)]
      else:
        block = inside.sum(axis=0)
      blocks.append(block)
  return np.concatenate(blocks)


def test_maxsim_is_the_sum_of_maxima():
  q, p = bags([3, 1, 8, 20]), bags([5, 40, 1, 2, 9, 9], seed=1)
  want = [[(a @ b.T).max(axis=1).sum() for b in parts(p)] for a in parts(q)]
  done = []
  got = maxsim.scores(q, p, progress=lambda *seen: done.append(seen))
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
  assert done[-1] == (6, 6)
  candidates = np.array([[5, 1], [0, -1], [2, 3], [4, 0]])
  scores, ids = maxsim.rerank(q, p, candidates)
  for i, row in enumerate(candidates):
    best = sorted((j for j in row if j >= 0), key=lambda j: -want[i][j])
    np.testing.assert_array_equal(ids[i, : len(best)], best)
    np.testing.assert_allclose(scores[i, : len(best)], np.take(want[i], best), rtol=1e-5)


@pytest.mark.parametrize(("bits", "projected"), [(3, 4), (0, None)])
def test_encodings_are_the_papers(bits, projected):
  encoding = muvera.init(jax.random.key(0), 6, repetitions=3, bits=bits, projected=projected)
  x = bags([5, 1, 9])
  for document in (False, True):
    got = muvera.encode(encoding, x, documents=document)
    want = [reference(encoding, a.astype(np.float64), document=document) for a in parts(x)]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_batches_change_nothing(monkeypatch):
  """Many bags, few, and one longer than a batch."""
  encoding = muvera.init(jax.random.key(0), 6, repetitions=3, bits=2, projected=4)
  x = bags([5, 1, 9, 40, 1, 1, 1, 7, 2, 16, 3])
  done = []
  whole = muvera.encode(encoding, x, documents=True, progress=lambda *seen: done.append(seen))
  assert done == [(11, 11)]
  monkeypatch.setattr(muvera, "_TOKENS", 16)
  monkeypatch.setattr(muvera, "_BLOCKS", 2 * encoding.size)
  parts = muvera.encode(encoding, x, documents=True, progress=lambda *seen: done.append(seen))
  np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
  assert [b - a for (a, _), (b, _) in zip(done[1:], done[2:])] == [1, 1, 2, 2, 1, 1, 1]
  one = muvera.document(encoding, np.split(x.vectors, x.start[1:-1])[3])
  np.testing.assert_allclose(one, whole[3], rtol=1e-5, atol=1e-6)


def test_empty_buckets_are_left_empty_on_request():
  encoding = muvera.init(jax.random.key(0), 6, repetitions=2, bits=4, projected=3)
  x = bags([5, 2])
  got = muvera.encode(encoding, x, documents=True, fill_empty=False)
  want = [reference(encoding, a, document=True, fill_empty=False) for a in parts(x)]
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_estimates_rise_to_maxsim_and_never_pass_it():
  """Without projections, for every draw; and the finer the buckets, the nearer."""
  q, p = bags([12] * 6), bags([30] * 10, seed=1)
  exact, means = maxsim.scores(q, p), []
  for bits in (1, 4, 7):
    encoding = muvera.init(jax.random.key(1), 6, repetitions=20, bits=bits, projected=None)
    f, g = (muvera.encode(encoding, x, documents=d) for x, d in ((q, False), (p, True)))
    estimate = f @ g.T / 20
    assert (estimate <= exact + 1e-4).all()
    means.append((estimate / exact).mean())
  assert means[0] + 0.1 < means[1] < means[2] - 0.1


@pytest.mark.parametrize("final", [None, 512])
def test_projections_are_right_on_average(final):
  q, p = bags([8] * 3), bags([8] * 4, seed=1)
  plain = muvera.init(jax.random.key(2), 6, repetitions=1, bits=2, projected=None)
  want = muvera.encode(plain, q, documents=False) @ muvera.encode(plain, p, documents=True).T
  found = []
  for key in jax.random.split(jax.random.key(3), 100):
    other = muvera.init(key, 6, repetitions=1, bits=2, projected=8, final=final)
    other = other.replace(planes=plain.planes)
    f, g = (muvera.encode(other, x, documents=d) for x, d in ((q, False), (p, True)))
    found.append(f @ g.T)
  error = np.std(found, axis=0) / np.sqrt(len(found))
  assert (np.abs(np.mean(found, axis=0) - want) < 4.5 * error).all()


def test_bad_input_is_refused():
  encoding = muvera.init(jax.random.key(0), 6, final=32)
  assert encoding.size == 32
  with pytest.raises(ValueError, match="for 6 dimensions, got 5"):
    muvera.encode(encoding, bags([3], d=5), documents=True)
  with pytest.raises(ValueError, match="one dimension, got 5 and 6"):
    maxsim.scores(bags([3], d=5), bags([3]))
  with pytest.raises(ValueError, match=r"must be \[1, c\]"):
    maxsim.rerank(bags([3]), bags([3]), [[0], [0]])
  with pytest.raises(ValueError, match="rows of 1 documents"):
    maxsim.rerank(bags([3]), bags([3]), [[1]])
  with pytest.raises(ValueError, match="at most 16"):
    muvera.init(jax.random.key(0), 6, bits=17)
