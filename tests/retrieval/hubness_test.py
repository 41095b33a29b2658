"""Hubness against definitions typed with loops, and its laws."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from geoemb import manifolds
from geoemb.retrieval import exact, hubness

K = 4


@functools.cache
def vectors(n=60, d=5):
  x = np.random.default_rng(0).normal(size=(n, d)) + 1
  x[7] = x[3]  # a duplicate
  return x


def distances(x, y):
  unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)
  return 1 - unit(x) @ unit(y).T


def others(x):
  """Distances of each row to the others, [n, n − 1]."""
  d = distances(x, x)
  return d[~np.eye(len(x), dtype=bool)].reshape(len(x), -1)


def local_scaling(d, x, y):
  sigma = lambda a: np.sort(a, axis=1)[:, 4]
  return -np.exp(2 * np.log(d) - np.log(sigma(x)[:, None] * sigma(y)[None]))


def mp(d, x, y):
  over = lambda a, d: 1 - stats.norm.cdf(d, a.mean(axis=1), a.std(axis=1))
  return over(x, d.T).T * over(y, d)


def csls(d, x, y):
  mean = lambda a: np.sort(a, axis=1)[:, :10].mean(axis=1)
  return 2 * (1 - d) - (1 - mean(x))[:, None] - (1 - mean(y))[None]


def inverted_softmax(d, x, y):
  return np.exp(30 * (1 - d)) / np.exp(30 * (1 - y)).sum(axis=1)


@pytest.mark.parametrize("block", [1 << 22, 100])
@pytest.mark.parametrize("name", ["local_scaling", "mp", "csls", "inverted_softmax"])
def test_secondary_similarities_are_their_definitions(name, block, monkeypatch):
  monkeypatch.setattr(hubness, "_BLOCK", block)
  x, similarity = vectors(), globals()[name]
  queries = np.random.default_rng(1).normal(size=(9, 5)) + 1
  fitted = hubness.fit(x, hubness.SECONDARY[name]())
  far = distances(queries, x)
  want = np.argsort(-similarity(far, far, others(x)), axis=1, kind="stable")[:, :K]
  got = hubness.search(fitted, K, queries)
  np.testing.assert_array_equal(got.ids, want)
  assert (np.diff(got.scores, axis=1) <= 0).all()
  near = distances(x, x)
  np.fill_diagonal(near, 1.9)
  near[3, 7] = near[7, 3] = 1e-14  # of equal rows, where rounding may leave less than 0
  scores = similarity(near, others(x), others(x))
  np.fill_diagonal(scores, -np.inf)
  got = hubness.search(fitted, K).ids
  rest = np.setdiff1d(np.arange(60), [3, 7])  # where the two tie, either may come first
  np.testing.assert_array_equal(
    np.where(got == 7, 3, got)[rest],
    np.where(np.argsort(-scores, axis=1)[:, :K] == 7, 3, np.argsort(-scores, axis=1)[:, :K])[rest],
  )


def test_empirical_mutual_proximity():
  x = np.random.default_rng(2).normal(size=(40, 3))
  d = distances(x, x)
  share = np.full((40, 40), -np.inf)
  for i in range(40):
    for j in set(range(40)) - {i}:
      both = [d[i, l] > d[i, j] and d[j, l] > d[i, j] for l in range(40)]
      share[i, j] = np.mean(both)
  for candidates in (39, 100):
    fitted = hubness.fit(x, hubness.mutual_proximity_empirical(candidates))
    got = hubness.search(fitted, K)
    np.testing.assert_allclose(
      np.take_along_axis(share, got.ids, 1), -np.sort(-share, axis=1)[:, :K], atol=1e-12
    )
  sampled = hubness.fit(x, hubness.mutual_proximity_empirical(10, sample=20))
  assert sampled.about[0].shape == (40, 20)
  ids = hubness.search(sampled, K).ids
  nearest = np.argsort(np.where(np.eye(40, dtype=bool), 9, d), axis=1)[:, :10]
  assert all(set(row) <= set(ten) for row, ten in zip(ids, nearest))


@pytest.mark.parametrize("by", ["cosine", "euclidean", "lorentz"])
def test_without_a_secondary_it_is_exact_search(by):
  x = vectors()[8:]  # no duplicates
  space = by if by == "cosine" else manifolds.make(by)
  want = exact.search(x, x, K + 1, by=space).ids[:, 1:]
  got = hubness.search(hubness.fit(x, by=space), K)
  np.testing.assert_array_equal(got.ids, want)
  assert (hubness.search(hubness.fit(x, by=space), 100).ids == -1).sum() == 52 * (100 - 51)
  if by == "euclidean":
    np.testing.assert_array_equal(hubness.search(hubness.fit(x, by=by), K).ids, want)


@pytest.mark.parametrize("by", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", ["none", "local_scaling"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies_come_before_strangers(by, name, dtype, monkeypatch):
  monkeypatch.setattr(hubness, "_BLOCK", 3000)  # copies in several parts
  x = (np.random.default_rng(0).standard_t(3, (300, 100)) + 5).astype(dtype)
  x = np.concatenate([x, *[x[:1]] * 7])
  secondary = None if name == "none" else hubness.SECONDARY[name]()
  fitted = hubness.fit(x, secondary, by=by)
  copies = {0, *range(300, 307)}  # among themselves they tie but for rounding
  assert set(hubness.search(fitted, 7).ids[0]) == copies - {0}
  assert set(hubness.search(fitted, 8, x[:1]).ids[0]) == copies


def test_distances_below_rounding_are_those_of_differences():
  """Against longdouble, of rows that are up to 1e-9 apart where products tell 1e-7 from 0."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 20)) + 1
  x = x + rng.normal(size=(30, 20)) * np.geomspace(1e-13, 1e-9, 30)[:, None]
  wide = x.astype(np.longdouble)
  unit = wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))
  for by, y in (("euclidean", wide), ("cosine", unit)):
    gap = np.square(y[:, None] - y[None]).sum(axis=-1)
    want = np.sqrt(gap) if by == "euclidean" else gap / 2
    fitted = hubness.fit(x, by=by)
    ((_, got),) = hubness._distances(fitted, fitted.table, fitted.table)
    np.testing.assert_allclose(got[-3:, :3], want[-3:, :3].astype(float), rtol=1e-5)
    assert not np.diagonal(got).any()


