"""Laws every optimizer obeys on every manifold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.optim import links, radagrad, radam, rsgd, schedules
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

C, DIM = 0.7, 3
DTYPES = ("float32", "float64")
OPTIMIZERS = {
  "rsgd": rsgd.rsgd,
  "rsgd_all": functools.partial(
    rsgd.rsgd, momentum=0.5, nesterov=True, max_grad=5.0, max_step=1.0, move="retract"
  ),
  "radam": radam.radam,
  "radam_all": functools.partial(radam.radam, amsgrad=True, max_step=0.3, move="retract"),
}


def cloud(m, key, shape, dtype, radius):
  """Points at distances up to `radius` from the origin, [*shape, *point]."""
  key_v, key_r = jax.random.split(key)
  x = m.origin(shape, DIM, jnp.dtype(dtype))
  v = m.egrad2rgrad(x, jax.random.normal(key_v, x.shape, x.dtype))
  r = radius * jax.random.uniform(key_r, shape, x.dtype)
  return m.exp(x, v * (r / m.norm(x, v))[..., None])


def on_manifold(m, x):
  if m.name == "poincare":
    return jnp.all(m.c * jnp.sum(x * x, axis=-1) < 1)
  if m.name == "sphere":
    return jnp.all(jnp.abs(m.c * jnp.sum(x * x, axis=-1) - 1) < 16 * jnp.finfo(x.dtype).eps)
  return jnp.all(jnp.isfinite(x))


@pytest.mark.parametrize(
  "name, optimizer, dtype",  # everything in both precisions, but not every triple: all compile
  [
    ("euclidean", "rsgd", "float32"),
    ("euclidean", "radam_all", "float64"),
    ("lorentz", "rsgd_all", "float64"),
    ("lorentz", "radam", "float32"),
    ("poincare", "rsgd_all", "float32"),
    ("poincare", "radam", "float64"),
    ("sphere", "rsgd", "float64"),
    ("sphere", "radam_all", "float32"),
  ],
)
def test_finds_the_mean_on_the_manifold_and_compiles_once(name, optimizer, dtype):
  traces, steps = [], 120

  with jax.enable_x64(dtype == "float64"):
    m = manifolds.make(name, C)
    draw = quick_jit(cloud, static_argnums=(2, 3, 4))
    y = draw(m, jax.random.key(0), (5, 2), dtype, 0.8)  # 5 points for each of 2 means
    x = draw(m, jax.random.key(1), (2,), dtype, 1.5)
    rate = 0.2 if optimizer == "radam" else 0.5  # AMSGrad goes by its largest gradient, the first
    schedule = schedules.burn_in(rate, steps=steps, burn_in_steps=5, factor=0.1, end=0.0)
    tx = OPTIMIZERS[optimizer](schedule, m)

    @jax.jit
    def step(x, state):
      traces.append(None)
      g = jax.grad(lambda x: 0.5 * jnp.sum(jnp.mean(m.dist(x, y) ** 2, axis=0)))(x)
      slope = m.norm(x, m.egrad2rgrad(x, g))
      updates, state = tx.update(g, state, x)
      x = optax.apply_updates(x, updates)
      return x, state, on_manifold(m, x), slope

    state = tx.init(x)
    for _ in range(steps):
      x, state, good, slope = step(x, state)
      assert good
  assert len(traces) == 1
  assert x.dtype == dtype
  # RAdam's steps are as long as its rate, small gradients or not, and so end with the rate.
  assert np.asarray(slope).max() < (1e-2 if optimizer.startswith("radam") else 1e-5)


def isometry(m, key):
  """A map of points that keeps distances: a rotation, with a boost where space is hyperbolic."""
  key_q, key_b = jax.random.split(key)
  size = m.origin((), DIM, jnp.float64).shape[0]
  q, _ = jnp.linalg.qr(jax.random.normal(key_q, (size, size), jnp.float64))
  if m.name not in ("lorentz", "poincare"):
    return lambda x: x @ q.T
  b = jax.random.normal(key_b, (size,), jnp.float64)
  n, speed = b / jnp.linalg.norm(b), 0.8
  gamma = 1 / np.sqrt(1 - speed**2)
  boost = jnp.eye(size + 1, dtype=jnp.float64)
  boost = (
    boost.at[0, 0].set(gamma).at[0, 1:].set(gamma * speed * n).at[1:, 0].set(gamma * speed * n)
  )
  boost = boost.at[1:, 1:].add((gamma - 1) * jnp.outer(n, n))
  to, back = (lambda x: x), (lambda x: x)
  if m.name == "poincare":
    to = functools.partial(manifolds.lorentz.from_poincare, c=m.c)
    back = functools.partial(manifolds.lorentz.to_poincare, c=m.c)

  def move(x):
    p = manifolds.lorentz.to_ambient(to(x) @ q.T, c=m.c) @ boost.T
    return back(manifolds.lorentz.from_ambient(p, c=m.c))

  return move


EQUIVARIANT = {
  "rsgd": functools.partial(rsgd.rsgd, momentum=0.9, nesterov=True, max_grad=0.5, max_step=0.2),
  "radam": functools.partial(radam.radam, b2=0.9, amsgrad=True, max_step=0.2),
  "radagrad": radagrad.radagrad,
}


@pytest.mark.parametrize(
  "name, optimizer",  # no Adam on flat space: it scales coordinates
  [
    ("euclidean", "rsgd"), ("lorentz", "rsgd"), ("lorentz", "radam"), ("poincare", "radam"),
    ("sphere", "radam"), ("sphere", "rsgd"), ("sphere", "radagrad"), ("lorentz", "radagrad"),
  ],
)  # fmt: skip
def test_isometries_carry_the_whole_path_along(name, optimizer):
  """So gradients, clips, moments, their transport and steps are all intrinsic."""

  @jax.jit
  def run(key):
    keys = jax.random.split(key, 3)
    m = manifolds.make(name, C)
    x = cloud(m, keys[0], (4,), jnp.float64, 2.0)
    y = cloud(m, keys[1], (25, 4), jnp.float64, 2.0)
    move = isometry(m, keys[2])
    x, y = jnp.stack([x, move(x)]), jnp.stack([y, move(y)], axis=1)  # both runs at once
    tx = EQUIVARIANT[optimizer](0.1, m)

    def step(carry, y):
      x, state = carry
      g = jax.grad(lambda x: 0.5 * jnp.sum(m.dist(x, y) ** 2))(x)
      updates, state = tx.update(g, state, x)
      x = optax.apply_updates(x, updates)
      return (x, state), (move(x[0]), x[1], m.dist(x[0], y[0]))

    return jax.lax.scan(step, (x, tx.init(x)), y)[1]

  with jax.enable_x64(True):
    moved, path, distance = map(np.asarray, run(jax.random.key(0)))
  assert np.std(distance) > 0.1
  np.testing.assert_allclose(moved, path, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", manifolds.NAMES)
def test_a_pushed_point_coasts_along_its_geodesic(name):
  """One gradient, then none: transported momentum never leaves the first direction."""
  eta, steps, decay = 0.2, 8, 0.9
  chains = {
    "trace": optax.trace(1.0),
    "ema": optax.ema(decay, debias=False),
    "radam": radam.scale_by_radam(manifolds.make(name, C), b1=0.9, b2=0.99),
  }
  if name != "sphere":
    del chains["ema"]

  @jax.jit
  def run(key):
    m = manifolds.make(name, C)
    x0 = cloud(m, key, (6,), jnp.float64, 2.0)
    g = jnp.cos(jnp.arange(x0.size, dtype=jnp.float64)).reshape(x0.shape)
    v = m.egrad2rgrad(x0, g)
    out = {}
    for link, chain in chains.items():
      tx = links.riemannian(m, chain, optax.scale_by_learning_rate(eta))

      def step(i, carry, tx=tx):
        x, state = carry
        updates, state = tx.update(jnp.where(i == 0, g, 0), state, x)
        return optax.apply_updates(x, updates), state

      out[link], _ = jax.lax.fori_loop(0, steps, step, (x0, tx.init(x0)))
    shares = (1 - decay) * decay ** np.arange(steps)
    expected = {"trace": m.exp(x0, -eta * steps * v)}
    if "ema" in out:
      expected["ema"] = m.exp(x0, -eta * shares.sum() * v)
    went = m.log(x0, out["radam"])
    across = went + v * (m.norm(x0, went) / m.norm(x0, v))[..., None]
    return out, expected, m.norm(x0, went), m.norm(x0, across)

  with jax.enable_x64(True):
    out, expected, length, across = jax.tree.map(np.asarray, run(jax.random.key(0)))
  for link in expected:
    np.testing.assert_allclose(out[link], expected[link], rtol=1e-10, atol=1e-11)
  assert np.all(length > 0.2)
  if name != "euclidean":  # where Adam scales each coordinate by itself
    np.testing.assert_allclose(across, 0, atol=1e-10)


@pytest.mark.parametrize(
  "name, optimizer", [("lorentz", "radam"), ("lorentz", "rsgd_all"), ("poincare", "radam_all")]
)
def test_far_points_stay_finite_in_float32(name, optimizer):
  """Radii up to 15, where float32 ends for the ball; gradients that pull across the origin."""
  radius = np.repeat([0.0, 1e-6, 1.0, 8.0, 12.0, 15.0], 4)

  @jax.jit
  def run(key):
    m = manifolds.make(name)
    keys = jax.random.split(key, 2)
    o = m.origin((24,), DIM)
    v, w = (m.egrad2rgrad(o, jax.random.normal(k, o.shape)) for k in keys)
    x = m.exp(o, v * (jnp.asarray(radius, jnp.float32) / m.norm(o, v))[..., None])
    y = m.exp(o, w * (jnp.asarray(radius[::-1].copy(), jnp.float32) / m.norm(o, w))[..., None])
    tx = OPTIMIZERS[optimizer](0.3, m)

    def step(carry, _):
      x, state = carry
      f = lambda x: jnp.sum(m.dist(x, y))
      g = jax.grad(f)(x)
      updates, state = tx.update(g, state, x)
      x = optax.apply_updates(x, updates)
      finite = jnp.array([jnp.all(jnp.isfinite(z)) for z in jax.tree.leaves((x, state))])
      return (x, state), (m.dist(x, y), jnp.all(finite) & on_manifold(m, x))

    (x, state), (d, good) = jax.lax.scan(step, (x, tx.init(x)), None, 60)
    return d, good

  d, good = run(jax.random.key(0))
  assert np.all(good)
  assert np.all(np.isfinite(d))
  # A step of 0.3 brings a target nearer by 0.3, until it circles around it at that scale.
  assert np.all(d[-1] < np.maximum(d[0] - 5, 1.5))


@pytest.mark.parametrize("optimizer", ["rsgd", "radam"])
def test_deep_points_move_as_told_in_float32(optimizer):
  """At radius 30 a point is e^30 times finer than its first digits: updates reach the last."""
  m = manifolds.make("horospherical")
  p = np.random.default_rng(0).standard_normal((20, DIM - 1))
  parts, rest = [], p
  for _ in range(3):
    parts.append(rest.astype(np.float32))
    rest = rest - parts[-1]
  x = jnp.asarray(np.concatenate([np.full((20, 1), -30, np.float32), *parts], axis=1))
  tx = OPTIMIZERS[optimizer](0.1, m)

  @jax.jit
  def run(x, key):
    v = m.egrad2rgrad(x, jax.random.normal(key, x.shape))
    y = m.exp(x, v / m.norm(x, v)[:, None])
    start, go = x, jax.grad(lambda x: 0.5 * jnp.sum(m.dist(x, y) ** 2))

    def step(carry, _):
      x, state = carry
      g = go(x)
      updates, state = tx.update(g, state, x)
      new = optax.apply_updates(x, updates)
      told = m.exp(x, -0.1 * m.egrad2rgrad(x, g))
      return (new, state), (m.dist(x, new), m.dist(told, new), m.dist(new, y))

    (_, _), out = jax.lax.scan(step, (start, tx.init(start)), None, 150)
    return m.dist(x, y), out

  before, (moved, missed, after) = run(x, jax.random.key(0))
  np.testing.assert_allclose(before, 1, rtol=1e-5)
  if optimizer == "rsgd":
    np.testing.assert_allclose(moved[0], 0.1, rtol=1e-4)
    assert np.max(missed) < 3e-6  # s is rounded to 2e-6
  assert np.max(after[-1]) < (1e-4 if optimizer == "rsgd" else 1e-2)
