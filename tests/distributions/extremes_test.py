"""Log-densities and their gradients are finite for every finite input."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from geoemb import manifolds
from geoemb.distributions import bessel, heat, wrapped_normal
from tests.compiling import quick_jit

ENTRIES = (0.0, 1e-30, 1e-10, 1.0, 1e5, 1e15, 3e38, -3e38)


class ExtremesTest(parameterized.TestCase):
  def test_wrapped_normal(self):
    m = manifolds.make("lorentz", 0.7)
    x = np.array(list(itertools.product(ENTRIES, repeat=3)), np.float32)
    f = lambda x, mu: wrapped_normal.log_prob(m, x, mu, 0.5).sum()
    found = quick_jit(jax.value_and_grad(f, (0, 1)))(jnp.asarray(x), jnp.asarray(x[::-1]))
    self.assertFalse(any(np.any(np.isnan(a)) for a in jax.tree.leaves(found)))

  def test_kernels_and_bessel_functions(self):
    r = jnp.asarray([0, 1e-38, 1e-10, 1, 20, 90, 1e4, 1e19, 3e38], jnp.float32)
    t = jnp.asarray([1e-30, 1e-6, 1, 100, 1e6, 1e30], jnp.float32)[:, None]

    @quick_jit
    def compute(r, t):
      one = (jnp.ones_like(r),)
      f = lambda d: jax.jvp(lambda r: heat.log_hyperbolic(r, t, d), (r,), one)
      g = lambda d: jax.jvp(lambda r: heat.log_spherical(r, t, d), (r,), one)
      return [f(2), g(3), g(4), bessel.functions(0.5, r)]

    self.assertFalse(any(np.any(np.isnan(a)) for a in jax.tree.leaves(compute(r, t))))
