"""The picture: its geometry, its labels, its files."""

import pathlib
import re
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from matplotlib import collections, text

from geoemb import manifolds
from geoemb.analysis import disk
from geoemb.data import tree
from geoemb.manifolds import halfspace, klein, lorentz


def ball(n, dim, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(n, dim))
  return x / np.linalg.norm(x, axis=1, keepdims=True) * rng.uniform(0, 0.999, size=(n, 1))


def direct_tree(branching=3, depth=4):
  graph = tree.balanced(branching, depth)
  ids = {name: i for i, name in enumerate(graph.names)}
  parents = [(i, ids[name.rpartition(".")[0]]) for name, i in ids.items() if i]
  return graph.names, np.array(parents)


def labels(fig):
  """Names of the labels and their boxes, [n, 4] in pixels."""
  fig.draw_without_rendering()
  found = fig.axes[0].findobj(text.Annotation)
  boxes = [t.get_window_extent(fig.canvas.get_renderer()).extents for t in found]
  return [t.get_text() for t in found], np.array(boxes)


def bezier(curves, t):
  p = curves[..., None]  # [e, 4, 2, 1]
  return ((1 - t) ** 3 * p[:, 0] + 3 * (1 - t) ** 2 * t * p[:, 1]
          + 3 * (1 - t) * t**2 * p[:, 2] + t**3 * p[:, 3])  # fmt: skip


class GeodesicsTest(parameterized.TestCase):
  def test_every_point_is_between_the_ends(self):
    # d(a, p) + d(p, b) = d(a, b) on a geodesic and nowhere else.
    a, b = ball(400, 2, 1), ball(400, 2, 2)
    curves = disk.geodesics(a, b)
    np.testing.assert_allclose(curves[:, 0], a, atol=1e-12)
    np.testing.assert_allclose(curves[:, -1], b, atol=1e-12)
    d = lambda x, y: np.arccosh(
      1 + 2 * np.sum((x - y) ** 2, axis=-1)
      / ((1 - np.sum(x * x, axis=-1)) * (1 - np.sum(y * y, axis=-1)))
    )  # fmt: skip
    det = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    bent = np.abs(det) > 1e-3
    self.assertGreater(bent.mean(), 0.9)
    for half in (curves[:, :4], curves[:, 3:]):
      for p in np.moveaxis(bezier(half, np.array([0.2, 0.5, 0.8])), -1, 0):
        self.assertTrue((np.sum(p * p, axis=1) < 1).all())
        excess = d(a, p) + d(p, b) - d(a, b)
        # Near the rim the hyperbolic metric magnifies the error of the Bézier curve.
        slack = 1e-3 * (2 / (1 - np.sum(p * p, axis=1))) ** 2
        self.assertTrue((np.abs(excess) < np.maximum(slack, 1e-6))[bent].all())

  def test_points_on_a_line_through_the_center_and_equal_points(self):
    a = np.array([[0.5, 0.0], [0.0, 0.0], [0.3, 0.3], [0.2, 0.1]])
    b = np.array([[-0.9, 0.0], [0.0, 0.7], [0.6, 0.6], [0.2, 0.1]])
    curves = disk.geodesics(a, b)
    np.testing.assert_allclose(curves[:, 3], (a + b) / 2, atol=1e-12)


class ViewTest(parameterized.TestCase):
  def test_the_disk_itself_is_unchanged(self):
    x = ball(50, 2)
    points, caption, curved = disk.view(manifolds.make("poincare"), x)
    np.testing.assert_allclose(points, x, rtol=1e-12)
    self.assertEqual((caption, curved), ("Poincaré disk", True))

  @parameterized.parameters(1.0, 0.25)
  def test_lorentz_is_converted_and_curvature_scaled_away(self, c):
    x = ball(50, 2) / c**0.5
    with jax.enable_x64(True):
      sheet = np.array(lorentz.from_poincare(jnp.asarray(x), c=c))
    for name, table in (("poincare", x), ("lorentz", sheet)):
      points, caption, _ = disk.view(manifolds.make(name, c), table)
      np.testing.assert_allclose(points, x * c**0.5, rtol=1e-9)
      self.assertEqual("curvature −0.25" in caption, c == 0.25)

  @parameterized.parameters(
    ("halfspace", halfspace.from_lorentz, "Upper half-space, in the Poincaré disk"),
    ("klein", klein.from_lorentz, "Beltrami–Klein ball, in the Poincaré disk"),
    ("stereographic", lorentz.to_poincare, "Poincaré disk"),
  )
  def test_other_charts_are_converted(self, name, chart, caption):
    x = ball(50, 2)
    with jax.enable_x64(True):
      table = np.array(chart(lorentz.from_poincare(jnp.asarray(x))))
    points, found, curved = disk.view(manifolds.make(name), table)
    np.testing.assert_allclose(points, x, rtol=1e-7, atol=1e-9)
    self.assertEqual((found, curved), (caption, True))

  @parameterized.parameters(3, 10)
  def test_higher_dimensions_keep_the_radius_and_are_labelled(self, dim):
    x = ball(80, dim)
    points, caption, curved = disk.view(manifolds.make("poincare"), x)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), np.linalg.norm(x, axis=1), rtol=1e-9)
    self.assertIn(f"view of {dim} dimensions", caption)
    self.assertTrue(curved)

  def test_a_flat_plane_in_higher_dimensions_is_shown_as_it_is(self):
    x = ball(80, 2) * np.array([1.0, 0.5])
    points, _, _ = disk.view(manifolds.make("poincare"), np.pad(x, ((0, 0), (3, 1))))
    np.testing.assert_allclose(points @ points.T, x @ x.T, atol=1e-9)  # up to a rotation

  @parameterized.parameters(
    ("euclidean", 2, "Euclidean plane"),
    ("euclidean", 5, "Euclidean, first two"),
    ("sphere", 3, "Sphere, first two"),
    ("stereographic", 2, "Stereographic plane", -1.0),
  )
  def test_other_geometries_say_so(self, name, coordinates, caption, c=1.0):
    points, found, curved = disk.view(manifolds.make(name, c), 5 * ball(30, coordinates))
    self.assertStartsWith(found, caption)
    self.assertEqual((points.shape, curved), ((30, 2), False))


