"""On flat space the methods are optax's, bit for bit where optax has the same operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.optim import averaging, lookahead, radagrad, radam, rlion, rsgd

STEPS, SHAPE = 12, (5, 3)
RATE = 0.1
PAIRS = {
  "adagrad": (radagrad.radagrad, optax.adagrad, {}),
  "adagrad from 0": (
    functools.partial(radagrad.radagrad, initial=0.0),
    functools.partial(optax.adagrad, initial_accumulator_value=0.0), {}
  ),
  "lion": (rlion.rlion, functools.partial(optax.lion, weight_decay=0.0), {}),
  "lion with decay": (rlion.rlion, optax.lion, dict(b1=0.8, b2=0.9, weight_decay=0.1)),
  "adamw": (radam.radam, optax.adamw, dict(weight_decay=0.1)),
  "amsgrad": (radam.ramsgrad, optax.amsgrad, {}),
}  # fmt: skip


@functools.cache
def facts(dtype):
  rng = np.random.default_rng(0)
  size = 10.0 ** rng.uniform(-6, 3, (STEPS, SHAPE[0], 1))
  gradients = (rng.standard_normal((STEPS, *SHAPE)) * size).astype(dtype)
  gradients[rng.uniform(size=gradients.shape) < 0.2] = 0
  x0 = rng.standard_normal(SHAPE).astype(dtype)

  @jax.jit
  def run():
    m = manifolds.make("euclidean")

    def path(tx):
      def step(carry, g):
        x, state = carry
        updates, state = tx.update(g, state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

      return jax.lax.scan(step, (x0, tx.init(jnp.asarray(x0))), gradients)[1]

    out = {}
    for name, (ours, theirs, kwargs) in PAIRS.items():
      out[name] = path(ours(RATE, m, **kwargs)), path(theirs(RATE, **kwargs))
    out["lookahead"] = (path(lookahead.lookahead(optax.sgd(RATE), m, every=3, share=0.3)),)

    def mean(state, x, **kwargs):
      state = averaging.update(m, state, x, **kwargs)
      return state, state.mean

    for name, kwargs in (("mean", {}), ("ema", dict(decay=0.7))):
      start = averaging.init(jnp.asarray(x0))
      out[name] = (jax.lax.scan(functools.partial(mean, **kwargs), start, gradients)[1],)
    return out

  with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
    return gradients, x0, jax.tree.map(np.asarray, run())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_method_is_its_flat_namesake(name, dtype):
  ours, theirs = facts(dtype)[2][name]
  assert ours.dtype == theirs.dtype == dtype
  assert np.all(np.isfinite(ours))
  if name in ("lion with decay", "adamw"):  # a sum that XLA may contract
    np.testing.assert_allclose(ours, theirs, rtol=1e-6 if dtype == "float32" else 1e-14)
  else:
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lookahead_and_means_are_their_definitions(dtype):
  g, x0, out = facts(dtype)
  tol = dict(rtol=1e-4, atol=1e-4) if dtype == "float32" else dict(rtol=1e-11, atol=1e-11)
  g = g.astype(np.float64)
  x = slow = x0.astype(np.float64)
  weights, total = 0, 0
  for t in range(STEPS):
    x = x - RATE * g[t]
    if (t + 1) % 3 == 0:
      x = slow = slow + 0.3 * (x - slow)
    np.testing.assert_allclose(out["lookahead"][0][t], x, **tol)
    np.testing.assert_allclose(out["mean"][0][t], g[: t + 1].mean(0), **tol)
    weights, total = 0.7 * weights + 1, 0.7 * total + g[t]
    np.testing.assert_allclose(out["ema"][0][t], total / weights, **tol)


def test_the_decay_of_a_mean_may_be_traced():
  m, x = manifolds.make("euclidean"), jnp.arange(3.0)
  mean = lambda decay: averaging.update(
    m, averaging.update(m, averaging.init(x), x), x + 1, decay=decay
  )
  np.testing.assert_allclose(jax.jit(mean)(0.5).mean, x + 2 / 3, rtol=1e-6)


def test_options_out_of_range_are_refused():
  m = manifolds.make("euclidean")
  with pytest.raises(ValueError, match="^every counts steps .*, got 0$"):
    lookahead.lookahead(rsgd.rsgd(0.1, m), m, every=0)
  with pytest.raises(ValueError, match="^decay is at least 0 and below 1, got 1$"):
    averaging.update(m, averaging.init(jnp.ones(2)), jnp.ones(2), decay=1)
