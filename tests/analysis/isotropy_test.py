"""Isotropy of clouds for which it is known in closed form."""

import numpy as np
import pytest

from geoemb.analysis import isotropy
from tests.compiling import quick_jit


@pytest.mark.parametrize("d", [2, 5, 100])
def test_isoscore_and_rank_count_even_dimensions(d):
  facts = quick_jit(lambda v: (isotropy.isoscore(v), isotropy.effective_rank(v)))
  for used in {1, 2, d - 1, d} - {0}:
    v = np.zeros(d, np.float32)
    v[:used] = 3.0
    iso, rank = facts(v)
    # (used − 1)/(d − 1) is what the score was made for [rudman2022isoscore].
    np.testing.assert_allclose(iso, (used - 1) / (d - 1), atol=1e-5)
    np.testing.assert_allclose(rank, used, rtol=1e-5)


def test_of_a_cloud():
  rng = np.random.default_rng(0)
  x = (rng.standard_normal((40, 3)) * [3, 1, 0.3] + [1, 2, 3]).astype(np.float32)

  @quick_jit
  def facts(x):
    v = isotropy.variances(x)
    return v, isotropy.variances(x, center=False), isotropy.mean_cosine(x), isotropy.isoscore(v)

  v, raw, cosine, iso = map(np.asarray, facts(x))
  np.testing.assert_allclose(v, np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1], rtol=1e-4)
  np.testing.assert_allclose(raw, np.linalg.svd(x)[1] ** 2 / 40, rtol=1e-4)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  cosines = unit @ unit.T
  np.testing.assert_allclose(cosine, cosines[~np.eye(40, dtype=bool)].mean(), rtol=1e-4)
  # Rows of zeros have cosine 0 with all.
  more = np.concatenate([x, np.zeros((2, 3), np.float32)])
  cosines = np.pad(cosines, (0, 2))
  wide = isotropy.mean_cosine(more)
  np.testing.assert_allclose(wide, cosines[~np.eye(42, dtype=bool)].mean(), rtol=1e-4)
  # The reference's steps, in float64.
  n = 3
  hat = np.sqrt(n) * v.astype(np.float64) / np.linalg.norm(v)
  defect = np.linalg.norm(hat - 1) / np.sqrt(2 * (n - np.sqrt(n)))
  want = ((n - defect**2 * (n - np.sqrt(n))) ** 2 - n) / (n * (n - 1))
  np.testing.assert_allclose(iso, want, rtol=1e-4)
