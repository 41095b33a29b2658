"""Optimizers on manifolds of matrices: means, an alignment and principal axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.manifolds import means
from geoemb.optim import links, radam, rsgd, schedules
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

DIMS = {"grassmann": (4, 2), "log_euclidean": 3, "so": 3, "spd": 3, "stiefel": (3, 2)}
OPTIMIZERS = {
  "rsgd": functools.partial(rsgd.rsgd, momentum=0.5, max_grad=2.0),
  "radam": functools.partial(radam.radam, max_step=0.3),
}


def minimize(tx, loss, x, steps):
  """The point after some steps."""

  def step(carried, _):
    x, state = carried
    updates, state = tx.update(jax.grad(loss)(x), state, x)
    return (optax.apply_updates(x, updates), state), None

  return jax.lax.scan(step, (x, tx.init(x)), length=steps)[0][0]


@functools.cache
def found_means(name):
  """How far each optimizer, in the order of OPTIMIZERS, ends from means and from the manifold."""
  m = manifolds.make(name)
  txs = [
    make(schedules.burn_in(rate, steps=120, end=0.0), m)
    for make, rate in zip(OPTIMIZERS.values(), (0.3, 0.2))
  ]

  @quick_jit
  def run(key):
    o = m.random(key, (2,), DIMS[name], scale=0.5)
    v = m.egrad2rgrad(o, jax.random.normal(key, (6, *o.shape)))
    y = m.exp(o, 0.6 * v / m.wide(m.norm(o, v)))[:, None]  # 6 points about each of 2 centres
    loss = lambda x: 0.5 * m.sqdist(x, y).mean(0).sum()

    def step(carried, _):
      x, states = carried
      out = [tx.update(g, s, a) for tx, g, s, a in zip(txs, jax.grad(loss)(x), states, x)]
      moved = jnp.stack([optax.apply_updates(a, d) for a, (d, _) in zip(x, out)])
      return (moved, [s for _, s in out]), None

    x = jnp.broadcast_to(y[0], (len(txs), *o.shape))
    x = jax.lax.scan(step, (x, [tx.init(x[0]) for tx in txs]), length=120)[0][0]
    return x, m.norm(x, m.log(x, y).mean(0)), m.dist(x, m.proj(x))

  return run(jax.random.key(0))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", manifolds.MATRIX_NAMES)
def test_finds_the_mean_of_points(name, optimizer):
  x, *rest = found_means(name)
  slope, off = (a[list(OPTIMIZERS).index(optimizer)] for a in rest)
  assert x.dtype == jnp.float32
  # Adam's step does not shrink with the gradient, only with its rate: 0.2/120 at last.
  np.testing.assert_allclose(slope, 0, atol=1e-4 if optimizer == "rsgd" else 1e-3)
  np.testing.assert_allclose(off, 0, atol=1e-5)


@pytest.mark.parametrize("name", ["spd"])
def test_frechet_is_the_mean(name):
  m = manifolds.make(name)

  @quick_jit
  def run(key):
    o = m.origin((6,), DIMS[name])
    v = m.egrad2rgrad(o, jax.random.normal(key, o.shape))
    y = m.exp(o, 0.6 * v / m.wide(m.norm(o, v)))
    w = jnp.arange(1, 7.0) / 21
    x = means.frechet(m, y, w)
    return m.norm(x, jnp.tensordot(w, m.log(x, y), 1))

  assert run(jax.random.key(1)) < 1e-5


def test_procrustes_is_solved_on_the_rotations():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((2, 20, 3)).astype(np.float32)
  u, _, vt = np.linalg.svd(a.T @ b)
  best = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
  m = manifolds.make("so")
  tx = rsgd.rsgd(schedules.burn_in(0.5, steps=200, end=0.0), m, momentum=0.5)
  loss = lambda x: jnp.sum(jnp.square(a @ x - b)) / 20
  found = quick_jit(lambda x: minimize(tx, loss, x, 200))(m.origin((), 3))
  np.testing.assert_allclose(found, best, atol=1e-4)


def test_principal_axes_are_found_on_the_planes():
  rng = np.random.default_rng(1)
  data = (rng.standard_normal((50, 5)) * [3, 2, 1, 0.5, 0.3]).astype(np.float32)
  axes = np.linalg.svd(data)[2][:2].T
  m = manifolds.make("grassmann")
  tx = rsgd.rsgd(schedules.burn_in(0.2, steps=150, end=0.0), m, momentum=0.5, move="retract")
  loss = lambda x: -jnp.sum(jnp.square(data @ x)) / 50
  run = quick_jit(lambda x: m.dist(minimize(tx, loss, x, 150), axes))
  assert run(m.random(jax.random.key(0), (), (5, 2))) < 1e-3


def test_clips_are_by_point():
  m = manifolds.make("so")
  x = m.origin((2,), 3)
  v = (
    jnp.zeros((2, 3, 3))
    .at[:, 0, 1]
    .set(jnp.array([3.0, 0.1]))
    .at[:, 1, 0]
    .set(jnp.array([-3.0, -0.1]))
  )
  for norm, long in (("riemannian", 1.0), ("chart", np.sqrt(2))):
    clip = links.clip_norm(m, long, norm=norm)
    out = clip.update(v, clip.init(x), x)[0]
    np.testing.assert_allclose(out[:, 0, 1], [1, 0.1], rtol=1e-6)
