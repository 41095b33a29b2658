"""Dimensions of sets whose dimension is known, and another library's estimates."""

import warnings

import jax
import numpy as np
import pytest

from geoemb.analysis import dimension
from tests.compiling import quick_jit

K = 10


def cube(m, n=1500, d=8, seed=0):
  """Uniform in a cube of dimension m, turned into d dimensions."""
  rng = np.random.default_rng(seed)
  basis = np.linalg.qr(rng.standard_normal((d, m)))[0]
  return rng.random((n, m)) @ basis.T


@pytest.fixture(scope="module")
def distances():
  compute = quick_jit(lambda x: dimension.neighbor_distances(x, K))
  return lambda x: np.asarray(compute(np.asarray(x, np.float32)))


def test_distances_are_those_of_brute_force(distances):
  x = cube(3)
  x[7] = x[8]  # copies are no neighbours of each other
  x[20] = x[21] + 1e-5
  d = np.linalg.norm(x[:, None] - x, axis=-1)
  d[d == 0] = np.inf
  np.testing.assert_allclose(distances(x + 100.0), np.sort(d)[:, :K], atol=2e-5)
  np.testing.assert_allclose(distances(x)[20, 0], 1e-5 * 8**0.5, rtol=1e-2)


def test_a_place_may_have_any_number_of_copies(distances):
  x = cube(3)
  x[:100, 1:] = x[0, 1:]  # a line, and on it
  x[:40] = x[0]  # more copies than neighbours
  d = np.linalg.norm(x[:, None] - x, axis=-1)
  d[d == 0] = np.inf
  np.testing.assert_allclose(distances(x), np.sort(d)[:, :K], atol=2e-5)


@pytest.mark.parametrize("m", [1, 2, 4])
def test_dimension_of_cubes(distances, m):
  d = distances(cube(m))
  for estimate in (dimension.two_nn, dimension.levina_bickel):
    assert abs(estimate(d) - m) < 0.25 * m  # edges, and 1,500 points
  assert dimension.levina_bickel(d, harmonic=True) < dimension.levina_bickel(d)


def test_dimension_does_not_depend_on_scale(distances):
  d = distances(cube(2))
  for estimate in (dimension.two_nn, dimension.levina_bickel):
    np.testing.assert_allclose(estimate(1000 * d), estimate(d), rtol=1e-3)


def test_formulas():
  d = np.sort(np.random.default_rng(0).random((50, K)) + 0.1)
  mu = np.sort(np.log(d[:, 1] / d[:, 0]))[:45]
  y = -np.log(1 - np.arange(1, 46) / 50)
  with jax.enable_x64(True):
    np.testing.assert_allclose(dimension.two_nn(d), np.linalg.lstsq(mu[:, None], y)[0][0])
    inverse = [sum(np.log(row[-1] / t) for t in row[:-1]) / (K - 1) for row in d]
    np.testing.assert_allclose(dimension.levina_bickel(d), np.mean(1 / np.array(inverse)))


def test_agrees_with_scikit_dimension(distances):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    skdim = pytest.importorskip("skdim", reason="an oracle, in no extra")
    x = cube(4)
    two_nn = skdim.id.TwoNN(discard_fraction=0.1).fit(x).dimension_
    mle = skdim.id.MLE(K=K).fit(x, n_neighbors=K, comb="mean").dimension_
  d = distances(x)
  np.testing.assert_allclose(dimension.two_nn(d), two_nn, rtol=0.02)
  np.testing.assert_allclose(dimension.levina_bickel(d), mle, rtol=0.02)


def test_mistakes():
  with pytest.raises(ValueError, match="k must be between 1 and 2, got 3"):
    dimension.neighbor_distances(np.zeros((3, 2)), 3)
  with pytest.raises(ValueError, match="leave the last of 4 points out"):
    dimension.two_nn(np.ones((4, 2)), share=1.0)
