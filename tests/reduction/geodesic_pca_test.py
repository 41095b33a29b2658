"""Geodesic components by the chart that has curvature of either sign: one compilation for all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.manifolds import gyro
from geoemb.reduction import geodesic_pca, tangent_pca
from tests.compiling import quick_jit

C, N, DIM, K = 0.7, 40, 4, 3
SPREAD = np.array([0.5, 0.3, 0.15, 0.05])


@quick_jit
def compute(c, a):
  """Of points exp_0(a) [n, d], moved along: what is found, projections, and their neighbours."""
  m = manifolds.make("stereographic", c)
  x = m.exp0(m.from_frame0(a))
  x = gyro.add(jnp.full(DIM, 0.2), x, c=c)
  fits = geodesic_pca.fit(m, x, K)
  at = geodesic_pca.coordinates(m, fits, x)
  near = at + 1e-3 * jnp.concatenate([jnp.eye(K), -jnp.eye(K), jnp.zeros((1, K))])[:, None]
  y = geodesic_pca.points(m, fits, near)
  return fits, at, m.sqdist(x, y), m.dist(x[:, None], y[-1])


@functools.cache
def facts(c, moved=False, rank=DIM):
  a = np.random.default_rng(0).standard_normal((N, DIM)) * SPREAD
  a[:, rank:] = 0
  if moved:
    a = a @ np.linalg.qr(np.random.default_rng(1).standard_normal((DIM, DIM)))[0]
  with jax.enable_x64(True):
    return a, *jax.tree.map(np.asarray, compute(jnp.asarray(c), a))


@pytest.mark.parametrize("c", [C, 0.0, -C])
def test_projections_are_the_nearest_points_and_leave_the_least(c):
  _, fits, _, square, _ = facts(c)
  assert np.all(square[-1] <= square[:-1])
  np.testing.assert_allclose(fits.total - fits.variances.sum(), square[-1].mean(), rtol=1e-10)
  assert np.all(fits.variances > 0)


@pytest.mark.parametrize("c", [C, -C])
def test_isometries_take_subspaces_along(c):
  (_, fits, at, _, apart), (_, other, moved, _, far) = facts(c), facts(c, moved=True)
  np.testing.assert_allclose(fits.variances, other.variances, rtol=1e-8)
  np.testing.assert_allclose(np.abs(at), np.abs(moved), atol=1e-6)
  np.testing.assert_allclose(apart, far, atol=1e-6)


@pytest.mark.parametrize("c", [C, -C])
def test_points_on_a_geodesic_plane_stay(c):
  _, fits, at, square, _ = facts(c, rank=2)
  assert np.all(square[-1] < 1e-15) and np.all(np.abs(at[:, 2]) < 1e-7)
  np.testing.assert_allclose(fits.variances[2], 0, atol=1e-12)


def test_flat_space_is_ordinary_pca():
  a, fits, *_ = facts(0.0)
  s = np.linalg.svd(a - a.mean(axis=0), compute_uv=False)
  np.testing.assert_allclose(fits.variances, s[:K] ** 2 / N, rtol=1e-9)


def test_far_sides_of_spheres():
  """Points beyond 90° from the mean against numpy's nearest point of a great circle."""
  m = manifolds.make("sphere", C)
  rng = np.random.default_rng(0)
  x = rng.standard_normal((50, 4))
  x /= np.linalg.norm(x, axis=1, keepdims=True) * C**0.5
  mean, directions = np.eye(4)[0] / C**0.5, np.eye(4)[1:3]
  found = tangent_pca.Components(mean, directions, np.ones(2), np.ones(()))
  with jax.enable_x64(True):
    found = jax.tree.map(jnp.asarray, found)
    y = quick_jit(lambda x: geodesic_pca.points(m, found, geodesic_pca.coordinates(m, found, x)))(x)
  foot = x * [1, 1, 1, 0]
  foot /= np.linalg.norm(foot, axis=1, keepdims=True) * C**0.5
  np.testing.assert_allclose(y, foot, atol=1e-12)


def test_mistakes():
  with pytest.raises(ValueError, match="k must be between 1 and 2, got 3"):
    geodesic_pca.fit(manifolds.make("sphere"), jnp.eye(3), 3)
  with pytest.raises(ValueError, match="constant curvature, got 'h2 x e1'"):
    geodesic_pca.fit(manifolds.make("h2 x e1"), jnp.zeros((2, 3)), 1)
