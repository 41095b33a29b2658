import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb.losses import relevance
from tests import compiling

LOSSES = {
  "infonce": lambda s, y: relevance.infonce(s, y, temperature=0.1),
  "sigmoid": lambda s, y: relevance.sigmoid(s, y, scale=10.0, bias=-3.0),
  "hinge": lambda s, y: relevance.top_k_hinge(s, y, margin=0.2, temperature=0.1),
}


def typed(name, s, y):
  """One query's loss as the papers have it, in extended precision and without padding."""
  s, y = s[y != 0].astype(np.longdouble), y[y != 0]
  if name == "infonce":
    return sum(-np.log(np.exp(p / 0.1) / np.exp(s / 0.1).sum()) for p in s[y > 0])
  if name == "sigmoid":
    return -np.log(1 / (1 + np.exp(-y * (10 * s - 3)))).sum()
  if not (y > 0).any() or not (y < 0).any():
    return 0.0
  above, below = (
    0.1 * np.log(np.exp(s[y < 0] / 0.1).sum()),
    -0.1 * np.log(np.exp(-s[y > 0] / 0.1).sum()),
  )
  return 0.1 * np.log1p(np.exp((0.2 + above - below) / 0.1))


@pytest.fixture(scope="module")
def facts():
  """Values and gradients of every loss, for random scores, padding and the largest numbers."""
  rng = np.random.default_rng(0)
  y = rng.choice(np.array([1, -1, 0], np.int8), (40, 6))
  y[:4] = [[0] * 6, [1] * 6, [-1] * 6, [1, -1, 0, 0, 0, 0]]
  s = rng.uniform(-1, 1, y.shape).astype(np.float32)
  huge = (s * np.float32(3.4e38)).astype(np.float32)

  @compiling.quick_jit
  def evaluate(s):
    pull = lambda f: jax.vjp(lambda s: f(s, jnp.asarray(y)), s)
    results = {name: pull(f) for name, f in LOSSES.items()}
    ones = jnp.ones(len(y), s.dtype)
    return {name: (value, back(ones)[0]) for name, (value, back) in results.items()}

  return s, y, evaluate(s), evaluate(huge)


@pytest.mark.parametrize("name", LOSSES)
def test_is_what_the_papers_write(facts, name):
  s, y, results, _ = facts
  want = [typed(name, *row) for row in zip(s, y)]
  np.testing.assert_allclose(results[name][0], np.array(want, np.float64), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_absent_documents_have_no_gradient(facts, name):
  _, y, results, _ = facts
  assert not np.any(np.asarray(results[name][1])[y == 0])
  assert np.asarray(results[name][0])[0] == 0


@pytest.mark.parametrize("name", LOSSES)
def test_pulls_relevant_up_and_irrelevant_down(facts, name):
  _, y, results, _ = facts
  g = np.asarray(results[name][1])
  assert (g[y < 0] >= 0).all()
  if name != "infonce":  # where a relevant document is most of the softmax it makes way for others
    assert (g[y > 0] <= 0).all()
  np.testing.assert_array_equal(np.sign(g[3, :2]), [-1, 1])


@pytest.mark.parametrize("name", LOSSES)
def test_largest_scores_give_finite_values_and_gradients(facts, name):
  for part in facts[3][name]:
    assert np.isfinite(part).all()


def test_a_small_hinge_means_a_right_ranking(facts):
  s, y, results, _ = facts
  below = np.asarray(results["hinge"][0]) < 0.1 * np.log1p(np.exp(0.2 / 0.1))
  low = np.where(y > 0, s, np.inf).min(axis=1)
  right = low > np.where(y < 0, s, -np.inf).max(axis=1)
  assert right[below].all() and below.sum() > 5
  assert not right.all()
