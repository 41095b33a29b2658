"""What every minimiser finds: Fréchet means and eigenvectors, to the last digits of float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.manifolds import means
from geoemb.optim.second_order import conjugate_gradient, lbfgs, trust_region
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

C, DIM, N = 0.7, 4, 6
MINIMISERS = {
  "hager-zhang": conjugate_gradient.minimize,
  "polak-ribiere": functools.partial(conjugate_gradient.minimize, beta="polak-ribiere"),
  "lbfgs": functools.partial(lbfgs.minimize, memory=4),
  "trust region": trust_region.minimize,
}
CASES = [*(("sphere", method) for method in MINIMISERS), ("lorentz", "hager-zhang"),
         ("lorentz", "lbfgs"), ("lorentz", "trust region")]  # fmt: skip
TOL = 1e-10
COUNTS = np.array([*range(1, 9), 200], np.int32)  # of steps allowed


def problem(name):
  """Points y [N, 2, d] around two means, a matrix with eigenvalues 1 … d, and two starts."""
  rng = np.random.default_rng(0)
  m = manifolds.make(name, C)
  o = m.origin((N + 1, 2), DIM, jnp.float64)
  v = m.egrad2rgrad(o, rng.standard_normal(o.shape))
  z = m.exp(o, 0.8 * v / m.norm(o, v)[..., None])
  d = o.shape[-1]
  q = np.linalg.qr(rng.standard_normal((d, d)))[0]
  return m, z[0], z[1:], (q * np.arange(1, d + 1)) @ q.T


def square(m, x, y):
  """Squared distances of points that are apart, typed from the textbook."""
  if m.name == "sphere":
    return jnp.square(jnp.arccos(C * jnp.sum(x * y, axis=-1))) / C
  t_x, t_y = (jnp.sqrt(1 / C + jnp.sum(z * z, axis=-1)) for z in (x, y))
  return jnp.square(jnp.arccosh(C * (t_x * t_y - jnp.sum(x * y, axis=-1)))) / C


@functools.cache
def facts(name, method):
  """Results by number of steps, [2, k]: first of the means, then of the quadratic form."""

  @quick_jit
  def compute():
    m, x0, y, a = problem(name)

    def run(shares, count):
      def f(x):
        spread = jnp.mean(jnp.sum(square(m, x, y), axis=-1))
        return shares[0] * spread + shares[1] * jnp.sum((x @ a) * x)

      return MINIMISERS[method](f, m, x0, max_iter=count, tol=TOL)

    kinds = jnp.eye(2 if name == "sphere" else 1, 2, dtype=jnp.float64)
    grid = jax.tree.map(jnp.asarray, np.meshgrid(np.arange(len(kinds)), COUNTS, indexing="ij"))
    flat = jax.lax.map(lambda k: run(kinds[k[0]], k[1]), tuple(g.reshape(-1) for g in grid))
    return jax.tree.map(lambda z: z.reshape(len(kinds), len(COUNTS), *z.shape[1:]), flat)

  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, compute())


@functools.cache
def answers(name):
  """The points, the matrix, and on the sheet the means by the module for them."""
  with jax.enable_x64(True):
    _, _, y, a = quick_jit(lambda: problem(name))()
    m, sets = manifolds.make(name, C), jnp.swapaxes(y, 0, 1)
    mean = quick_jit(means.frechet)(m, sets) if name == "lorentz" else None
    return jax.tree.map(np.asarray, (y, a, mean))


@pytest.mark.parametrize("name, method", CASES)
def test_finds_frechet_means(name, method):
  r = jax.tree.map(lambda z: z[0, -1], facts(name, method))
  assert r.converged
  assert r.grad_norm <= TOL
  assert r.iterations < 60
  y, _, mean = answers(name)
  if name == "lorentz":
    np.testing.assert_allclose(r.x, mean, rtol=1e-9, atol=1e-9)
  else:  # there the directions to the points, as long as the angles, add up to 0
    cosine = C * np.sum(r.x * y, axis=-1, keepdims=True)
    u = y - cosine * r.x
    u = u / np.linalg.norm(u, axis=-1, keepdims=True) * np.arccos(cosine)
    np.testing.assert_allclose(u.sum(0), 0, atol=1e-9)


@pytest.mark.parametrize("method", MINIMISERS)
def test_finds_the_least_eigenvector(method):
  """Of a Rayleigh quotient on the sphere of radius 1/√c, whose values are λ/c."""
  r = jax.tree.map(lambda z: z[1, -1], facts("sphere", method))
  assert r.converged
  assert r.iterations < 100
  w, q = np.linalg.eigh(answers("sphere")[1])
  np.testing.assert_allclose(r.value, 2 * w[0] / C, rtol=1e-14)
  for x in r.x:
    np.testing.assert_allclose(np.abs(x @ q[:, 0]), 1 / np.sqrt(C), rtol=1e-14)
    np.testing.assert_allclose(x @ q[:, 1:], 0, atol=1e-9)


@pytest.mark.parametrize("name, method", CASES)
def test_values_fall_and_the_count_is_kept(name, method):
  r = facts(name, method)
  assert np.all(np.diff(r.value, axis=1) <= 1e-12)
  assert np.all(r.iterations <= COUNTS)
  np.testing.assert_array_equal(r.converged, r.grad_norm <= TOL)
  assert not np.any(r.converged[:, 0])
  assert r.iterations.dtype == np.int32


@pytest.mark.parametrize("name", ["lorentz", "sphere"])
def test_trust_regions_converge_superlinearly(name):
  """At least with the power 1.7 once the region no longer binds, to where rounding ends it."""
  for g in facts(name, "trust region").grad_norm:
    g = g[: len(COUNTS) - 1]
    last = g[(g < 0.1) & (g > 1e-14)]
    g = last[: 1 + np.argmax(last < 1e-9)] if np.any(last < 1e-9) else last
    assert len(g) >= 3
    assert np.all(np.log(g[1:]) < 1.7 * np.log(g[:-1]) + np.log(3))


def test_float32_is_kept_and_ends_where_its_rounding_does():
  @quick_jit
  def compute():
    m, x0, y, _ = problem("sphere")
    x0, y = x0.astype(jnp.float32), y.astype(jnp.float32)
    f = lambda x: jnp.mean(jnp.sum(square(m, x, y), axis=-1))
    run = lambda tol: lbfgs.minimize(f, m, x0, tol=tol, max_iter=50)
    return jax.lax.map(run, jnp.array([1e-5, 0.0], jnp.float32))

  with jax.enable_x64(True):
    r = jax.tree.map(np.asarray, compute())
  assert {str(z.dtype) for z in (r.x, r.value, r.grad_norm)} == {"float32"}
  np.testing.assert_array_equal(r.converged, [True, False])
  assert np.all(r.grad_norm < 1e-5)
  expected = facts("sphere", "lbfgs").x[0, -1]
  np.testing.assert_allclose(r.x, [expected, expected], rtol=1e-4, atol=1e-5)
