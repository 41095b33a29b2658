"""Diagonal Gaussians: Fisher's metric against the divergence it is the Hessian of."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.manifolds import gaussian
from tests.compiling import quick_jit

N, DIM, C = 9, 2, 1.4
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


@functools.cache
def facts(dtype):
  with jax.enable_x64(True):
    m = manifolds.make("gaussian", C)

    @quick_jit
    def compute(key):
      key_x, key_y, key_u = jax.random.split(key, 3)
      x, y = (m.random(k, (N,), DIM, scale=1.5, dtype=dtype) for k in (key_x, key_y))
      g, u = jax.random.normal(key_u, (2, *x.shape), dtype)
      rgrad, log, end = m.egrad2rgrad(x, g), m.log(x, y), m.exp(x, 0.3 * u)
      p_u, p_r = m.transport(x, y, u), m.transport(x, y, rgrad)
      bend = jax.jvp(lambda z: jax.jvp(lambda z: gaussian.kl(x, z), (z,), (u,))[1], (x,), (u,))[1]
      f = {
        "x": x, "y": y, "u": u, "d": m.dist(x, y), "kl": gaussian.kl(x, y),
        "wasserstein": gaussian.wasserstein(x, y),
      }  # fmt: skip
      pairs = {
        "exp log": (m.exp(x, log), y), "log exp": (m.log(x, end), 0.3 * u),
        "|log|": (m.norm(x, log), m.dist(x, y)), "symmetric": (m.dist(y, x), m.dist(x, y)),
        "square": (m.sqdist(x, y), m.dist(x, y) ** 2), "isometry": (m.inner(y, p_u, p_r),
                                                                    m.inner(x, u, rgrad)),
        "along": (m.transport(x, y, log), -m.log(y, x)),
        "rgrad": (m.inner(x, rgrad, u), jnp.sum(g * u, axis=-1)),
        "slope": (m.egrad2rgrad(x, jax.grad(lambda x: 0.5 * m.sqdist(x, y).sum())(x)), -log),
        "stay": (jax.grad(lambda x: m.dist(x, y).sum())(y), 0 * y),
        "descend": (m.descend(x, g, 0.2, 0.5), m.exp(x, -0.2 * rgrad, 0.5)),
        "short": (m.dist(x, m.exp(x, u, 0.3)), jnp.minimum(m.norm(x, u), 0.3)),
        "components": (m.component_inner(x, u)[:, :DIM].sum(-1), m.inner(x, u, u)),
        "pairwise": (m.pairwise(x, y), m.dist(x[:, None], y)), "proj": (m.proj(x), x),
        "fisher": (bend, C * m.inner(x, u, u)),
        "retract": (m.log(x, m.retract(x, 1e-3 * u)), 1e-3 * u),
        "kl(x,x)": (gaussian.kl(x, x), 0 * x[:, 0]),
        "still": (jax.grad(lambda z: gaussian.kl(z, x).sum())(x), 0 * x),
      }  # fmt: skip
      return f, pairs

    return jax.tree.map(np.asarray, compute(jax.random.key(0)))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_laws(dtype):
  _, pairs = facts(dtype)
  for name, (one, other) in pairs.items():
    assert one.dtype == other.dtype == dtype, name
    tol = 1e-5 if name == "retract" else TOLERANCE[dtype] * (10 if name == "fisher" else 1)
    np.testing.assert_allclose(one, other, rtol=tol, atol=tol, err_msg=name)


def test_distances_are_those_of_half_planes():
  """[costa2015fisher] eq. 4, with μ/√2 and σ the coordinates of a plane of curvature −C/2."""
  f, _ = facts("float64")
  (p, s), (q, t) = (np.split(f[k], 2, axis=1) for k in "xy")
  chord = (0.5 * (p - q) ** 2 + (s - t) ** 2) / (2 * s * t)
  expected = np.sqrt(2 / C * np.sum(np.arccosh(1 + chord) ** 2, axis=1))
  np.testing.assert_allclose(f["d"], expected, rtol=1e-12)
  np.testing.assert_allclose(f["wasserstein"] ** 2, np.sum((f["x"] - f["y"]) ** 2, axis=1))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_divergence_against_mpmath(dtype):
  rng = np.random.default_rng(0)
  x = np.concatenate([rng.standard_normal((60, 1)), np.exp(rng.standard_normal((60, 1)))], axis=1)
  gap = 10.0 ** rng.uniform(-7 if dtype == "float64" else -4, 0.5, (60, 1))
  y = x + gap * np.concatenate([rng.standard_normal((60, 1)), rng.uniform(-0.3, 1, (60, 1))], 1)
  x, y = np.float64(x).astype(dtype), np.float64(y).astype(dtype)
  x, y = x[y[:, 1] > 0], y[y[:, 1] > 0]
  with jax.enable_x64(True):
    got = jax.jit(gaussian.kl)(jnp.asarray(x), jnp.asarray(y))

  def exact(x, y):
    mu, s, nu, t = map(mpmath.mpf, map(float, (*x, *y)))
    return mpmath.log(t / s) + (s**2 + (mu - nu) ** 2) / (2 * t**2) - mpmath.mpf(1) / 2

  with mpmath.workdps(60):
    want = np.array([float(exact(*pair)) for pair in zip(x, y)])
  np.testing.assert_allclose(got, want, rtol={"float32": 3e-5, "float64": 1e-13}[dtype])


def test_extremes_are_finite():
  edge = np.array([0, 1e-30, 1, -1, 1e9, 1e30, -1e30], np.float32)
  x = np.stack(np.meshgrid(edge, edge), -1).reshape(-1, 2)
  i, j = np.mgrid[: len(x), : len(x)].reshape(2, -1)
  ask = jax.jit(lambda x, y: [jax.vjp(f, x, y) for f in (gaussian.kl, gaussian.dist)])
  for value, pull in ask(x[i], x[j]):
    assert np.all(np.isfinite(value))
    for slope in jax.jit(lambda p, v: p(v))(pull, jnp.ones_like(value)):
      assert np.all(np.isfinite(slope))


def test_mistakes():
  with pytest.raises(ValueError, match="as many deviations as means, got 3"):
    gaussian.dist(jnp.ones(3), jnp.ones(3))