def test_measures():
  ids = np.array([[0, 1], [0, 2], [0, 1], [0, -1], [0, 1]])
  count = np.array([5, 3, 1, 0])
  np.testing.assert_array_equal(hubness.occurrences(ids, 4), count)
  got = hubness.measures(ids, 4)
  m = count - 2.25
  np.testing.assert_allclose(got.skewness, np.mean(m**3) / np.mean(m**2) ** 1.5)
  np.testing.assert_allclose(got.robin_hood, np.abs(m).sum() / 18)
  assert (got.antihubs, got.hubs, got.largest) == (0.25, 0.25, 5)
  even = hubness.measures(np.array([[1], [0]]), 2)
  assert (even.skewness, even.robin_hood) == (0, 0)


def test_secondary_similarities_reduce_hubs():
  """Where they are known to arise: many dimensions, few points [radovanovic2010hubs]."""
  x = np.random.default_rng(0).normal(size=(500, 60)) + 0.3
  skewness = lambda s: hubness.measures(hubness.search(hubness.fit(x, s), 10).ids, 500).skewness
  raw = skewness(None)
  assert raw > 1
  for name in ("local_scaling", "mp", "csls"):
    assert skewness(hubness.SECONDARY[name]()) < 0.7 * raw, name


def test_votes_go_to_the_commonest_and_then_the_nearest():
  labels = np.array([[1, 2, 2, 3], [4, 5, 5, 4], [7, 8, 9, 6]])
  np.testing.assert_array_equal(hubness.vote(labels), [2, 4, 7])


def test_matched_marginals():
  x = np.random.default_rng(0).gumbel(size=(400, 3))
  for name, law in (("f-norm", stats.norm()), ("f-unif", stats.uniform(-1, 2))):
    got = hubness.matched(name, x)
    np.testing.assert_array_equal(got.argsort(axis=0), x.argsort(axis=0))
    for column in got.T:
      assert stats.kstest(column, law.cdf).pvalue > 1e-3
    inductive = hubness.fit_map(name, x)(x)
    np.testing.assert_array_equal(inductive.argsort(axis=0), x.argsort(axis=0))
    np.testing.assert_allclose(
      np.sort(inductive, axis=0), law.ppf(np.arange(0.5, 400) / 400)[:, None] + np.zeros(3)
    )


