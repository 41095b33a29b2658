"""The gyrogroup's axioms, and the sums against the textbook formula in 60 digits."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.manifolds import gyro
from tests.compiling import quick_jit

DIM, C = 3, 0.7


def points(n, radius=0.9, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.standard_normal((n, DIM))
  return x * (radius * rng.uniform(0.05, 1, (n, 1)) / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.mark.parametrize("c", [C, -C])
def test_axioms(c):
  with jax.enable_x64(True):
    m = manifolds.make("stereographic", c)
    x, y, z = (points(40, seed=i) / abs(c) ** 0.5 for i in range(3))

    @quick_jit
    def compute(x, y, z):
      add = functools.partial(gyro.add, c=c)
      gyr = functools.partial(gyro.gyration, c=c)
      w = jnp.asarray(np.random.default_rng(5).standard_normal((DIM, DIM)))
      v = 0.2 * z
      return {
        "left identity": (add(0 * x, y), y),
        "inverse": (add(-x, x), 0 * x),
        "left cancellation": (add(-x, add(x, y)), y),
        "gyroassociative": (add(x, add(y, z)), add(add(x, y), gyr(x, y, z))),
        "gyrocommutative": (add(x, y), gyr(x, y, add(y, x))),
        "isometry": (jnp.linalg.norm(gyr(x, y, z), axis=-1), jnp.linalg.norm(z, axis=-1)),
        "loop": (gyr(x, y, z), gyr(add(x, y), y, z)),
        "coaddition": (gyro.coadd(x, y, c=c), add(x, gyr(x, -y, y))),
        "commutes": (gyro.coadd(x, y, c=c), gyro.coadd(y, x, c=c)),
        "distance": (m.dist0(add(-x, y)), m.dist(x, y)),
        "invariance": (m.dist(add(z, x), add(z, y)), m.dist(x, y)),
        "transport": (m.transport(x, y, v) * half_factor(y, c),
                      gyr(y, -x, v) * half_factor(x, c)),
        "twice": (gyro.scale(m, 2.0, 0.3 * x), add(0.3 * x, 0.3 * x)),
        "distributes": (gyro.scale(m, 0.7, x), add(gyro.scale(m, 0.3, x), gyro.scale(m, 0.4, x))),
        "length": (m.dist0(gyro.scale(m, 0.5, x)), 0.5 * m.dist0(x)),
        "identity": (gyro.matvec(m, jnp.eye(DIM), x), x),
        "linear": (gyro.matvec(m, w, gyro.scale(m, 0.1, x)),
                   m.exp0(jnp.einsum("kd,nd->nk", w, 0.1 * m.log0(x)))),
      }  # fmt: skip

    for name, (one, other) in compute(x, y, z).items():
      np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11, err_msg=name)


def half_factor(x, c):
  """λ_x/2."""
  return 1 / (1 - c * jnp.sum(x * x, axis=-1, keepdims=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_differences_of_close_points_far_out(dtype):
  """−x ⊕ y by the formula of [ganea2018hnn] eq. 4 in 60 digits, on the rounded points."""
  eps = np.finfo(dtype).eps
  rng = np.random.default_rng(1)
  u = rng.standard_normal((50, DIM))
  u /= np.linalg.norm(u, axis=1, keepdims=True)
  depth = 10.0 ** rng.uniform({"float32": -4.5, "float64": -9}[dtype], 0, (50, 1))
  x = ((1 - depth) * u).astype(dtype)
  y = (
    x + depth * 10.0 ** rng.uniform(-2, 0, (50, 1)) * 0.3 * rng.standard_normal((50, DIM))
  ).astype(dtype)
  inside = np.sum(np.float64(y) ** 2, axis=1) < 1 - 50 * eps
  x, y = x[inside], y[inside]
  with jax.enable_x64(True):
    got = np.asarray(jax.jit(gyro.add)(jnp.asarray(-x), jnp.asarray(y)), np.float64)

  def exact(x, y):
    x, y = ([mpmath.mpf(float(a)) for a in v] for v in (x, y))
    dot = lambda a, b: sum(p * q for p, q in zip(a, b))
    xy, xx, yy = dot(x, y), dot(x, x), dot(y, y)
    below = 1 + 2 * xy + xx * yy
    return [((1 + 2 * xy + yy) * a + (1 - xx) * b) / below for a, b in zip(x, y)]

  with mpmath.workdps(60):
    want = np.array([[float(a) for a in exact(*pair)] for pair in zip(-x, y)])
  error = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
  assert error.max() < 40 * eps


@pytest.mark.parametrize("c", [1.0, -1.0])
def test_extremes_are_finite(c):
  rows = [0.0, 1e-30, 0.5, -0.5, 1.0, -1.0, 1e9]
  x = np.array([[a, b] for a in rows for b in rows], np.float32)
  i, j = np.mgrid[: len(x), : len(x)].reshape(2, -1)
  for f in (gyro.add, gyro.coadd):
    value, pull = jax.vjp(jax.jit(functools.partial(f, c=c)), x[i], x[j])
    assert np.all(np.isfinite(value))
    assert all(np.all(np.isfinite(s)) for s in pull(jnp.ones_like(value)))
