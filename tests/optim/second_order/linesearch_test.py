import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.optim.second_order import conjugate_gradient, linesearch, trust_region
from tests.compiling import quick_jit

FIRST = 10.0 ** np.arange(-4, 5, 2)


@functools.cache
def facts():
  """Steps along geodesics of a sphere on which f swings, by conditions and first try."""
  m = manifolds.make("sphere")
  rng = np.random.default_rng(0)
  y = rng.standard_normal(4)

  def f(x):
    return jnp.sin(3 * x @ y) + 0.3 * x @ y

  @quick_jit
  def compute():
    x = m.proj(jnp.asarray(rng.standard_normal((6, 4))))
    g = m.egrad2rgrad(x, jax.vmap(jax.grad(f))(x))

    def run(x, v, first, c2):
      start = f(x), -m.inner(x, v, v)
      t = linesearch.search(f, m, x, v, first, start, c1=1e-4, c2=c2)
      return t, start, jax.value_and_grad(lambda t: f(m.exp(x, t * v)))(t)

    every = jax.vmap(jax.vmap(run, (None, None, 0, None)), (0, 0, None, None))
    found = jax.lax.map(lambda c2: every(x, -g, FIRST, c2), jnp.array([jnp.inf, 0.2], x.dtype))
    out = {k: jax.tree.map(lambda z, i=i: z[i], found) for i, k in enumerate(("armijo", "wolfe"))}
    out["uphill"] = linesearch.search(f, m, x[0], g[0], 1.0, (f(x[0]), m.inner(x[0], g[0], g[0])))
    grad, h = trust_region.hessian(f, m, x[0])
    u, v = m.egrad2rgrad(x[0], jnp.eye(4)[0]), m.egrad2rgrad(x[0], jnp.eye(4)[1])
    second = jax.hessian(lambda a: f(m.exp(x[0], a[0] * u + a[1] * v)))(jnp.zeros(2, x.dtype))
    product = lambda a, b: m.inner(x[0], a, b)
    out["gradient"] = grad, g[0]
    out["hessian"] = jnp.array([[product(a, h(b)) for b in (u, v)] for a in (u, v)]), second
    return out

  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, compute())


@pytest.mark.parametrize("kind", ["armijo", "wolfe"])
def test_the_conditions_hold_whatever_is_tried_first(kind):
  t, (f_0, d_0), (f_t, d_t) = facts()[kind]
  assert np.all(t > 0)
  assert np.all(f_t <= f_0 + 1e-4 * t * d_0 + 2e-14)
  steep = np.abs(d_t) > -0.2 * d_0
  assert np.any(steep) if kind == "armijo" else not np.any(steep)


def test_uphill_there_is_no_step():
  assert facts()["uphill"] == 0


def test_the_hessian_is_that_of_geodesics():
  """⟨∇_u grad f, v⟩ is ∂²f(exp(s u + t v))/∂s∂t at 0, whatever the chart."""
  np.testing.assert_allclose(*facts()["gradient"], rtol=1e-12, atol=1e-13)
  np.testing.assert_allclose(*facts()["hessian"], rtol=1e-10, atol=1e-11)


def test_a_rule_that_does_not_exist_is_refused():
  m = manifolds.make("sphere")
  x = np.array([1.0, 0.0], np.float32)
  with pytest.raises(ValueError, match="^beta must be .*, got 'fletcher'$"):
    conjugate_gradient.minimize(lambda x: x[0], m, x, beta="fletcher")
