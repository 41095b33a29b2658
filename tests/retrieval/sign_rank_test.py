import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse

from geoemb.data import qrels
from geoemb.retrieval import sign_rank


def judgments(sets, n):
  rows = np.zeros((len(sets), n), bool)
  for row, ids in zip(rows, sets):
    row[list(ids)] = True
  return rows


LIMIT = judgments(list(itertools.islice(itertools.combinations(range(46), 2), 1000)), 46)


def test_the_dimension_of_limit_is_four():
  assert sign_rank.radon(LIMIT) == 4
  assert sign_rank.arcs(LIMIT).dim == 4


@pytest.mark.parametrize("n, k, dim", [(3, 1, 2), (5, 2, 3), (6, 2, 4), (9, 2, 4), (9, 3, 6)])
def test_all_subsets_of_enough_documents_need_twice_their_size(n, k, dim):
  assert sign_rank.radon(judgments(list(itertools.combinations(range(n), k)), n)) == dim


def test_judgments_that_fit_a_line_are_not_said_to_need_more():
  thresholds = np.tri(6, dtype=bool)[:-1]
  assert sign_rank.radon(thresholds) == 1


def test_bounds_do_not_cross():
  rng = np.random.default_rng(0)
  for _ in range(30):
    rows = rng.random((12, 7)) < 0.4
    assert sign_rank.radon(rows) <= sign_rank.arcs(rows).dim
    assert sign_rank.forster(rows) - 1 <= sign_rank.arcs(rows).dim


def test_the_search_is_exhaustive_where_it_can_be():
  rng = np.random.default_rng(1)
  for _ in range(20):
    rows = rng.random((9, 5)) < 0.5
    best = 1
    for size in range(2, 6):
      for chosen in itertools.combinations(range(5), size):
        traces = {tuple(row) for row in rows[:, chosen]}
        parted = traces | {tuple(not x for x in t) for t in traces}
        parted -= {(True,) * size, (False,) * size}
        best = max(best, size) if len(parted) == 2**size - 2 else best
    assert sign_rank.radon(rows) == min(max(1, best - 1), sign_rank.arcs(rows).dim)


def test_a_spectral_order_finds_the_line():
  rng = np.random.default_rng(2)
  shuffled = judgments([(i, i + 1) for i in range(19)], 20)[:, rng.permutation(20)]
  assert sign_rank.arcs(shuffled).dim == 2


def test_forster_is_the_root_for_hadamard_matrices_and_one_for_one_sign():
  np.testing.assert_allclose(sign_rank.forster(scipy.linalg.hadamard(16) > 0), 4)
  np.testing.assert_allclose(sign_rank.forster(np.zeros((5, 9), bool)), 1)


def test_the_margin_bound_counts_sets():
  pairs = judgments(list(itertools.combinations(range(46), 2)), 46)
  want = np.log(1035) / np.log(11)
  np.testing.assert_allclose(sign_rank.by_margin(np.concatenate([pairs, pairs]), 0.1), want)
  with pytest.raises(ValueError, match=r"margin must be in \(0, 1\], got 0"):
    sign_rank.by_margin(pairs, 0)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_density_of_limit_is_the_papers(form):
  graph, strength = sign_rank.density(form(LIMIT))
  assert f"{graph:.6f} {strength:.4f}" == "0.085481 28.4653"


def test_density_of_scifact_is_the_papers(data_root):
  found = qrels.read(f"{data_root}/scifact/qrels/test.tsv")
  sets = [[d for d, grade in row.items() if grade > 0] for row in found.values()]
  ids = {d: i for i, d in enumerate({d: None for row in sets for d in row})}
  graph, strength = sign_rank.density(judgments([[ids[d] for d in row] for row in sets], len(ids)))
  assert f"{graph:.6f} {strength:.4f}" == "0.001449 0.4222"


def test_density_of_nothing_in_common_is_zero():
  assert sign_rank.density(np.eye(3)) == (0, 0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,)])
def test_refuses_what_is_no_matrix(shape):
  with pytest.raises(ValueError, match="relevant must be"):
    sign_rank.arcs(np.zeros(shape, bool))