@pytest.mark.parametrize("name", ["f-norm", "f-unif"])
def test_equal_values_get_the_mean_of_their_draws(name):
  x = np.array([[5.0, 1, 0], [5, 2, 0], [5, 1, 3], [5, 1, 0]])
  got = hubness.matched(name, x)
  draws = np.sort(hubness.matched(name, np.arange(12.0).reshape(4, 3)), axis=0)
  expected = np.stack(
    [
      draws[:, 0].mean() * np.ones(4),
      np.where(x[:, 1] == 2, draws[3, 1], draws[:3, 1].mean()),
      np.where(x[:, 2] == 3, draws[3, 2], draws[:3, 2].mean()),
    ],
    axis=1,
  )
  np.testing.assert_allclose(got, expected)


def test_maps_take_their_constants_from_train():
  x, new = vectors(), np.array([[99.0, -99, 0, 1, 1]])
  np.testing.assert_allclose(hubness.fit_map("center", x)(x).mean(axis=0), 0, atol=1e-12)
  z = hubness.fit_map("zscore", x)
  np.testing.assert_allclose(z(x).std(axis=0), 1)
  np.testing.assert_allclose(z(new), (new - x.mean(axis=0)) / x.std(axis=0))
  ends = hubness.fit_map("f-norm", x)(new)[0, :2]
  np.testing.assert_allclose(ends, stats.norm.ppf([59.5 / 60, 0.5 / 60]))
  constant = np.concatenate([x, np.ones((60, 1))], axis=1)
  for name in ("zscore", "f-norm"):
    np.testing.assert_allclose(hubness.fit_map(name, constant)(constant)[:, -1], 0, atol=1e-12)


@pytest.mark.parametrize("name", ["sphere", "poincare"])
def test_lifts_keep_directions_and_lengths(name):
  m, x = manifolds.make(name), vectors()
  points = hubness.fit_lift(m, x, radius=1.5)(x)

  @jax.jit
  def polar(points):
    return m.dist0(points), m.log0(points)

  with jax.enable_x64(True):
    r, v = map(np.asarray, polar(points))
  length = np.linalg.norm(x - x.mean(axis=0), axis=1)
  np.testing.assert_allclose(r, 1.5 * length / length.mean(), rtol=1e-6)
  cosines = lambda v: 1 - distances(v, v)
  np.testing.assert_allclose(cosines(v), cosines(x - x.mean(axis=0)), atol=1e-6)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: hubness.fit(np.ones((1, 3))), "at least two rows"),
    (lambda: hubness.fit(np.zeros((3, 3))), "no cosine with any: table 0"),
    (lambda: hubness.fit(np.full((3, 3), np.nan)), "table must be finite"),
    (lambda: hubness.fit(np.ones((3, 3)), by="dot"), 'must be "cosine", "euclidean" or'),
    (lambda: hubness.search(hubness.fit(np.ones((3, 3))), 0), "k must be positive"),
    (lambda: hubness.search(hubness.fit(np.ones((3, 3))), 1, np.ones((1, 2))), "must be points"),
    (lambda: hubness.fit_map("f-cauchy", np.ones((3, 3))), "the map must be one of"),
    (lambda: hubness.matched("center", np.ones((3, 3))), "f-norm or f-unif"),
    (lambda: hubness.fit_map("none", np.eye(3))(np.ones((2, 4))), r"x must be .* \[n, 3\], got"),
    (lambda: hubness.fit_map("center", np.eye(3))(np.ones((2, 1))), r"\[n, 3\], got \(2, 1\)"),
    (lambda: hubness.fit_map("zscore", np.eye(3))(np.ones((2, 1))), r"\[n, 3\], got \(2, 1\)"),
    (lambda: hubness.fit_map("f-norm", np.eye(3))(np.ones((2, 4))), r"\[n, 3\], got \(2, 4\)"),
    (
      lambda: hubness.fit_lift(manifolds.make("lorentz"), np.eye(3), radius=1)(np.ones((2, 1))),
      r"\[n, 3\], got \(2, 1\)",
    ),
    (lambda: hubness.csls(0), "k must be positive, got 0"),
    (lambda: hubness.local_scaling(-1), "k must be positive, got -1"),
    (lambda: hubness.mutual_proximity_empirical(0), "candidates must be positive, got 0"),
    (lambda: hubness.mutual_proximity_empirical(5, sample=0), "sample must be positive, got 0"),
    (lambda: hubness.occurrences([[3]], 3), "between -1 and 2"),
    (lambda: hubness.measures([[-1]], 3), "with some neighbour"),
    (
      lambda: hubness.fit_lift(manifolds.make("lorentz"), np.ones((3, 3)), radius=1),
      "must not all be equal",
    ),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