class DrawTest(parameterized.TestCase):
  def test_labels_are_readable_and_do_not_overlap(self):
    names, edges = direct_tree()
    fig = disk.draw(manifolds.make("poincare"), ball(len(names), 2), names, edges, labels=20)
    found, boxes = labels(fig)
    self.assertLen(found, 20)
    self.assertEqual(found[0], "root")  # the most general first
    for i, (left, bottom, right, top) in enumerate(boxes):
      others = np.delete(boxes, i, axis=0)
      apart = (others[:, 0] > right) | (others[:, 2] < left)
      self.assertTrue((apart | (others[:, 1] > top) | (others[:, 3] < bottom)).all())

  def test_chosen_names_are_labelled_as_words(self):
    table = np.array([[0.0, 0.0], [0.5, 0.0], [-0.5, 0.3]])
    names = ("tree_shrew.n.01", "$x_1$", "node.n.x")
    fig = disk.draw(manifolds.make("poincare"), table, names, [[1, 0]], labels=names)
    self.assertCountEqual(labels(fig)[0], ["tree shrew", "$x 1$", "node.n.x"])

  @parameterized.product(name=manifolds.NAMES, dim=[1, 2, 5])
  def test_every_geometry_and_dimension_draws(self, name, dim):
    names, edges = direct_tree(2, 3)
    if name == "horospherical":
      dim += 1  # a line has no horizontal direction
    table = manifolds.make(name).random(jax.random.key(0), (len(names),), dim, scale=0.3)
    fig = disk.draw(manifolds.make(name), table, names, edges, title="a", metrics={"map": 0.5})
    self.assertIn("MAP 0.5", [t.get_text() for t in fig.findobj(text.Text)])

  @parameterized.parameters(
    (np.zeros((0, 2), int),),
    (np.array([[0, 1], [1, 2], [2, 0], [1, 1]]),),  # no edges; a cycle
  )
  def test_odd_graphs_and_collapsed_tables(self, edges):
    for name in ("poincare", "euclidean"):
      disk.draw(manifolds.make(name), np.zeros((3, 2)), ("a", "b", "c"), edges)

  def test_too_many_edges_leaves_the_most_general(self):
    names, edges = direct_tree(4, 4)
    with mock.patch.object(disk, "_MAX_EDGES", 20):
      fig = disk.draw(manifolds.make("poincare"), ball(len(names), 2), names, edges)
    drawn = fig.axes[0].findobj(collections.PathCollection)
    self.assertIn(20, [len(c.get_paths()) for c in drawn])

  def test_refuses_nan(self):
    with self.assertRaisesRegex(ValueError, "finite"):
      disk.draw(manifolds.make("poincare"), np.full((1, 2), np.nan), ("a",), [[0, 0]])


class SaveTest(absltest.TestCase):
  def test_png_and_svg_with_text_and_the_same_every_time(self):
    names, edges = direct_tree()
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    for stem in ("one", "two"):
      m, table = manifolds.make("poincare"), ball(len(names), 2)
      fig = disk.draw(m, table, names, edges, title="A tree")
      disk.save(fig, folder / stem)
    self.assertEqual(
      sorted(path.name for path in folder.iterdir()), ["one.png", "one.svg", "two.png", "two.svg"]
    )
    for kind in ("png", "svg"):
      self.assertEqual((folder / f"one.{kind}").read_bytes(), (folder / f"two.{kind}").read_bytes())
    self.assertStartsWith((folder / "one.png").read_bytes().decode("latin-1"), "\x89PNG")
    svg = (folder / "one.svg").read_text(encoding="utf-8")
    self.assertRegex(svg, r"<text[^>]*>A tree</text>")
    self.assertRegex(svg, r"<text[^>]*>root</text>")
    self.assertIsNone(re.search(r"<dc:date>", svg))


if __name__ == "__main__":
  absltest.main()
