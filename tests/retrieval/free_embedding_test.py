import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.retrieval import free_embedding as fe
from tests import compiling


def pairs(n):
  return fe.labels_of(fe.subsets(n, 2), n)


def paper(q, x, relevant, steps):
  """The loss before each step of the paper's protocol, typed in float64 numpy."""
  params, losses = [np.float64(q), np.float64(x)], []
  moments = [[np.zeros_like(p), np.zeros_like(p)] for p in params]
  for t in range(1, steps + 1):
    z = params[0] @ params[1].T / 0.1
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    losses.append(-log_p[relevant].sum() / relevant.sum())
    g_z = (relevant.sum(axis=1, keepdims=True) * np.exp(log_p) - relevant) / relevant.sum() / 0.1
    for i, g in enumerate((g_z @ params[1], g_z.T @ params[0])):
      mean, square = moments[i]
      mean[:], square[:] = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
      step = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
      params[i] = params[i] - 0.01 * step
    params = [p / np.linalg.norm(p, axis=1, keepdims=True) for p in params]
  return params, losses


@pytest.fixture(scope="module")
def fit():
  """Fits pairs of n of 8 documents in d of 6 numbers: one program, so padding is under test too."""

  @compiling.quick_jit
  def run(key, dim, n, steps, patience):
    model = fe.narrowed(fe.unit(6, 0.01), dim)
    labels = fe.subset_labels(jnp.asarray(pairs(8)), n, n * (n - 1) // 2)
    start = model.init(key, *labels.shape)
    return start, fe.fit(key, model, fe.infonce(0.1), labels, steps=steps, patience=patience)

  def call(dim, n=6, steps=100_000, patience=1000):
    numbers = (jnp.int32(x) for x in (dim, n, steps, patience))
    return jax.device_get(run(jax.random.key(0), *numbers))

  return call


def test_takes_the_papers_steps(fit):
  (q, x), found = fit(4, steps=50)
  params, losses = paper(q[:15, :4], x[:6, :4], pairs(6) > 0, 50)
  assert found.steps == 50
  np.testing.assert_allclose(found.loss, min(losses), rtol=1e-4)
  for ours, theirs in zip(found.params, params):  # float32 against float64, 50 steps of Adam
    np.testing.assert_allclose(ours[: len(theirs), :4], theirs, atol=2e-3)


def test_stops_when_all_are_right(fit):
  _, found = fit(4)
  assert found.solved == 1 and found.steps % 50 == 0
  q, x = found.params
  for scores, row in zip(q[:15] @ x[:6].T, pairs(6)):
    assert scores[row > 0].min() > scores[row < 0].max()


def test_stops_when_the_loss_stands_still(fit):
  _, found = fit(2, patience=200)
  assert found.solved < 1  # the pairs of six points in a plane are not all parted from the rest
  assert 200 <= found.steps < 20_000


def test_the_numbers_that_a_narrow_model_lacks_stay_zero(fit):
  for x in fit(4)[1].params:
    assert not x[:, 4:].any() and x[:, :4].all()


@pytest.mark.parametrize(
  "model, objective",
  [
    (fe.on_manifold(manifolds.make("euclidean"), 4, 0.05), fe.sigmoid()),
    (fe.boxes_of(6, 0.05, temperature=0.1), fe.infonce(0.1)),
    (fe.unit(6, 0.05, vectors=2), fe.hinge(0.1)),
  ],
  ids=["distances, sigmoid", "boxes", "maxsim, hinge"],
)
def test_other_geometries_and_losses_rank_pairs_too(model, objective):
  run = lambda key: fe.fit(key, model, objective, jnp.asarray(pairs(4)), steps=3000).solved
  assert compiling.quick_jit(run)(jax.random.key(0)) == 1


def test_maxsim_is_typed():
  model = fe.unit(6, 0.01, vectors=2)

  @compiling.quick_jit
  def scored(key):
    params = model.init(key, 3, 4)
    return *params, model.score(params)

  q, x, scores = scored(jax.random.key(0))
  assert q.shape == (3, 2, 3)
  want = [
    [sum(max(float(np.dot(a, b)) for b in doc) for a in query) for doc in np.asarray(x)]
    for query in np.asarray(q)
  ]
  np.testing.assert_allclose(scores, want, rtol=1e-5)


def test_ties_are_wrong_and_what_is_absent_does_not_count():
  scores = np.float32([[1, 0, 9], [1, 1, 0], [0, 1, 2], [3, 3, 3]])
  labels = np.int8([[1, -1, 0], [1, -1, -1], [1, -1, -1], [0, 0, 0]])
  np.testing.assert_array_equal(jax.jit(fe.gap)(scores, labels), [1, 0, -2, np.inf])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_subsets_of_fewer_documents_come_first(k):
  found = fe.subsets(7, k)
  assert sorted(map(tuple, found.tolist())) == list(itertools.combinations(range(7), k))
  for n in range(k, 7):
    np.testing.assert_array_equal(found[: math.comb(n, k)], fe.subsets(n, k))


@pytest.mark.parametrize("start", [1, 5, 9, 10, 11, 30])
def test_the_search_finds_the_edge(start):
  asked = []
  found = fe.critical(lambda n: asked.append(n) or n <= 10, start, least=2)
  assert (found.solved, found.failed) == (10, 11)
  assert len(asked) == len(set(asked)) and set(range(6, 16)) <= found.tried.keys()


def test_the_search_sees_luck_beyond_the_edge():
  found = fe.critical(lambda n: n <= 10 or n == 13, 9)
  assert (found.solved, found.failed) == (13, 11)


def test_the_search_stays_within_its_limits():
  assert fe.critical(lambda n: True, 3, least=2, most=7)[:2] == (7, None)
  assert fe.critical(lambda n: False, 30, least=2)[:2] == (None, 2)
  assert fe.critical(lambda n: n < 3, 2, least=2, most=2)[:2] == (2, None)


def test_says_what_does_not_divide():
  with pytest.raises(ValueError, match="vectors must divide dim, got 2 and 5"):
    fe.unit(5, 0.01, vectors=2)
  with pytest.raises(ValueError, match="even for boxes .*, got 5"):
    fe.boxes_of(5, 0.01, temperature=0.1)
