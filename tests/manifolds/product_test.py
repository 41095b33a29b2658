"""A product against its factors, taken one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.manifolds import means, product
from geoemb.optim import radam, rsgd
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

SIGNATURE, WEIGHTS = "h3 x s2 x e2 x p2", (1, 2, 4, 0.5)
CURVATURES = (1.3, 0.5, 1.0, 0.7)
NAMES, DIMS = ("lorentz", "sphere", "euclidean", "poincare"), (3, 2, 2, 2)
N, TOLERANCE = 7, 1e-12


@functools.cache
def facts(dtype):
  """What a product says, and what its factors do."""
  with jax.enable_x64(True):
    m = product.manifold(SIGNATURE, CURVATURES, weights=WEIGHTS)
    factors = [manifolds.make(name, c) for name, c in zip(NAMES, CURVATURES)]

    @quick_jit
    def compute(key):
      x, y, u, v = jax.vmap(lambda k: m.random(k, (N,), sum(DIMS), scale=0.4, dtype=dtype))(
        jax.random.split(key, 4)
      )
      g = jnp.cos(jnp.arange(x.size, dtype=dtype)).reshape(x.shape)
      u, v = m.egrad2rgrad(x, u), m.egrad2rgrad(x, v)
      cut = lambda a: m.ops.split(a)
      each = lambda f, *arrays: [f(i, *parts) for i, *parts in zip(factors, *map(cut, arrays))]
      join = lambda parts: jnp.concatenate(parts, axis=-1)
      total = lambda values: sum(w * a for w, a in zip(WEIGHTS, values))
      tx = radam.radam(0.1, m)
      there = optax.apply_updates(x, tx.update(g, tx.init(x), x)[0])
      pairs = {
        "dist": (jnp.square(m.dist(x, y)), total(each(lambda i, a, b: i.dist(a, b) ** 2, x, y))),
        "sqdist": (m.sqdist(x, y), jnp.square(m.dist(x, y))),
        "inner": (m.inner(x, u, v), total(each(lambda i, a, b, c: i.inner(a, b, c), x, u, v))),
        "norm": (jnp.square(m.norm(x, u)), m.inner(x, u, u)),
        "exp": (m.exp(x, u), join(each(lambda i, a, b: i.exp(a, b), x, u))),
        "log": (m.log(x, y), join(each(lambda i, a, b: i.log(a, b), x, y))),
        "|log|": (m.norm(x, m.log(x, y)), m.dist(x, y)),
        "exp log": (m.exp(x, m.log(x, y)), y),
        "transport": (m.transport(x, y, u),
                      join(each(lambda i, a, b, t: i.transport(a, b, t), x, y, u))),
        "isometry": (m.inner(y, m.transport(x, y, u), m.transport(x, y, v)), m.inner(x, u, v)),
        "retract": (m.retract(x, u), join(each(lambda i, a, b: i.retract(a, b), x, u))),
        "displacement": (x + m.displacement(x, y), y),
        "proj": (m.proj(x), x),
        "gradient": (m.inner(x, m.egrad2rgrad(x, g), v), jnp.sum(g * v, axis=-1)),
        "slope": (m.egrad2rgrad(x, jax.grad(lambda x: 0.5 * m.sqdist(x, y).sum())(x)),
                  -m.log(x, y)),
        "stay": (jax.grad(lambda x: m.dist(x, y).sum())(y), 0 * y),
        "descend": (m.descend(x, g, 0.2), m.exp(x, -0.2 * m.egrad2rgrad(x, g))),
        "short": (m.dist(x, m.exp(x, u, limit=0.1)), jnp.minimum(m.norm(x, u), 0.1)),
        "pairwise": (m.pairwise(x, y), m.dist(x[:, None], y)),
        "affinity": (m.pairwise_affinity(x, y), jnp.exp(-m.pairwise(x, y))),
        "origin": (m.dist0(x), m.dist(m.origin((N,), sum(DIMS), dtype), x)),
        "exp0": (m.exp0(m.log0(x)), x),
        "middle": (m.dist(x, m.midpoint(x, y)), 0.5 * m.dist(x, y)),
        "curvatures": (jnp.stack(jax.grad(lambda m: m.sqdist(x, y).sum())(m).c),
                       jnp.stack([w * jax.grad(lambda i, a=a, b=b: i.sqdist(a, b).sum())(i).c
                                  for w, i, a, b in zip(WEIGHTS, factors, cut(x), cut(y))])),
      }  # fmt: skip
      component = m.component_inner(x, u)
      return pairs, (x, there, component, m.inner(x, u, u))

    if dtype == "float32":  # whose numbers are those of the factors: narrow arrays in base_test
      return jax.eval_shape(compute, jax.random.key(0))
    return jax.tree.map(np.asarray, compute(jax.random.key(0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(dtype):
  for name, (one, other) in facts(dtype)[0].items():
    if name != "curvatures":  # Python scalars, whose gradients are as wide as jax has them
      assert one.dtype == other.dtype == dtype, name


def test_a_product_is_its_factors():
  pairs, _ = facts("float64")
  for name, (one, other) in pairs.items():
    loose = {"pairwise": 1e3, "affinity": 1e3, "slope": 10, "curvatures": 10}.get(name, 1)
    tol = loose * TOLERANCE
    np.testing.assert_allclose(one, other, rtol=tol, atol=tol, err_msg=name)
  assert np.sum(pairs["short"][1] < 0.1) < N  # some are cut


def test_radam_has_a_second_moment_for_every_factor():
  _, (x, there, component, square) = facts("float64")
  assert component.shape == x.shape
  one_each = [component[:, 0], component[:, 3], *component[:, 6:8].T, component[:, 8]]
  np.testing.assert_allclose(sum(one_each), square, rtol=1e-12)
  with jax.enable_x64(True):
    # The first step of Adam has length η in every curved factor, measured with its weight.
    parts = product.manifold(SIGNATURE, CURVATURES, weights=WEIGHTS).ops
    for i, (a, b) in enumerate(zip(parts.split(jnp.asarray(x)), parts.split(jnp.asarray(there)))):
      d = manifolds.make(NAMES[i], CURVATURES[i]).dist(a, b) * WEIGHTS[i] ** 0.5
      expected = 0.1 * (DIMS[i] if NAMES[i] == "euclidean" else 1) ** 0.5
      np.testing.assert_allclose(d, expected, rtol=1e-4, err_msg=NAMES[i])


def test_training_stays_on_the_product():
  m = manifolds.make("h2 x s2", (1.0, 0.5))
  tx = rsgd.rsgd(0.3, m, momentum=0.5)
  key_x, key_y = jax.random.split(jax.random.key(0))
  x, y = (m.random(k, (4,), 4, scale=0.8) for k in (key_x, key_y))

  def step(x_state, _):
    x, state = x_state
    loss, g = jax.value_and_grad(lambda x: 0.5 * m.sqdist(x, y).sum())(x)
    updates, state = tx.update(g, state, x)
    return (optax.apply_updates(x, updates), state), loss

  (x, _), loss = jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), None, 60))(x)
  assert loss[-1] < 1e-6 * loss[0]
  np.testing.assert_allclose(np.sum(np.square(x[:, 2:]), axis=1), 2, rtol=1e-5)


def test_the_mean_of_a_product_is_that_of_its_factors():
  with jax.enable_x64(True):
    m = product.manifold("h2 x s2", (1.3, 0.5), weights=(1, 0.2))
    factors = [manifolds.make("lorentz", 1.3), manifolds.make("sphere", 0.5)]

    @quick_jit
    def compute(key):
      spread = m.random(key, (6,), 4, scale=0.7, dtype=jnp.float64)
      y = m.geodesic(spread[:1], spread, 0.4)  # within a half sphere
      x = means.frechet(m, y)
      ways = zip(factors, m.ops.split(x), m.ops.split(y))
      return [jnp.sum(f.log(a[None], b), axis=0) for f, a, b in ways]

    for way in compute(jax.random.key(3)):
      np.testing.assert_allclose(way, 0, atol=1e-10)


def test_signatures():
  m = manifolds.make("H5 x s3xE2 × (lorentz2)^2")
  assert m.name == "h5 x s3 x e2 x h2 x h2"
  assert m.c == (1.0,) * 5
  assert m.ops == manifolds.make(m.name).ops
  assert hash(m.ops) == hash(manifolds.make(m.name).ops)
  assert m.random(jax.random.key(0), (2,), 14).shape == (2, 15)
  for wrong, part in (("h0", "'h0'"), ("q3", "'q3'"), ("h3 x", "''"), ("h3 x s", "'s'")):
    with pytest.raises(ValueError, match=f"got {part} in"):
      manifolds.make(wrong)
  with pytest.raises(ValueError, match="needs 2 curvatures, got 3"):
    product.manifold("h2 x e1", (1, 2, 3))
  with pytest.raises(ValueError, match=r"needs 2 weights > 0, got \[1, 0\]"):
    product.manifold("h2 x e1", weights=(1, 0))
  with pytest.raises(ValueError, match="has dimension 14, got 5"):
    m.origin((), 5)
  with pytest.raises(ValueError, match="have 15 coordinates, got 14"):
    m.dist(jnp.zeros(14), jnp.zeros(14))
