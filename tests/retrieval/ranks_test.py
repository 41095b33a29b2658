"""Ranking metrics against references that sort every row in full."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from absl.testing import absltest, parameterized

from geoemb import manifolds
from geoemb.data import tree, wordnet
from geoemb.retrieval import ranks

# Every geometry with a table as after training; tables without order are alike in all of them.
CASES = (
  *((name, "trained") for name in manifolds.NAMES),
  *(("poincare", kind) for kind in ("initial", "collapsed")),
)


def distances(name, x, y):
  """Distances of x [n, ·] and y [m, ·] at c = 1, or a monotone function, by textbook formulas."""
  x, y = np.asarray(x, np.longdouble)[:, None], np.asarray(y, np.longdouble)[None]
  square = np.sum((x - y) ** 2, axis=-1)
  xx, yy = np.sum(x * x, axis=-1), np.sum(y * y, axis=-1)
  if name in ("poincare", "stereographic"):
    return np.arccosh(1 + 2 * square / ((1 - xx) * (1 - yy)))
  if name == "lorentz":  # 2 cosh(d) − 2, as a square of the chord in Minkowski space
    return square - ((xx - yy) / (np.sqrt(1 + xx) + np.sqrt(1 + yy))) ** 2
  if name == "sphere":
    return np.arccos(np.clip(1 - square / 2, -1, 1))
  if name == "klein":  # sinh²(d), by the Gram determinant
    dot = np.sum(x * (x - y), axis=-1)
    return ((1 - xx) * square + dot**2) / ((1 - xx) * (1 - yy))
  if name == "halfspace":  # 2 cosh(d) − 2
    return square / (x[..., -1] * y[..., -1])
  if name == "horospherical":  # 2 cosh(d) − 2, of points without low parts
    h, k, n = np.exp(x[..., 0]), np.exp(y[..., 0]), x.shape[-1] // 3
    return (np.sum((x - y)[..., 1 : 1 + n] ** 2, axis=-1) + (h - k) ** 2) / (h * k)
  return square


def reference(d, edges, known=()):
  """(mean rank, MAP) by sorting; d [n, n] distances. Known edges are left out of the rankings."""
  edges, known = np.asarray(edges), np.concatenate([edges, np.asarray(known, int).reshape(-1, 2)])
  all_ranks, all_ap = [], []
  for u in np.unique(edges[:, 0]):
    positives = np.setdiff1d(edges[edges[:, 0] == u, 1], u)
    others = np.setdiff1d(np.arange(len(d)), np.append(known[known[:, 0] == u, 1], u))
    row, values = np.sort(d[u, others]), np.sort(d[u, positives])
    # Among equals, half of them come first.
    found = 1 + (np.searchsorted(row, values) + np.searchsorted(row, values, side="right")) / 2
    all_ranks.extend(found)
    all_ap.append(np.mean([(i + 1) / (rank + i) for i, rank in enumerate(found)]))
  return np.mean(all_ranks), np.mean(all_ap)


def full_sort_map(d, edges):
  """MAP by the usual definition of average precision, for d without ties."""
  values = []
  for u in np.unique(edges[:, 0]):
    row = d[u].copy()
    row[u] = np.inf
    hit = np.isin(np.argsort(row), edges[edges[:, 0] == u, 1])
    values.append(np.mean((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit]))
  return np.mean(values)


@functools.cache
def mammals():
  return wordnet.load("mammal")


@functools.cache
def mammal_table(name, kind, dim=3):
  """Float64 points for the mammals: a plausible embedding, an initial one, or a collapsed one."""
  rng = np.random.default_rng(7)
  edges, n = mammals().edges, len(mammals().names)
  x = np.full((n, dim), 0.25)
  if kind == "initial":
    x = rng.uniform(-1e-5, 1e-5, size=(n, dim))
  if kind == "trained":  # general nodes in the middle; others away from it, near their ancestors
    way = rng.normal(size=(n, dim))
    depth = np.bincount(edges[:, 0], minlength=n)[:, None]
    mean = way.copy()
    np.add.at(mean, edges[:, 0], (way * depth)[edges[:, 1]])
    x = mean / np.linalg.norm(mean, axis=1, keepdims=True) * (1 + depth + 0.1 * way[:, :1])
  return to_manifold(name, x)


def to_manifold(name, x):
  if name in ("poincare", "stereographic"):
    return x / (1 + np.sqrt(1 + np.sum(x * x, axis=1, keepdims=True)))
  if name == "sphere":
    x = np.concatenate([x, np.full((len(x), 1), 0.5)], axis=1)
    return x / np.linalg.norm(x, axis=1, keepdims=True)
  if name == "klein":
    return x / np.sqrt(1 + np.sum(x * x, axis=1, keepdims=True))
  if name == "halfspace":
    return np.concatenate([x[:, :-1], 4.0 ** x[:, -1:]], axis=1)  # by fours: ties stay ties
  if name == "horospherical":
    return np.pad(x, ((0, 0), (0, 2 * x.shape[1] - 2)))
  return x


class ReconstructionTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_equals_reference_on_mammals(self, name, kind):
    table, edges = mammal_table(name, kind), mammals().edges
    result = ranks.reconstruction(manifolds.make(name), table, edges)
    d = distances(name, table, table)
    np.testing.assert_allclose(result[:2], reference(d, edges), rtol=1e-9)
    self.assertEqual(result[2:], (6540, 1179))
    if kind != "collapsed":
      np.testing.assert_allclose(result.map, full_sort_map(d, edges), rtol=1e-9)

  @parameterized.parameters(*manifolds.NAMES)
  def test_many_ties_count_half(self, name):
    # Points coincide, and others are as far apart as their mirror images, to the last bit.
    graph = tree.balanced(3, 4)
    rng = np.random.default_rng(0)
    table = to_manifold(name, rng.integers(-1, 2, size=(len(graph.names), 2)) / 2)
    result = ranks.reconstruction(manifolds.make(name), table, graph.edges)
    _, d = np.unique(distances(name, table, table).round(12), return_inverse=True)
    expected = reference(d.reshape(len(table), -1), graph.edges)
    np.testing.assert_allclose(result[:2], expected, rtol=1e-9)

  def test_collapsed_table_ranks_as_chance(self):
    graph = tree.balanced(2, 5)
    n, m = len(graph.names), np.bincount(graph.edges[:, 0])
    result = ranks.reconstruction(manifolds.make("poincare"), np.zeros((n, 2)), graph.edges)
    expected = np.average(1 + (n - 1 - m) / 2, weights=m)
    np.testing.assert_allclose(result.mean_rank, expected, rtol=1e-12)

  @parameterized.parameters(("poincare", 1 - 1e-9), ("lorentz", 1e5))
  def test_is_exact_far_out_where_the_product_form_cancels(self, name, norm):
    # Families of near neighbours, far from the origin; oracle: textbook formulas with 60 digits.
    rng = np.random.default_rng(3)
    family = np.repeat(rng.normal(size=(8, 3)), 6, axis=0)
    x = family + 1e-7 * rng.normal(size=family.shape)
    radius = norm * (1 - 1e-10 * rng.uniform(size=(len(x), 1)))
    table = np.concatenate([x / np.linalg.norm(x, axis=1, keepdims=True) * radius, 0.1 * x[:4]])
    n = len(table)
    edges = np.array([(u, v) for u in range(48) for v in range(u // 6 * 6, u // 6 * 6 + 6, 2)])
    with mpmath.workdps(60):
      points = [mpmath.matrix(p) for p in table.tolist()]
      square = [mpmath.fdot(p, p) for p in points]

      def key(i, j):
        dot = mpmath.fdot(points[i], points[j])
        if name == "lorentz":
          return mpmath.sqrt(1 + square[i]) * mpmath.sqrt(1 + square[j]) - dot
        return (square[i] - 2 * dot + square[j]) / ((1 - square[i]) * (1 - square[j]))

      order = np.array([np.argsort([key(i, j) for j in range(n)]) for i in range(n)])
    d = np.argsort(order, axis=1)  # places stand for distances
    result = ranks.reconstruction(manifolds.make(name), table, edges)
    np.testing.assert_allclose(result[:2], reference(d, edges), rtol=1e-9)
    with jax.enable_x64(True):
      m = manifolds.make(name)
      plain = np.asarray(m.query(jnp.asarray(table)) @ m.key(jnp.asarray(table)).T)
    self.assertTrue((np.argsort(plain, axis=1) != order).any())  # products alone would not do

  def test_isometric_tables_rank_alike(self):
    edges = mammals().edges
    ball, sheet = (
      ranks.reconstruction(manifolds.make(name), mammal_table(name, "trained"), edges)
      for name in ("poincare", "lorentz")
    )
    np.testing.assert_allclose(ball, sheet, rtol=1e-9)

  @parameterized.parameters(*CASES)
  def test_accelerator_path_equals_host_path(self, name, kind):
    table, edges = mammal_table(name, kind), mammals().edges[:1500]
    m = manifolds.make(name)
    host = ranks.edge_ranks(m, table, edges)
    with mock.patch.object(ranks, "_has_accelerator", lambda: True):
      device = ranks.edge_ranks(m, table, edges, block=100)
    np.testing.assert_array_equal(device[0], host[0])
    np.testing.assert_array_equal(device[1], host[1])

  @parameterized.parameters(1, 7, 5000)
  def test_does_not_depend_on_block(self, block):
    table, edges = mammal_table("poincare", "trained"), mammals().edges[:1500]
    m = manifolds.make("poincare")
    np.testing.assert_array_equal(
      ranks.edge_ranks(m, table, edges, block=block)[1], ranks.edge_ranks(m, table, edges)[1]
    )

  def test_curvature_and_dtype_of_the_caller(self):
    # Scaling a ball of curvature −1 by 1/√c gives one of curvature −c; c may be a float32 array.
    table, edges = mammal_table("poincare", "trained").astype(np.float32), mammals().edges
    one = ranks.reconstruction(manifolds.make("poincare"), jnp.asarray(table), edges)
    four = ranks.reconstruction(manifolds.make("poincare", jnp.float32(4)), table / 2, edges)
    self.assertEqual(one, four)

  def test_subset_of_sources(self):
    table, edges = mammal_table("lorentz", "trained"), mammals().edges
    m = manifolds.make("lorentz")
    every, all_ranks = ranks.edge_ranks(m, table, edges)
    subset = np.arange(0, len(table), 7)
    result = ranks.reconstruction(m, table, edges, sources=subset)
    chosen = np.isin(every[:, 0], subset)
    self.assertAlmostEqual(result.mean_rank, all_ranks[chosen].mean())
    self.assertEqual(result.n_edges, chosen.sum())

  def test_queries_stand_elsewhere(self):
    table, edges = mammal_table("euclidean", "trained"), mammals().edges[:2000]
    moved = table + np.array([0.3, -1.0, 0.5])
    result = ranks.reconstruction(manifolds.make("euclidean"), table, edges, queries=moved)
    expected = reference(distances("euclidean", moved, table), edges)
    np.testing.assert_allclose(result[:2], expected, rtol=1e-9)

  def test_cycles_self_edges_and_repetitions(self):
    table = np.array([[0.0], [1.0], [3.0], [7.0], [8.0]])
    edges = np.array([(0, 1), (1, 2), (2, 0), (1, 1), (0, 1), (4, 0)])  # 3 has no edge
    result = ranks.reconstruction(manifolds.make("euclidean"), table, edges)
    # From 0: 1 is first. From 1: 0, 2. From 2: 1, 0 (the others are farther). From 4: 3, 2, 1, 0.
    self.assertEqual(result, (np.mean([1, 2, 2, 4]), np.mean([1, 1 / 2, 1 / 2, 1 / 4]), 4, 4))

  @parameterized.parameters(False, True)
  def test_progress_reaches_the_end(self, accelerator):
    seen = []
    with mock.patch.object(ranks, "_has_accelerator", lambda: accelerator):
      ranks.reconstruction(
        manifolds.make("poincare"),
        mammal_table("poincare", "trained"),
        mammals().edges,
        progress=lambda done, total: seen.append((done, total)),
      )
    self.assertEqual(seen[-1], (1179, 1179))
    self.assertEqual(seen, sorted(seen))

  @parameterized.parameters(
    ([[0, 9]], 0.0, "ids must be in"),
    ([[-1, 0]], 0.0, "ids must be in"),
    ([[0.5, 1]], 0.0, "integer ids"),
    ([[1, 1]], 0.0, "no edge"),
    ([[0, 1]], np.nan, "finite"),
  )
  def test_refuses(self, edges, value, message):
    with self.assertRaisesRegex(ValueError, message):
      ranks.reconstruction(manifolds.make("poincare"), np.full((9, 2), value), edges)


class LinkPredictionTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_equals_reference_on_mammals(self, name, kind):
    table, edges = mammal_table(name, kind), mammals().edges
    test = np.random.default_rng(1).random(len(edges)) < 0.1
    result = ranks.link_prediction(manifolds.make(name), table, edges[test], edges[~test])
    expected = reference(distances(name, table, table), edges[test], edges[~test])
    np.testing.assert_allclose(result[:2], expected, rtol=1e-9)
    self.assertEqual(result.n_edges, test.sum())

  def test_known_edges_may_include_the_test_edges(self):
    table, edges = mammal_table("lorentz", "trained"), mammals().edges
    m = manifolds.make("lorentz")
    both = ranks.link_prediction(m, table, edges[::9], edges)
    rest = ranks.link_prediction(m, table, edges[::9], np.delete(edges, np.s_[::9], axis=0))
    self.assertEqual(both, rest)


if __name__ == "__main__":
  absltest.main()
