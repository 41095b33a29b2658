"""Exact search against sorting everything."""

from unittest import mock

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from absl.testing import parameterized

from geoemb import manifolds
from geoemb.retrieval import exact

VECTORS = ("euclidean", "sphere", "poincare", "lorentz", "klein", "halfspace", "horospherical")


def best(scores, k):
  """By a stable full sort: equal scores by row."""
  ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
  return np.take_along_axis(scores, ids, 1), ids


def vectors(b, n, d, dtype=np.float32):
  rng = np.random.default_rng(0)
  return rng.normal(size=(b, d)).astype(dtype), rng.normal(size=(n, d)).astype(dtype)


@pytest.fixture(params=["host", "device"])
def path(request):
  """Both ways of computing inner products, with small blocks."""
  chosen = "cpu" if request.param == "host" else "some accelerator"
  with (
    mock.patch.object(jax, "default_backend", lambda: chosen),
    mock.patch.multiple(exact, _ROWS=64, _SCORES=1 << 9, _DEVICE_SCORES=1 << 10),
  ):
    yield request.param


@pytest.mark.parametrize("k", [1, 10, 700])
def test_inner_products(path, k):
  queries, table = vectors(17, 500, 9)
  got = exact.search(queries, table, k)
  scores, ids = best(queries @ table.T, k)
  np.testing.assert_allclose(got.scores[:, :500], scores, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(got.ids[:, :500], ids)
  assert (got.ids[:, 500:] == -1).all() and (got.scores[:, 500:] == -np.inf).all()


def test_equal_scores_come_by_row(path):
  rng = np.random.default_rng(1)
  queries, table = rng.integers(-1, 2, (6, 3)), rng.integers(-1, 2, (400, 3))
  got = exact.search(queries.astype(np.float32), table.astype(np.int8), 50)
  scores, ids = best(queries @ table.T, 50)
  np.testing.assert_array_equal(got.scores, scores)
  np.testing.assert_array_equal(got.ids, ids)


def test_ascending_scores(path):
  """The order in which every row beats all before it."""
  table = np.linspace(-1, 1, 1000, dtype=np.float32)[:, None]
  got = exact.search(np.ones((3, 1), np.float32), table, 5)
  np.testing.assert_array_equal(got.ids, np.tile(np.arange(999, 994, -1), (3, 1)))


@pytest.mark.parametrize(
  "dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8]
)
def test_narrow_tables(dtype):
  queries, table = vectors(5, 300, 8)
  table = (10 * table).astype(dtype)
  got = exact.search(queries, table, 7)
  np.testing.assert_array_equal(got.ids, best(queries @ table.astype(np.float32).T, 7)[1])


def test_cosines_float64_and_memory_maps(tmp_path, path):
  queries, table = vectors(5, 300, 8, np.float64)
  np.save(tmp_path / "table.npy", table)
  done = []
  got = exact.search(
    queries,
    np.load(tmp_path / "table.npy", mmap_mode="r"),
    7,
    by="cosine",
    progress=lambda *seen: done.append(seen),
  )
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  scores, ids = best(unit(queries) @ unit(table).T, 7)
  np.testing.assert_array_equal(got.ids, ids)
  np.testing.assert_allclose(got.scores, scores, rtol=1e-5 if path == "device" else 1e-13)
  assert done[-1] == (300, 300)


def test_only_allowed_rows(path):
  queries, table = vectors(5, 300, 8)
  allow = np.zeros(300, bool)
  allow[[3, 70, 71, 299]] = True
  got = exact.search(queries, table, 6, allow=allow)
  want = np.where(allow, queries @ table.T, -np.inf)
  np.testing.assert_array_equal(got.ids[:, :4], best(want, 4)[1])
  assert (got.ids[:, 4:] == -1).all()
  none = exact.search(queries, table, 2, allow=np.zeros(300, bool))
  assert (none.ids == -1).all()
  by_distance = exact.search(queries, table, 6, allow=allow, by=manifolds.make("euclidean"))
  assert set(by_distance.ids[0]) == {3, 70, 71, 299, -1}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cosines_of_long_and_short_vectors(path, dtype):
  """Of a length whose square is beyond the range, on either end."""
  queries, table = vectors(3, 40, 5)
  size = np.float64(1e25 if dtype == np.float32 else 1e200)
  length = np.array([1, size, 1 / size, 1e3])
  got = exact.search(
    (queries / size).astype(dtype), (table * length[np.arange(40) % 4, None]).astype(dtype), 9,
    by="cosine",
  )  # fmt: skip
  want = exact.search(queries, table, 9, by="cosine")
  np.testing.assert_array_equal(got.ids, want.ids)
  np.testing.assert_allclose(got.scores, want.scores, rtol=1e-5)


def test_inner_products_that_overflow_are_refused(path):
  table = vectors(1, 1000, 2)[1]
  table[7] = [1e20, -1e20]
  with pytest.raises(ValueError, match="overflow float32"):
    exact.search(np.full((1, 2), 1e19, np.float32), table, 3)


def test_messages_name_rows_among_those_allowed(path):
  table = np.ones((3, 2))
  table[2] = 0
  with pytest.raises(ValueError, match="zero vector has no cosine with any: row 2"):
    exact.search(np.ones((1, 2)), table, 1, by="cosine", allow=np.arange(3) == 2)
  table[2] = np.nan
  with pytest.raises(ValueError, match="row 2 is not"):
    exact.search(np.ones((1, 2)), table, 1, allow=np.arange(3) == 2)


def test_rows_of_score_minus_infinity_are_rows():
  log = lambda q, r: jnp.log(q @ r.T)
  table = np.float32([[1, 0], [0, 1], [2, 0]])
  got = exact.search(np.float32([[1, 0]]), table, 3, by=log)
  np.testing.assert_array_equal(got.ids, [[2, 0, 1]])


def test_no_queries(path):
  assert exact.search(np.zeros((0, 3)), np.ones((4, 3)), 2).ids.shape == (0, 2)
  points = np.broadcast_to(np.eye(2), (4, 2, 2))
  assert exact.search(points[:0], points, 2, by=manifolds.make("spd")).ids.shape == (0, 2)


class DistanceTest(parameterized.TestCase):
  @parameterized.parameters(*VECTORS, "spd")
  def test_distances(self, name):
    m = manifolds.make(name)
    with jax.enable_x64(True):
      dim = 2 if name == "spd" else 3
      points = m.random(jax.random.key(0), (203,), dim, scale=0.5, dtype=jnp.float64)
      points = points.at[7].set(points[150])  # equal ones
      d = jax.jit(lambda x: m.dist(x[:5, None], x[None]))(points)
    scores, ids = best(-np.asarray(d), 12)
    with mock.patch.multiple(exact, _ROWS=64, _SCORES=1 << 9):
      got = exact.search(np.asarray(points[:5]), np.asarray(points), 12, by=m)
    np.testing.assert_allclose(got.scores, scores, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(got.ids, ids)


def test_scores_by_a_function():
  """Boxes by the volume that they share with a box, [2, d] each."""
  rng = np.random.default_rng(0)
  corner = rng.uniform(size=(250, 2))
  boxes = np.stack([corner, corner + rng.uniform(size=(250, 2))], axis=1).astype(np.float32)

  def shared(a, b):
    side = jnp.minimum(a[:, None, 1], b[None, :, 1]) - jnp.maximum(a[:, None, 0], b[None, :, 0])
    return jnp.prod(jnp.maximum(side, 0), axis=-1)

  with mock.patch.object(exact, "_PENDING", 1 << 8):
    got = exact.search(boxes[:4], boxes, 9, by=shared, allow=np.arange(250) != 7)
  want = np.where(np.arange(250) != 7, np.asarray(shared(boxes[:4], boxes)), -np.inf)
  np.testing.assert_array_equal(got.ids, best(want, 9)[1])
  with pytest.raises(ValueError, match="must return scores"):
    exact.search(boxes, boxes, 1, by=lambda a, b: a)


def test_near_points_far_out_are_told_apart():
  """Where inner products cancel: 1e-9 apart at radius 12 of hyperbolic space."""
  m = manifolds.make("lorentz")
  with jax.enable_x64(True):
    x = m.exp0(jnp.asarray([12.0, 0.0]))
    steps = jnp.asarray([[0.0, s] for s in (3e-9, 1e-9, 2e-9, 5e-9, 4e-9)])
    table = jax.vmap(m.exp, (None, 0))(x, jax.vmap(lambda v: v / m.norm(x, v) * v[1])(steps))
  got = exact.search(np.asarray(x)[None], np.asarray(table), 5, by=m)
  np.testing.assert_array_equal(got.ids[0], [1, 2, 0, 4, 3])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(k=0), "must be positive, got 0"),
    (dict(table=np.zeros((0, 4))), "must be positive"),
    (dict(table=np.ones((9, 5))), "points of one shape"),
    (dict(queries=np.full((2, 4), np.nan)), "queries must be finite, got 2 bad ones"),
    (dict(table=np.where(np.arange(9)[:, None] == 4, np.inf, np.ones((9, 4)))), "row 4 is not"),
    (dict(by="l3"), 'must be "dot", "cosine", a manifold'),
    (dict(by="cosine", table=np.zeros((9, 4))), "zero vector has no cosine with any: row 0"),
    (dict(by="cosine", queries=np.zeros((2, 4))), "zero vector has no cosine with any: query 0"),
    (dict(allow=np.ones(8, bool)), r"allow must be \[9\] bool"),
  ],
)
def test_bad_input_is_refused(change, message):
  good = dict(queries=np.ones((2, 4)), table=np.ones((9, 4)), k=3)
  with pytest.raises(ValueError, match=message):
    exact.search(**good | change)
