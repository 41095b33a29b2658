import numpy as np
import pytest

from geoemb.data import qrels, vectors


@pytest.fixture
def save(tmp_path):
  def write(**arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return str(tmp_path / "own.npz")

  return write


def test_own_documents_by_row_and_by_name(save, tmp_path):
  twin = vectors.twin(30, 5, 8)
  judged = str(tmp_path / "qrels.txt")
  qrels.write(judged, twin.qrels)
  found = vectors.load(save(c=twin.c, q=twin.q), judged)
  assert found.qrels == twin.qrels and found.doc_ids[3] == "3"
  np.testing.assert_array_equal(found.c, twin.c)
  assert vectors.load(save(c=twin.c.astype(np.float16), q=twin.q)).qrels == {}
  names = [f"d{i}" for i in range(30)]
  path = save(c=twin.c, q=twin.q, doc_ids=names, query_ids=list("abcde"))
  qrels.write(judged, {"b": {"d4": 1}})
  assert vectors.load(path, judged).query_ids == list("abcde")


def test_documents_by_longer_names_and_of_integers(save):
  x = np.arange(1, 13).reshape(4, 3)
  found = vectors.load(save(documents=x, queries=x[:2].astype(np.uint8)))
  np.testing.assert_array_equal(found.c, x.astype(np.float32), strict=True)
  np.testing.assert_array_equal(found.q, x[:2].astype(np.float32), strict=True)


def test_a_table_alone_is_split_into_documents_and_queries(save, tmp_path):
  x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
  np.save(tmp_path / "own.npy", x)
  found = vectors.load(str(tmp_path / "own.npy"))
  assert found.q.shape == (5, 3) and found.c.shape == (45, 3) and found.qrels == {}
  for ids, part in ((found.doc_ids, found.c), (found.query_ids, found.q)):
    np.testing.assert_array_equal(x[list(map(int, ids))], part)
  assert sorted(map(int, found.doc_ids + found.query_ids)) == list(range(50))
  again = vectors.load(save(table=x, names=np.array(["a"] * 50), manifold=np.array("euclidean")))
  np.testing.assert_array_equal(again.c, found.c)
  with pytest.raises(ValueError, match="no queries of its own that some.txt could judge"):
    vectors.load(str(tmp_path / "own.npy"), "some.txt")


def test_pairs(save):
  twin = vectors.twin_pairs(20, 8)
  found = vectors.load(save(a=twin.a, b=twin.b, score=twin.score))
  np.testing.assert_array_equal(found.fit, np.concatenate([twin.a, twin.b]))
  with pytest.raises(ValueError, match="must hold documents and queries, not pairs"):
    vectors.documents(save(a=twin.a, b=twin.b, score=twin.score))
  cosine = np.sum(twin.a * twin.b, axis=1)
  assert np.corrcoef(cosine, twin.score)[0, 1] > 0.9


def test_twins_are_unit_vectors_whose_queries_find_their_documents():
  twin = vectors.twin()
  for x in (twin.c, twin.q):
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5)
  assert np.mean(np.argmax(twin.q @ twin.c.T, axis=1) == np.arange(40)) > 0.5


def test_scifact(data_root):
  found = vectors.load("scifact", root=data_root)
  assert found.c.shape == (5183, 384) and found.q.shape == (1109, 384)
  assert len(found.qrels) == 300 and sum(map(len, found.qrels.values())) == 339


X = np.ones((3, 2))


@pytest.mark.parametrize(
  "arrays, message",
  [
    (dict(c=X, x=X), r"or one table of vectors; it holds \['c', 'x'\]"),
    (dict(q=X), r"must hold c and q, .* it holds \['q'\]"),
    (dict(x=X[:1]), "x must have two rows or more, got 1"),
    (dict(table=X, manifold="poincare"), "holds points of poincare"),
    (dict(c=X, q=X[:, :1]), "same number of coordinates, got c 2, q 1"),
    (dict(c=X, q=np.array([[1, np.nan]])), "1 vectors of q are not finite, first 0"),
    (dict(c=X * [[1], [0], [0]], q=X), "2 vectors of c are zero, first 1"),
    (dict(c=X[:0], q=X), r"c must be numbers \[n, d\], got float64 \[0, 2\]"),
    (dict(c=X.astype(complex), q=X), r"got complex128 \[3, 2\]"),
    (dict(c=X, q=X, doc_ids=["a", "b", "a"]), "3 different ids, got 2 of 3"),
    (dict(a=X, b=X[:2], score=X[:, 0]), r"as many finite rows, got 3, 2 and \[3\]"),
  ],
)
def test_mistakes(save, arrays, message):
  with pytest.raises(ValueError, match=message):
    vectors.load(save(**arrays))


def test_what_is_not_there(save, tmp_path):
  with pytest.raises(
    FileNotFoundError, match="scifact/minilm_f16.npz not found: put the vectors of"
  ):
    vectors.load("scifact", root=tmp_path)
  (tmp_path / "text").write_text("no vectors")
  with pytest.raises(ValueError, match="is not an .npz or .npy file"):
    vectors.load(str(tmp_path / "text"))
  qrels.write(tmp_path / "qrels", {"0": {"7": 1}})
  with pytest.raises(ValueError, match="judges 1 unknown document ids, such as '7'"):
    vectors.load(save(c=X, q=X), str(tmp_path / "qrels"))
  with pytest.raises(ValueError, match="m must be between"):
    vectors.twin(3, 4)
