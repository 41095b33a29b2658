"""Neighbours in a store: against `Embedding`, whose distances have oracles, numpy and gensim."""

import warnings

import numpy as np
import pytest

from geoemb.tables import embedding, neighbours, store


def words(path, table, *args, **options):
  keys = tuple(f"w{i}" for i in range(len(table)))
  store.write(path, keys, table, *args, grams=False, **options)
  return store.Store(path)


@pytest.fixture
def flat(tmp_path):
  return words(tmp_path / "x", np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32))


def points(name, n=64):
  """Float32 points, two of them equal."""
  x = 0.3 * np.random.default_rng(0).standard_normal((n, 4))
  if name == "spd":
    x = np.eye(2) + (x @ np.eye(4, 3))[:, [[0, 1], [1, 2]]] / 2
  x[41] = x[17]
  return x.astype(np.float32)


@pytest.mark.parametrize("name", ["euclidean", "poincare", "h2 x e2", "spd"])
def test_nearest_are_by_the_distance_of_the_manifold(tmp_path, monkeypatch, name):
  c = (0.5, 1.0) if " x " in name else 0.5
  x = points(name)  # with a tie, and a point that is no answer to itself though its twin is
  monkeypatch.setattr(neighbours, "_NUMBERS", 64)  # several blocks
  s = words(tmp_path / "x", x, name, c)
  found = neighbours.nearest(s, "w17", 7)
  assert found[0] == ("w41", 0.0)
  expected = embedding.Embedding(tuple(s.keys()), x, name, c).nearest("w17", 7)
  assert [key for key, _ in found] == [key for key, _ in expected]
  np.testing.assert_allclose([d for _, d in found], [d for _, d in expected], rtol=1e-12)
  both = neighbours.nearest(s, ["w3", s.vector("w17")], 3)
  assert both[0] == neighbours.nearest(s, "w3", 3)
  assert [key for key, _ in both[1]] == ["w17", "w41", found[1][0]]  # a point excludes nothing
  assert len(neighbours.nearest(s, "w3", 1000)) == 63 and neighbours.nearest(s, "w3", 0) == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_most_similar_by_numpy(tmp_path, monkeypatch, dtype):
  monkeypatch.setattr(neighbours, "_PRODUCTS", 64)
  table = np.random.default_rng(0).standard_normal((50, 6))
  table[30] = 0  # similar to nothing
  s = words(tmp_path / "x", table, dtype=dtype)
  x = s.table.astype(np.float64)
  with np.errstate(invalid="ignore"):
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
  query = u[1] + u[2] - u[3]
  tolerance = 1e-12 if dtype == "float64" else 1e-6
  for found, score in (
    (
      neighbours.most_similar(s, ["w1", "w2"], ["w3"], 48),
      u @ query / np.linalg.norm(query),
    ),
    (
      neighbours.most_similar_cosmul(s, ["w1", "w2"], ["w3"], 48),
      (1 + u @ u[1]) / 2 * (1 + u @ u[2]) / 2 / ((1 + u @ u[3]) / 2 + 1e-6),
    ),
  ):
    score[[1, 2, 3]] = np.nan
    order = [i for i in np.argsort(-score) if np.isfinite(score[i])]
    assert [key for key, _ in found] == [f"w{i}" for i in order]
    np.testing.assert_allclose([v for _, v in found], score[order], rtol=tolerance, atol=tolerance)


def test_gensim_answers_the_same(flat):
  KeyedVectors = pytest.importorskip("gensim.models", reason="gensim is not installed").KeyedVectors
  peer = KeyedVectors(6)
  peer.add_vectors(list(flat.keys()), flat.table)
  with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    cosmul = peer.most_similar_cosmul(["w1", "w2"], ["w3"], topn=9)
  for ours, theirs in (
    (neighbours.most_similar(flat, "w5", k=9), peer.most_similar("w5", topn=9)),
    (
      neighbours.most_similar(flat, ["w1", "w2"], ["w3"], 9),
      peer.most_similar(["w1", "w2"], ["w3"], topn=9),
    ),
    (neighbours.most_similar_cosmul(flat, ["w1", "w2"], ["w3"], 9), cosmul),
  ):
    assert [key for key, _ in ours] == [key for key, _ in theirs]
    np.testing.assert_allclose([v for _, v in ours], [v for _, v in theirs], rtol=1e-5)
  for i in range(30):
    some = [f"w{i + j}" for j in range(4)]
    assert neighbours.doesnt_match(flat, some) == peer.doesnt_match(some)


def test_the_odd_one_out_is_far_from_the_mean(tmp_path):
  table = np.array([[0.1, 0.1], [0.12, 0.1], [0.1, 0.13], [-0.6, -0.7]])
  s = words(tmp_path / "x", table, "poincare")
  assert neighbours.doesnt_match(s, ["w0", "w1", "w2", "w3"]) == "w3"
  s = words(tmp_path / "x", table)
  assert neighbours.doesnt_match(s, ["w0", "w1", "w2", "w3"]) == "w3"


def test_refuses_in_one_line(flat, tmp_path):
  zeros = words(tmp_path / "z", np.eye(3, 2) + 0.0)
  half = words(tmp_path / "h", np.ones((3, 2)), "halfspace")
  for ask, what in (
    (lambda: neighbours.nearest(flat, "nope"), "no key 'nope'"),
    (lambda: neighbours.nearest(flat, np.zeros(5)), r"finite point \(6,\)"),
    (lambda: neighbours.nearest(flat, np.full(6, np.nan)), "finite point"),
    (lambda: neighbours.nearest(flat, "w1", -1), "k must not be negative"),
    (lambda: neighbours.most_similar(flat, []), "positive"),
    (lambda: neighbours.most_similar(flat, ["w1"], ["w1"]), "add up to zero"),
    (lambda: neighbours.most_similar(zeros, "w2"), "zero vector"),
    (lambda: neighbours.most_similar(half, "w1"), "halfspace are no directions"),
    (lambda: neighbours.doesnt_match(flat, ["w1", "w2", "w1"]), "three different keys"),
  ):
    with pytest.raises(ValueError, match=what) as caught:
      ask()
    assert "\n" not in str(caught.value)
