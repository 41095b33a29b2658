"""HoroPCA in the Lorentz chart: what horospherical projections keep, and what the search finds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.manifolds import lorentz
from geoemb.reduction import horo_pca
from geoemb.reduction.components import Components
from tests.compiling import quick_jit

C, N, DIM, K = 0.7, 40, 4, 2
SPREAD = np.array([0.5, 0.3, 0.15, 0.05])


@quick_jit
def compute(c, x):
  m = manifolds.make("lorentz", c)
  fits = horo_pca.fit(m, x, K)
  at = horo_pca.coordinates(m, fits, x)
  y = horo_pca.points(m, fits, at)
  bend = jnp.sqrt(c) * m.to_frame(fits.mean, m.log(fits.mean, x))
  return fits, at, y, m.pairwise(x, x), m.pairwise(y, y), m.dist(x, y), bend


@functools.cache
def facts(c, rank=DIM, moved=False, scale=1.0):
  x = np.random.default_rng(0).standard_normal((N, DIM)) * SPREAD * scale
  x[:, rank:] = 0
  x[:, 1] += 0.2
  if moved:
    boost, (turn, _) = (
      np.eye(DIM + 1),
      np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4))),
    )
    boost[:2, :2] = [[np.cosh(0.8), np.sinh(0.8)], [np.sinh(0.8), np.cosh(0.8)]]
    ambient = np.concatenate([np.sqrt(1 / c + (x**2).sum(1, keepdims=True)), x @ turn], axis=1)
    x = (ambient @ boost)[:, 1:]
  with jax.enable_x64(True):
    return x, *jax.tree.map(np.asarray, compute(jnp.asarray(c), x))


@functools.cache
def projected(k):
  """Points [n, d] and their projections to the span of the first k axes at the origin."""
  m = manifolds.make("lorentz", C)
  x = 1.5 * np.random.default_rng(2).standard_normal((60, DIM))
  with jax.enable_x64(True):
    eye = jnp.eye(DIM)
    found = Components(jnp.zeros(DIM), eye[:k], jnp.ones(k), jnp.ones(()))

    @quick_jit
    def project(x):
      at = horo_pca.coordinates(m, found, x)
      y = horo_pca.points(m, found, at)
      busemann = lambda x: m.busemann(x[:, None], eye[:k])
      return at, y, busemann(x), busemann(y)

    return project, x, *map(np.asarray, project(x))


@pytest.mark.parametrize("k", [1, 3])
def test_busemann_functions_stay(k):
  _, _, at, y, before, after = projected(k)
  np.testing.assert_allclose(after, before, rtol=1e-11, atol=1e-12)
  np.testing.assert_allclose(y[:, k:], 0, atol=1e-15)
  if k == 1:
    np.testing.assert_allclose(at, -before, rtol=1e-11, atol=1e-12)
  time = np.sqrt(1 + C * (y**2).sum(1))
  assert np.all(time - C**0.5 * y.sum(1) > -1e-12)  # on the origin's side of the ideal points' hull


def test_distances_on_every_page_stay():
  """Pages turn about the hull of the ideal points: Corollary A.10 of the paper."""
  k = 3
  project, _, _, y, *_ = projected(k)
  time = np.sqrt(1 + C * (y**2).sum(1))
  normal = np.array([1.0, 1, 1, 1, 0]) / np.sqrt(k - 1)  # ⟨·, (1, p_i)⟩ = 0
  ambient = np.concatenate([time[:, None] / C**0.5, y], axis=1)
  along = ambient @ (normal * [-1, 1, 1, 1, 1])
  page = ambient + along[:, None] * ((np.cos(0.9) - 1) * normal + np.sin(0.9) * np.eye(5)[4])
  with jax.enable_x64(True):
    back = np.asarray(project(page[:, 1:])[1])
  np.testing.assert_allclose(back, y, rtol=1e-9, atol=1e-10)
  dist = lambda x: np.asarray(lorentz.pairwise(x, x, c=C))
  with jax.enable_x64(True):
    np.testing.assert_allclose(dist(page[:, 1:]), dist(y), rtol=1e-6, atol=1e-6)


def test_variances_are_those_of_the_projections():
  _, fits, at, _, all_, kept, _, bend = facts(C)
  np.testing.assert_allclose(fits.total, 0.5 * np.mean(all_**2), rtol=1e-9)
  np.testing.assert_allclose(fits.variances.sum(), 0.5 * np.mean(kept**2), rtol=1e-9)
  assert 0 < fits.variances.sum() < fits.total and np.all(fits.variances > 0)
  # The first is the largest variance of a Busemann function, as a search over directions finds it.
  p = np.random.default_rng(3).standard_normal((4000, DIM))
  p /= np.linalg.norm(p, axis=1, keepdims=True)
  r = np.linalg.norm(bend, axis=1, keepdims=True)
  busemann = np.log(np.cosh(r) - (bend * np.sinh(r) / r) @ p.T) / C**0.5
  best = busemann.var(axis=0).max()
  assert best <= fits.variances[0] < 1.02 * best


def test_isometries_take_projections_along():
  (_, fits, at, *_), (_, other, moved, *_) = facts(C), facts(C, moved=True)
  np.testing.assert_allclose(fits.variances, other.variances, rtol=1e-7)
  np.testing.assert_allclose(at, moved, atol=1e-5)


def test_points_on_a_geodesic_plane_stay():
  x, _, _, y, *_ = facts(C, rank=2)
  np.testing.assert_allclose(y, x, atol=1e-7)


def test_tends_to_pca():
  x, fits, at, *_ = facts(1e-10)
  _, s, vt = np.linalg.svd(x - x.mean(axis=0))
  np.testing.assert_allclose(fits.variances, s[:K] ** 2 / N, rtol=1e-4)
  np.testing.assert_allclose(np.abs(fits.directions), np.abs(vt[:K]), atol=1e-3)


def test_far_points_in_float32_are_finite():
  m = manifolds.make("lorentz", 1.0)
  found = Components(jnp.zeros(3), jnp.eye(3)[:2], jnp.ones(2), jnp.ones(()))
  x = m.exp0(jnp.array([[40.0, 0, 0], [-40, 0, 0], [20, 20, 20], [0, 0, 40], [0, 0, 0]]))
  at = quick_jit(lambda x: horo_pca.coordinates(m, found, x))(x)
  assert np.all(np.isfinite(at))
  np.testing.assert_allclose(at[1], [-40, 0], atol=1e-3)


def test_mistakes():
  for m in (manifolds.make("sphere"), manifolds.make("stereographic", -1.0)):
    with pytest.raises(ValueError, match="ideal points are of hyperbolic space, got s"):
      horo_pca.fit(m, jnp.eye(3), 1)
  with pytest.raises(ValueError, match=r"points must be \[n, d\], got \[0, 3\]"):
    horo_pca.fit(manifolds.make("lorentz"), jnp.zeros((0, 3)), 1)
