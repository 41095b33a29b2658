"""IVF against exact search, and its files."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.retrieval import exact, filters, ivf
from geoemb.tables import sections

LISTS = 12
WHERE = filters.And((filters.Range("size", high=40), filters.Contains("tags", (70,))))


@functools.cache
def points(by, n=400):
  """Clustered ones; any vector is a point of the Lorentz chart."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(LISTS, 3))[rng.integers(LISTS, size=n)] + 0.2 * rng.normal(size=(n, 3))
  return x / np.linalg.norm(x, axis=1, keepdims=True) if by == "sphere" else x


def space(by):
  return by if by == "cosine" else manifolds.make(by)


def columns(n=400):
  rng = np.random.default_rng(1)
  sets = [tuple(np.flatnonzero(rng.random(80) < 0.3)) for _ in range(n)]
  return {"size": rng.integers(0, 100, n).astype(np.int32), "tags": filters.pack(sets, 80)}


def made(by="cosine", **kwargs):
  arguments = dict(lists=LISTS, by=space(by), columns=columns()) | kwargs
  return ivf.build(points(by), **arguments)


def same(got, want):
  np.testing.assert_array_equal(got.ids, want.ids)
  np.testing.assert_allclose(got.scores, want.scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", ["cosine", "sphere", "lorentz"])
def test_all_lists_are_exact_search(by):
  index, x = made(by), points(by)
  assert not (np.diff(index.segments[0].start) == 0).any()
  if by != "cosine":
    assert not manifolds.make(by).fault(jnp.asarray(index.centroids, jnp.float32))
  for where in (None, WHERE):
    allow = None if where is None else filters.mask(where, columns())
    got = ivf.search(index, x[:20], 7, probes=LISTS, where=where)
    same(got, exact.search(x[:20], x, 7, by=space(by), allow=allow))
    work = LISTS + (len(x) if where is None else allow.sum())
    np.testing.assert_array_equal(got.evaluations, work)
  few = ivf.search(index, x[:20], 1, probes=1)
  assert (few.ids[:, 0] == np.arange(20)).all()  # a row's own list holds it
  assert few.evaluations.max() < LISTS + len(x) / 2


def test_centroids_stand_still_at_frechet_means():
  x, m = points("lorentz"), manifolds.make("lorentz")
  centroids = ivf.kmeans(x, 3, by=m, rounds=60)
  with jax.enable_x64(True):
    d = np.asarray(jax.jit(m.pairwise)(jnp.asarray(x), jnp.asarray(centroids)))
    nearest = jnp.asarray(d.argmin(axis=1))
    pull = jax.jit(lambda c, x: m.log(c[nearest], x))(jnp.asarray(centroids), jnp.asarray(x))
  for i in range(3):
    mean = np.asarray(pull)[np.asarray(nearest) == i].mean(axis=0)
    assert np.abs(mean).max() < 1e-3  # the flow's own rate decides


def test_spherical_means():
  x = points("cosine")
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  centroids = ivf.kmeans(x, 4, rounds=50)
  nearest = (x @ centroids.T).argmax(axis=1)
  for i in range(4):
    total = x[nearest == i].sum(axis=0)
    np.testing.assert_allclose(centroids[i], total / np.linalg.norm(total), rtol=1e-5, atol=1e-6)


def test_equal_vectors_leave_no_empty_list():
  x = np.repeat(np.eye(3), 5, axis=0)
  index = ivf.build(x, lists=3)
  assert (np.diff(index.segments[0].start) == 5).all()
  found = ivf.search(index, np.eye(3), 3, probes=1)
  np.testing.assert_array_equal(found.ids, [[0, 1, 2], [5, 6, 7], [10, 11, 12]])  # ties by id


def test_further_lists_are_searched_for_rare_rows():
  index, x = made(), points("cosine")
  where = filters.Equal("size", int(columns()["size"][0]))
  allow = filters.mask(where, columns())
  assert 1 < allow.sum() < 12
  want = exact.search(x[:20], x, 2, by="cosine", allow=allow)
  assert (ivf.search(index, x[:20], 2, probes=1, where=where).ids == -1).any()
  got = ivf.search(index, x[:20], 2, probes=1, where=where, least=2)
  assert (got.ids >= 0).all()
  same(ivf.search(index, x[:20], 2, probes=1, where=where, least=400), want)


def test_rows_come_and_go():
  x, c = points("cosine"), columns()
  part = lambda some: {name: column[some] for name, column in c.items()}
  index = ivf.build(x[:300], lists=LISTS, columns=part(slice(300)))
  index = ivf.add(index, x[300:], columns=part(slice(300, 400)))
  gone = np.arange(0, 400, 7)
  index = ivf.delete(index, gone)
  allow = np.ones(400, bool)
  allow[gone] = False
  assert len(index) == allow.sum() and set(index.ids) == set(np.flatnonzero(allow))
  want = exact.search(x[:20], x, 7, by="cosine", allow=allow & filters.mask(WHERE, c))
  for one in (index, ivf.compact(index)):
    same(ivf.search(one, x[:20], 7, probes=LISTS, where=WHERE), want)
    also = ivf.search(one, x[:20], 7, probes=LISTS, allow=filters.mask(WHERE, c))
    same(also, want)
  again = ivf.add(ivf.compact(index), x[:1], columns=part(slice(1)), ids=[0])
  assert ivf.search(again, x[:1], 1, probes=1).ids == [[0]]


@pytest.mark.parametrize("by", ["cosine", "lorentz"])
def test_files_hold_the_index(by, tmp_path):
  path = tmp_path / "some.ivf"
  index = ivf.delete(made(by), [3, 5])
  ivf.save(index, path)
  held = ivf.load(path)
  assert not held.segments[0].vectors.flags.owndata  # a view of the mapped file
  x = points(by)[:9]
  for where in (None, WHERE):
    want = ivf.search(index, x, 5, probes=3, where=where)
    got = ivf.search(held, x, 5, probes=3, where=where)
    same(got, want)
    np.testing.assert_array_equal(got.evaluations, want.evaluations)
  more = ivf.add(held, x[:1], columns={n: c[:1] for n, c in columns().items()}, ids=[1000])
  ivf.save(more, path)  # over the file that it is mapped from
  assert set(ivf.load(path).ids) == set(index.ids) | {1000}
  assert [p.name for p in tmp_path.iterdir()] == ["some.ivf"]


def test_narrow_vectors_without_attributes(tmp_path):
  x = points("cosine").astype(np.float16)
  ivf.save(ivf.build(x, lists=4), tmp_path / "x.ivf")
  held = ivf.load(tmp_path / "x.ivf")
  assert held.segments[0].vectors.dtype == np.float16
  assert (ivf.search(held, x[:9], 1, probes=1).evaluations < 404).all()
  assert len(ivf.add(held, x[:2])) == 402


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_integer_vectors_have_cosines(dtype, tmp_path):
  """As images have them: by bytes, directions would round to 0."""
  x = np.random.default_rng(0).integers(0, 256, (100, 6)).astype(dtype)
  index = ivf.build(x[:80], lists=4)
  assert index.segments[0].vectors.dtype == np.float32
  ivf.save(ivf.add(index, x[80:]), tmp_path / "x.ivf")
  got = ivf.search(ivf.load(tmp_path / "x.ivf"), x[:9], 7, probes=4)
  same(got, exact.search(x[:9], x, 7, by="cosine"))


def test_damaged_files_are_refused(tmp_path):
  path = tmp_path / "some.ivf"
  ivf.save(made(), path)
  whole = path.read_bytes()
  for size in (0, 5, 20, 300, len(whole) - 1):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match="cut short|is no index|is damaged"):
      ivf.load(path)
  path.write_bytes(whole[:-9] + b"?" + whole[-8:])
  with pytest.raises(ValueError, match="is damaged"):
    ivf.load(path)
  with pytest.raises(FileNotFoundError, match="ivf.save writes it"):
    ivf.load(tmp_path / "none.ivf")


