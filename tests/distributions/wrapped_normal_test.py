"""The wrapped normal integrates to 1 in every chart, is the same in all, and is what is drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from scipy import stats

from geoemb import manifolds
from geoemb.distributions import wrapped_normal
from geoemb.manifolds import halfspace, horospherical, klein, lorentz
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

C = 0.7
MU = np.array([0.4, -0.3])
TRIL = np.array([[0.5, 0.0], [0.2, 0.35]])
SWAP = np.eye(2)[::-1]
# The point of a chart for one of the Lorentz chart, and the order of its frame.
HYPERBOLIC = {
  "lorentz": (lambda x: x, np.eye(2)),
  "klein": (functools.partial(klein.from_lorentz, c=C), np.eye(2)),
  "poincare": (functools.partial(lorentz.to_poincare, c=C), np.eye(2)),
  "halfspace": (functools.partial(halfspace.from_lorentz, c=C), SWAP),
  "horospherical": (functools.partial(horospherical.from_lorentz, c=C), np.eye(2)),
}


def polar(radius, profile):
  """Points [n, 2] of the plane in polar coordinates, r and θ, and the weights of an integral."""
  t, w = np.polynomial.legendre.leggauss(48)
  r, w_r = radius * (t + 1) / 2, radius * w / 2
  theta = 2 * np.pi * np.arange(32) / 32
  weight = (w_r * profile(r))[:, None] * np.full(32, 2 * np.pi / 32)
  x = np.stack([np.cos(theta), np.sin(theta)], -1)
  return r, x, weight.ravel()


def ask(m, x, mu, tril, other):
  """Densities and samples, and their distances from a point."""
  log_prob = lambda x, mu, tril: wrapped_normal.log_prob(m, x, mu, tril, tril=True)
  drawn = wrapped_normal.sample(jax.random.key(3), m, mu, tril, (4000,), tril=True)
  return {
    "log p": log_prob(x, mu, tril), "d": m.dist(other, x), "d drawn": m.dist(other, drawn),
    "drawn": drawn,
  }  # fmt: skip


@functools.cache
def hyperbolic(name, dtype):
  with jax.enable_x64(True):
    r, n, weight = polar(6.0, lambda r: np.sinh(np.sqrt(C) * r) / np.sqrt(C))
    x = (np.sinh(np.sqrt(C) * r) / np.sqrt(C))[:, None, None] * n
    into, order = HYPERBOLIC[name]

    @quick_jit
    def compute(x, mu):
      points, mu, other = into(x), into(mu), into(-mu)
      tril = jnp.asarray(np.linalg.cholesky(order @ TRIL @ TRIL.T @ order), dtype)
      return ask(manifolds.make(name, C), points, mu, tril, other)

    f = compute(*(jnp.asarray(a, dtype) for a in (x.reshape(-1, 2), MU)))
    return {k: np.asarray(v) for k, v in f.items()} | {"weight": weight}


asked = functools.cache(lambda name, c: quick_jit(functools.partial(ask, manifolds.make(name, c))))


@functools.cache
def round_(name, scale):
  """The sphere, from a pole or in the projected chart, with a scale at which tangents wrap."""
  with jax.enable_x64(True):
    pole = np.array([0.6, -0.48, 0.64])
    r, n, weight = polar(np.pi, lambda r: np.sin(r) / C)
    basis = np.linalg.svd(np.eye(3) - np.outer(pole, pole))[0][:, :2]
    around = np.sin(r)[:, None, None] * (n @ basis.T)
    x = (np.cos(r)[:, None, None] * pole + around).reshape(-1, 3) / np.sqrt(C)
    mu, other = pole / np.sqrt(C), np.array([0, 1.0, 0]) / np.sqrt(C)
    if name == "stereographic":  # from the sphere by x_i / (1 + √c x_0)
      x, mu, other = (a[..., 1:] / (1 + np.sqrt(C) * a[..., :1]) for a in (x, mu, other))
    f = asked(name, -C if name == "stereographic" else C)
    f = f(*map(jnp.asarray, (x, mu, scale * TRIL, other)))
    return {k: np.asarray(v) for k, v in f.items()} | {"weight": weight}


def check(f, mass=1e-9):
  p = np.exp(f["log p"].astype(np.float64)) * f["weight"]
  np.testing.assert_allclose(p.sum(), 1, atol=mass)
  for power in (1, 2):  # within five standard errors
    d = f["d drawn"].astype(np.float64) ** power
    error = d.std() / np.sqrt(d.size)
    np.testing.assert_allclose(d.mean(), np.sum(p * f["d"] ** power), atol=5 * error)


class HyperbolicTest(parameterized.TestCase):
  @parameterized.parameters(*HYPERBOLIC)
  def test_integrates_to_1_and_is_what_is_drawn(self, name):
    check(hyperbolic(name, "float64"))

  @parameterized.parameters(*HYPERBOLIC)
  def test_charts_agree(self, name):
    one, other = hyperbolic("lorentz", "float64"), hyperbolic(name, "float64")
    np.testing.assert_allclose(one["log p"], other["log p"], rtol=1e-8, atol=1e-8)

  def test_float32(self):
    one, f = hyperbolic("lorentz", "float64"), hyperbolic("poincare", "float32")
    self.assertEqual({str(f[k].dtype) for k in ("log p", "drawn")}, {"float32"})
    check(f, 1e-4)
    near = one["log p"] > -20  # beyond, a point is blurred by eps·e^r of many scales
    np.testing.assert_allclose(f["log p"][near], one["log p"][near], rtol=1e-4, atol=1e-4)


class RoundTest(parameterized.TestCase):
  @parameterized.product(name=("sphere", "stereographic"), scale=(0.5, 4.0))
  def test_integrates_to_1_and_is_what_is_drawn(self, name, scale):
    check(round_(name, scale), 1e-7)

  def test_charts_agree(self):
    f, g = (round_(name, 4.0)["log p"] for name in ("sphere", "stereographic"))
    np.testing.assert_allclose(f, g, rtol=1e-8, atol=1e-8)

  def test_the_antipode_is_as_what_is_beside_it(self):
    m = manifolds.make("stereographic", -1.0)
    beside = np.float32([0, -1e-6, 1e-4, 1e-3])[:, None]
    f = quick_jit(lambda x, mu: wrapped_normal.log_prob(m, x, mu, 0.5))
    circle = f(jnp.asarray([-2.0]) * (1 + beside), jnp.asarray([0.5]))
    np.testing.assert_allclose(circle, -19.2719, atol=2e-3)
    plane = f(jnp.asarray([-2.0, 0]) * (1 + beside), jnp.asarray([0.5, 0]))
    self.assertGreater(plane[0], plane[2] + 1)  # it is infinite there, as 1/sin
    np.testing.assert_allclose(plane[2] - plane[3], np.log(10), atol=0.01)

  @parameterized.parameters("sphere", "stereographic")
  def test_on_the_circle_is_the_normal_of_all_windings(self, name):
    with jax.enable_x64(True):
      a = np.array([0, 1e-12, -1e-6, 0.4, -3.0, np.pi])
      x = np.stack([np.cos(a), np.sin(a)], -1)
      m, mu = manifolds.make(name, 1.0), np.array([1.0, 0])
      if name == "stereographic":
        m, mu, x = manifolds.make(name, -1.0), np.array([0.0]), np.tan(a[:-1, None] / 2)
      f = quick_jit(lambda x, mu, s: wrapped_normal.log_prob(m, x, mu, s))
      found = f(jnp.asarray(x), jnp.asarray(mu), jnp.asarray(3.0))
    turns = a[: len(x), None] + 2 * np.pi * np.arange(-30, 31)
    expected = np.log(stats.norm(0, 3).pdf(turns).sum(-1))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


class PartsTest(parameterized.TestCase):
  def test_flat_is_the_normal(self):
    m = manifolds.make("euclidean")
    x = np.random.default_rng(0).standard_normal((20, 2))
    with jax.enable_x64(True):
      found = quick_jit(lambda x: wrapped_normal.log_prob(m, x, jnp.asarray(MU), TRIL, tril=True))(
        jnp.asarray(x)
      )
    expected = stats.multivariate_normal(MU, TRIL @ TRIL.T).logpdf(x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)

  def test_a_scalar_is_a_vector_is_a_matrix(self):
    m = manifolds.make("euclidean")
    x, mu = np.random.default_rng(0).standard_normal((2, 6, 3))
    f = quick_jit(
      lambda x, mu, s: [
        wrapped_normal.log_prob(m, x, mu, scale, tril=tril)
        for scale, tril in ((s, False), (s * jnp.ones((6, 3)), False), (s * jnp.eye(3), True))
      ]
    )
    with jax.enable_x64(True):
      scalar, vector, matrix = f(jnp.asarray(x), jnp.asarray(mu), jnp.asarray(0.7))
    np.testing.assert_allclose(scalar, vector, rtol=1e-13)
    np.testing.assert_allclose(scalar, matrix, rtol=1e-13)

  @parameterized.parameters(("sphere",))
  def test_slopes_are_those_of_finite_differences(self, name):
    """Along curves of all arguments; at x = μ they are finite."""
    m = manifolds.make(name, C)
    rng = np.random.default_rng(0)
    steps = np.array([0, -2e-3, -1e-3, 1e-3, 2e-3])

    @quick_jit
    def curves(g, a, t):
      """Points along geodesics, [2, t, 6, ...], and their velocities at the start."""
      o = m.origin((6,), 3, g.dtype)
      x = m.exp(o, m.egrad2rgrad(o, 0.6 * g))
      x = x.at[0, 3:].set(x[1, 3:])
      v = m.egrad2rgrad(x, a)
      return m.exp(x[:, None], t[:, None, None] * v[:, None]), v

    @quick_jit
    def log_prob(x, mu, s):
      f = lambda *args: wrapped_normal.log_prob(m, *args).sum()
      return wrapped_normal.log_prob(m, x, mu, s), jax.grad(f, (0, 1, 2))(x, mu, s)

    with jax.enable_x64(True):
      points = m.origin((2, 6), 3, jnp.float64).shape
      (x, mu), v = curves(*(rng.standard_normal(s) for s in (points, points)), jnp.asarray(steps))
      by_s = rng.standard_normal((6, 3))
      s = np.exp(0.3 * rng.standard_normal((6, 3))) + steps[:, None, None] * by_s
      values, slopes = jax.tree.map(np.asarray, log_prob(x, mu, jnp.asarray(s)))
    self.assertTrue(all(np.all(np.isfinite(a)) for a in (values, *slopes)))
    slope = sum(np.sum(a * b[0], -1) for a, b in zip((*np.asarray(v), by_s), slopes))
    numeric = np.array([1, -8, 8, -1]) @ np.asarray(values)[1:] / 12e-3
    np.testing.assert_allclose(slope[:3], numeric[:3], rtol=1e-8, atol=1e-8)

  def test_samples_are_reparametrised(self):
    m = manifolds.make("poincare", C)
    mu = np.array([[0.3, -0.2], [0.1, 0.5]])

    @quick_jit
    def compute(s):
      return jax.jvp(
        lambda s: wrapped_normal.sample(jax.random.key(0), m, jnp.asarray(mu), s),
        (s,), (jnp.ones_like(s),),
      )  # fmt: skip

    with jax.enable_x64(True):
      scales = 0.6 + 1e-5 * np.array([-1, 0, 1])[:, None, None] * np.ones((2, 2))
      found = jax.tree.map(np.asarray, [compute(jnp.asarray(s)) for s in scales])
      (low, _), (_, slope), (high, _) = found
    np.testing.assert_allclose(slope, (high - low) / 2e-5, rtol=1e-8, atol=1e-8)

  def test_a_wrong_scale_is_refused(self):
    m = manifolds.make("lorentz")
    x = jnp.zeros((3,))
    with self.assertRaisesRegex(ValueError, r"scalar or \[..., 3\]"):
      wrapped_normal.log_prob(m, x, x, jnp.ones((2,)))
    with self.assertRaisesRegex(ValueError, "Cholesky"):
      wrapped_normal.log_prob(m, x, x, jnp.ones((3,)), tril=True)
