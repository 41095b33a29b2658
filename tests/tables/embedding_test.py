"""Questions to a trained table, and its files."""

import io
import os
import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from geoemb import manifolds
from geoemb.tables import embedding

NAMES = ("entity.n.01", "dog.n.01", "wolf.n.01", "New York", "Köln", "oak\ttree", "x")


def make(manifold="poincare", dtype=np.float64, n=7, c=1.0):
  rng = np.random.default_rng(0)
  table = rng.uniform(-0.4, 0.4, size=(n, 3))
  if manifold == "sphere":
    table /= np.linalg.norm(table, axis=1, keepdims=True) * np.sqrt(c)
  if manifold == "halfspace":
    table[:, -1] = np.exp(table[:, -1])
  if manifold == "horospherical":
    table = np.pad(table, ((0, 0), (0, 4)))
  names = NAMES if n == len(NAMES) else tuple(f"node {i}" for i in range(n))
  return embedding.Embedding(names, table.astype(dtype), manifold, c)


def oracle(manifold, x, y, c):
  """Distances of a point to many, by textbook formulas."""
  square = np.sum((x - y) ** 2, axis=-1)
  xx, yy = np.sum(x * x), np.sum(y * y, axis=-1)
  if manifold in ("poincare", "stereographic"):
    return np.arccosh(1 + 2 * c * square / ((1 - c * xx) * (1 - c * yy))) / np.sqrt(c)
  if manifold == "lorentz":
    inner = np.sqrt(1 / c + xx) * np.sqrt(1 / c + yy) - y @ x
    return np.arccosh(np.maximum(c * inner, 1)) / np.sqrt(c)
  if manifold == "klein":
    cosh = (1 - c * (y @ x)) / np.sqrt((1 - c * xx) * (1 - c * yy))
    return np.arccosh(np.maximum(cosh, 1)) / np.sqrt(c)
  if manifold == "halfspace":
    return np.arccosh(1 + square / (2 * x[-1] * y[:, -1])) / np.sqrt(c)
  if manifold == "horospherical":
    h, k = np.exp(x[0]), np.exp(y[:, 0])
    square = np.sum((x - y)[:, 1:3] ** 2, axis=-1) + (h - k) ** 2
    return np.arccosh(1 + square / (2 * h * k)) / np.sqrt(c)
  if manifold == "sphere":
    cosine = y @ x / np.sqrt(xx * yy)  # float32 rows are not quite unit vectors
    return np.arccos(np.clip(cosine, -1, 1)) / np.sqrt(c)
  return np.sqrt(square)


class QuestionsTest(parameterized.TestCase):
  @parameterized.product(manifold=manifolds.NAMES, c=[1.0, 0.5], dtype=[np.float32, np.float64])
  def test_nearest_and_dist_equal_oracle(self, manifold, c, dtype):
    e = make(manifold, dtype, n=300, c=c)
    points = e.table.astype(np.float64)
    d = oracle(manifold, points[7], points, c)
    d[7] = np.inf
    order = np.argsort(d)[:5]
    found = e.nearest("node 7", 5)
    self.assertEqual([name for name, _ in found], [e.names[i] for i in order])
    tolerance = 1e-6 if dtype == np.float32 and manifold == "sphere" else 1e-10
    np.testing.assert_allclose([x for _, x in found], d[order], rtol=tolerance)
    np.testing.assert_allclose(e.dist("node 7", "node 9"), d[9], rtol=tolerance)

  def test_nearest_leaves_out_the_point_and_not_its_twins(self):
    e = embedding.Embedding(("a", "b", "c"), np.array([[0.1], [0.1], [0.5]]), "poincare")
    self.assertEqual(e.nearest("a", 1), [("b", 0.0)])
    self.assertLen(e.nearest("a", 10), 2)

  @parameterized.parameters("poincare", "lorentz", "euclidean")
  def test_ancestors_lie_closer_to_the_origin(self, manifold):
    e = make(manifold, n=200)
    norm = np.linalg.norm(e.table, axis=1)
    d = oracle(manifold, e.table[3], e.table, 1.0)
    d[norm >= norm[3]] = np.inf
    self.assertEqual(
      [a for a, _ in e.ancestors("node 3", 4)], [e.names[i] for i in np.argsort(d)[:4]]
    )
    innermost = e.names[np.argmin(norm)]
    self.assertEqual(e.ancestors(innermost, 4), [])

  @parameterized.parameters(
    ("dog", "dog.n.01"), ("Dog.n.01", "dog.n.01"), ("wolfe.n.01", "wolf.n.01"), ("Koln", "Köln")
  )
  def test_unknown_name_suggests(self, name, expected):
    with self.assertRaises(ValueError) as caught:
      make().nearest(name)
    self.assertIn(expected, str(caught.exception))
    self.assertNotIn("\n", str(caught.exception))

  def test_refuses_a_table_without_its_names(self):
    with self.assertRaisesRegex(ValueError, "name"):
      embedding.Embedding(("a",), np.zeros((2, 2)), "poincare")
    with self.assertRaisesRegex(ValueError, "poincare"):
      embedding.Embedding(("a",), np.zeros((1, 2)), "poincar")


class FilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  @parameterized.product(dtype=[np.float32, np.float64], max_names=[0, 1 << 28])
  def test_npz_gives_everything_back(self, dtype, max_names):
    e = make("lorentz", dtype, c=0.25)
    with mock.patch.object(embedding, "_MAX_NAMES", max_names):
      e.save(self.folder)
    for path in (self.folder, str(self.folder / "embedding.npz")):
      again = embedding.Embedding.load(path)
      self.assertEqual((again.names, again.manifold, again.c), (e.names, e.manifold, e.c))
      np.testing.assert_array_equal(again.table, e.table, strict=True)

  def test_npz_opens_without_us_and_without_pickle(self):
    make().save(self.folder)
    with np.load(self.folder / "embedding.npz", allow_pickle=False) as arrays:
      self.assertEqual(tuple(arrays["names"]), NAMES)
      self.assertEqual(str(arrays["manifold"]), "poincare")

  @parameterized.parameters(np.float32, np.float64)
  def test_tsv_round_trips_every_bit(self, dtype):
    e = make(dtype=dtype)
    e.save(self.folder)
    text = (self.folder / "embedding.tsv").read_text(encoding="utf-8")
    header, *lines = text.splitlines()
    self.assertEqual(header, "name\tx0\tx1\tx2")
    rows = [line.split("\t") for line in lines]
    self.assertEqual([row[0] for row in rows], [name.replace("\t", " ") for name in NAMES])
    table = np.array([[dtype(x) for x in row[1:]] for row in rows])
    np.testing.assert_array_equal(table, e.table, strict=True)

  def test_word2vec_text_keeps_the_format(self):
    e = make()
    e.save(self.folder, word2vec=True)
    header, *lines = (self.folder / "embedding.w2v.txt").read_text(encoding="utf-8").splitlines()
    self.assertEqual(header, "7 3")
    names = [line.split(" ")[0] for line in lines]
    expected = ["entity.n.01", "dog.n.01", "wolf.n.01", "New_York", "Köln", "oak_tree", "x"]
    self.assertEqual(names, expected)
    table = np.array([line.split(" ")[1:] for line in lines], np.float64)
    np.testing.assert_array_equal(table, e.table)

  def test_word2vec_text_opens_in_gensim(self):
    try:
      from gensim.models import KeyedVectors
    except ImportError:
      self.skipTest("gensim is not installed")
    e = make()
    e.save(self.folder, word2vec=True)
    vectors = KeyedVectors.load_word2vec_format(
      str(self.folder / "embedding.w2v.txt"), datatype=np.float64
    )
    np.testing.assert_array_equal(vectors["New_York"], e.table[3])
    self.assertLen(vectors.index_to_key, len(NAMES))

  def test_a_failed_write_leaves_the_old_files(self):
    make().save(self.folder, word2vec=True)
    before = {path.name: path.read_bytes() for path in self.folder.iterdir()}
    for method in ("_write_npz", "_write_tsv", "_write_word2vec"):

      def half(self, file, method=method):
        file.write(b"half")
        raise OSError("No space left on device")

      with mock.patch.object(embedding.Embedding, method, half), self.assertRaises(OSError):
        make().save(self.folder, word2vec=True)
      after = {path.name: path.read_bytes() for path in self.folder.iterdir()}
      self.assertEqual(after.keys(), before.keys())
      self.assertEqual(after["embedding.tsv"], before["embedding.tsv"])
      embedding.Embedding.load(self.folder)

  def test_load_says_what_is_wrong(self):
    with self.assertRaisesRegex(FileNotFoundError, "embedding.npz not found"):
      embedding.Embedding.load(self.folder)
    path = self.folder / "embedding.npz"
    for content in (b"", b"half a file"):
      path.write_bytes(content)
      with self.assertRaisesRegex(ValueError, "is not an embedding"):
        embedding.Embedding.load(path)
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(["a"]))
    path.write_bytes(buffer.getvalue())
    with self.assertRaisesRegex(ValueError, "is not an embedding"):
      embedding.Embedding.load(path)
    pickled = io.BytesIO()
    np.savez(pickled, names=np.array(["a"], object), table=np.zeros((1, 2)))
    path.write_bytes(pickled.getvalue())
    with self.assertRaisesRegex(ValueError, "is not an embedding"):
      embedding.Embedding.load(path)
    self.assertEqual(os.listdir(self.folder), ["embedding.npz"])


if __name__ == "__main__":
  absltest.main()