def test_damaged_arrays_are_found(tmp_path):
  path = tmp_path / "some.ivf"
  ivf.save(made(), path)
  ivf.verify(path)
  whole = path.read_bytes()
  for name, held in {n: a.tobytes() for n, a in sections.Reader(path).arrays.items()}.items():
    for byte in (0, len(held) - 1):
      damaged = bytearray(whole)
      damaged[whole.index(held) + byte] ^= 1
      path.write_bytes(damaged)
      with pytest.raises(ValueError, match=f"checksum of its {name} is wrong"):
        ivf.verify(path)
      if name in ("start", "centroids"):  # what loading reads in full
        with pytest.raises(ValueError, match=f"checksum of its {name} is wrong"):
          ivf.load(path)
      else:
        ivf.load(path)
  with pytest.raises(FileNotFoundError, match="ivf.save writes it"):
    ivf.verify(tmp_path / "none.ivf")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "some.ivf"
  ivf.save(made(), path)
  before = path.read_bytes()
  monkeypatch.setattr(np, "ascontiguousarray", lambda *a: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    ivf.save(made(), path)
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [pathlib.Path(path)]


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: ivf.build(np.zeros((3, 2)), lists=1), "zero vector has no cosine with any: vector 0"),
    (lambda: ivf.build(np.full((3, 2), np.nan), lists=1), "finite, got 3 bad ones"),
    (lambda: ivf.build(np.ones((3, 2)), lists=4), "between 1 and 3, the vectors, got 4"),
    (lambda: ivf.build(np.ones((3, 2)), lists=1, by="l2"), 'must be "cosine" or one of'),
    (lambda: ivf.build(np.ones((3, 2)), lists=1, by=manifolds.make("spd")), "or one of"),
    (lambda: ivf.build(np.ones((3, 2)), lists=1, ids=[1, 1, 2]), "ids must differ, got 1"),
    (lambda: ivf.build(np.ones((3, 2)), lists=1, ids=[-1, 1, 2]), "not be negative, got -1"),
    (lambda: ivf.build(np.ones((3, 2)), lists=1, ids=[1.0, 2, 3]), "integers, got float64"),
    (lambda: ivf.build(np.ones((3, 2)), lists=1, columns={"a": np.ones(2)}), "'a' must be"),
    (lambda: ivf.build(np.ones((3, 2)), lists=1, columns={"a": [np.nan] * 3}), "not have NaN"),
    (lambda: ivf.add(made(), np.ones((1, 3))), "attributes must be"),
    (lambda: ivf.add(made(), np.ones((1, 4))), r"points \(3,\), got \(4,\)"),
    (lambda: ivf.add(made(), points("cosine"), columns=columns(), ids=np.arange(400)), "400 ids"),
    (lambda: ivf.delete(made(), [3, 400]), "got 1 others, one is 400"),
    (lambda: ivf.delete(made(), [3, 3]), "ids must differ"),
    (lambda: ivf.delete(made(), [1.7]), r"a row of integers, got float64 \(1,\)"),
    (lambda: ivf.delete(made(), np.ones(400, bool)), r"a row of integers, got bool \(400,\)"),
    (lambda: ivf.search(made(), np.ones((1, 4)), 1, probes=1), r"queries must be points \(3,\)"),
    (lambda: ivf.search(made(), np.zeros((1, 3)), 1, probes=1), "no cosine with any: query 0"),
    (lambda: ivf.search(made(), np.ones((1, 3)), 0, probes=1), "must be positive"),
    (lambda: ivf.search(made(), np.ones((1, 3)), 1, probes=1, allow=[1]), "must be .m. bool"),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
