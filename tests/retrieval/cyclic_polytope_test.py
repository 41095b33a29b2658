import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb.retrieval import cyclic_polytope as cp
from geoemb.retrieval import free_embedding, sign_rank
from tests import compiling


def gaps(n, k, stored, block=2000):
  """Least relevant less greatest other score of every k-subset of n, [C(n, k)]."""
  ids = free_embedding.subsets(n, k)
  rows = np.resize(ids, (-(-len(ids) // block), block, k))

  @(compiling.full_jit if n > 500 else compiling.quick_jit)
  def scored(rows):
    t = cp.angles(n, jnp.float64)
    x = cp.documents(t, k).astype(stored)

    def one(ids):
      is_relevant = (ids[..., None] == jnp.arange(n, dtype=ids.dtype)).any(axis=-2)
      scores = cp.queries(t[ids]).astype(stored) @ x.T
      return free_embedding.gap(scores, jnp.where(is_relevant, 1, -1))

    return jax.lax.map(one, rows)

  with jax.enable_x64(True):
    return np.asarray(scored(rows)).ravel()[: len(ids)]


def typed(n, ids):
  """The gap from the polynomial itself: its value 0 at relevant angles, less the next largest."""
  t = 2 * np.pi * np.arange(n, dtype=np.longdouble) / n
  values = -np.prod([1 - np.cos(t - t[i]) for i in ids], axis=0)
  coefficients = np.fft.rfft(values.astype(np.float64))[1 : len(ids) + 1] * 2 / n
  norm = np.sqrt((np.abs(coefficients) ** 2).sum())
  return -np.delete(values, ids).max() / norm / np.sqrt(len(ids))


# Least gaps for 46, 200 and 1000: measured apart from this code, to two digits.
@pytest.mark.parametrize("n, least", [(46, 3.0e-5), (200, 8.4e-8), (1000, 1.3e-10)])
def test_four_numbers_rank_all_pairs(n, least):
  found = gaps(n, 2, np.float64)
  assert len(found) == n * (n - 1) // 2
  assert (found > 0).all()
  np.testing.assert_allclose(found.min(), least, rtol=0.03)
  np.testing.assert_allclose(found.min(), typed(n, [0, 2]), rtol=1e-4)  # the hardest: neighbours
  limit = (2 * np.pi) ** 4 / 4 / np.sqrt(2 * 4.25)  # n → ∞, where the query is (2, 0, −½, 0)/√4.25
  np.testing.assert_allclose(found.min() * n**4, limit, rtol=0.01)


def test_gaps_are_those_of_the_polynomial():
  found = gaps(12, 3, np.float64)
  want = [typed(12, list(ids)) for ids in free_embedding.subsets(12, 3)]
  np.testing.assert_allclose(found, np.array(want, np.float64), rtol=1e-9)


def test_float32_is_too_narrow_for_many_documents():
  assert (gaps(46, 2, np.float32) > 0).all()
  share = (gaps(200, 2, np.float32) > 0).mean()
  assert 0.98 < share < 1  # neighbours of neighbours fall below an ulp


def test_vectors_are_on_the_sphere():
  @compiling.quick_jit
  def norms():
    t = cp.angles(9)
    return jnp.linalg.norm(cp.documents(t, 3), axis=-1), jnp.linalg.norm(cp.queries(t), axis=-1)

  for norm in norms():
    np.testing.assert_allclose(norm, 1, rtol=1e-6)


def test_arcs_rank_any_judgments_in_the_dimension_of_their_bound():
  rng = np.random.default_rng(1)
  n = 24
  relevant = np.zeros((60, n), bool)
  for row in relevant:  # one to three runs of neighbours
    for begin in rng.integers(0, n, rng.integers(1, 4)):
      row[(begin + np.arange(rng.integers(1, 4))) % n] = True
  relevant = relevant[:, rng.permutation(n)]
  dim, order = sign_rank.arcs(relevant)
  placed = relevant[:, order]
  centres, widths, mask = np.zeros((3, len(relevant), dim // 2))
  for i, row in enumerate(placed):
    begins = np.flatnonzero(row & ~np.roll(row, 1))
    for j, begin in enumerate(begins):
      length = next(c for c in itertools.count(1) if not row[(begin + c) % n])
      centres[i, j] = 2 * np.pi / n * (begin + (length - 1) / 2)
      widths[i, j] = np.pi / n * length
      mask[i, j] = 1

  @compiling.quick_jit
  def gap(centres, widths, mask):
    x = cp.documents(cp.angles(n, jnp.float64), dim // 2)
    q = cp.queries(centres, widths, mask=mask > 0)
    return free_embedding.gap(q @ x.T, jnp.where(placed, 1, -1))

  with jax.enable_x64(True):
    assert (np.asarray(gap(centres, widths, mask)) > 0).all()
