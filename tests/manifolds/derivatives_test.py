"""Derivatives beyond the first where formulas by lengths lose them: at the origin and at x = y."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds, numerics

CHARTS = [
  ("lorentz", 0.8), ("poincare", 0.8), ("halfspace", 0.8), ("stereographic", -0.8),
]  # fmt: skip


@pytest.mark.parametrize(("name", "c"), CHARTS)
def test_second_derivatives(name, c):
  """Along a line through the origin, of whatever ends there, starts there or leads there."""
  with jax.enable_x64(True):
    m = manifolds.make(name, c)
    x = m.origin((), 2, jnp.float64)
    wide = lambda *v: jnp.asarray([*v, *[0.0] * (x.size - 2)])
    y, u, v = x + wide(0.3, 0.4), wide(0.3, -0.7), wide(0.2, 0.5)

    @jax.jit
    @jax.vmap
    def second(t):
      """The second derivative, and the first, at t."""

      def ends(t):
        z = x + t * u
        return jnp.concatenate([
          m.inner(z, v, v)[None], m.exp(z, v), m.exp(x, t * v), m.log(z, y), m.log(y, z),
          m.log(x, z), m.log(z, x), m.transport(z, y, v), m.transport(y, z, v),
          m.transport(x, z, v), m.dist(z, y)[None], m.norm(z, v)[None],
        ])  # fmt: skip

      first = lambda t: jax.jvp(ends, (t,), (jnp.ones_like(t),))[1]
      return jax.jvp(first, (t,), (jnp.ones_like(t),))[::-1]

    step = 1e-4
    got, slopes = second(jnp.asarray([-step, 0.0, step]))
    want = (slopes[2] - slopes[0]) / (2 * step)
    np.testing.assert_allclose(got[1], want, rtol=1e-6, atol=1e-6)


def test_second_derivatives_of_numbers():
  both = lambda z: jnp.stack(numerics.cosh_sinh_root(z))
  slope = jax.vmap(jax.grad(numerics.log_softplus))
  x = jnp.asarray([-30.0, -1.0, 0.0, 2.0, 30.0])

  @jax.jit
  def compute(x):
    bend = jax.vmap(jax.grad(jax.grad(numerics.log_softplus)))(x)
    arc = jax.grad(jax.grad(numerics.arc_square))(0.0, 1.0)
    return bend, (slope(x + 1e-5) - slope(x - 1e-5)) / 2e-5, arc, jax.jacfwd(jax.jacfwd(both))(0.0)

  with jax.enable_x64(True):
    bend, want, arc, roots = compute(np.asarray(x, np.float64))
  np.testing.assert_allclose(bend, want, atol=1e-9)
  np.testing.assert_allclose(arc, -8 / 3, rtol=1e-12)
  np.testing.assert_allclose(roots, [1 / 12, 1 / 60], rtol=1e-12)


@pytest.mark.parametrize("name", ["euclidean", "lorentz", "sphere", "horospherical"])
def test_many_coordinates_are_finite(name):
  """Sums of 384 squares, of entries at the limits that bound them."""
  m = manifolds.make(name)
  x = jnp.full_like(m.origin((), 384), 1) * jnp.asarray([1e17, 1e19, 1e24])[:, None]

  @jax.jit
  def far(x):
    value = lambda x, y, u: jnp.stack([
      m.dist(x, y), m.sqdist(x, y), m.inner(x, u, u), m.norm(x, u),
      m.pairwise(x[:, None], y[:, None])[:, 0, 0],
    ])  # fmt: skip
    found, pull = jax.vjp(value, x, -x, x)
    return found, pull(jnp.ones_like(found)), m.query(x), m.key(x)

  found = far(x)
  assert all(np.isfinite(np.asarray(a)).all() for a in jax.tree.leaves(found))
  if name in ("euclidean", "lorentz"):
    assert (found[0][0] > 1).all() and (found[0][-1] > 1).all()


def test_far_coincident_points_transport():
  """By a tangent as long as the points are far: the gradient of a component does not overflow."""
  m = manifolds.make("lorentz")
  x = jnp.full(3, 1e15)
  pull = jax.jit(lambda x: jax.vjp(m.transport, x, x, x)[1](jnp.ones(3)))
  assert all(np.isfinite(np.asarray(a)).all() for a in pull(x))


@pytest.mark.parametrize("narrow", [jnp.bfloat16, jnp.float16])
def test_a_wider_point_stays_wide(narrow):
  """As jax promotes; a rate, which has no axes, decides nothing."""
  m = manifolds.make("poincare")
  x, g = jnp.asarray([[0.6, 0.79]]), jnp.zeros((1, 2), narrow)
  moved = m.descend(x, g, jnp.float32(0.1))
  np.testing.assert_allclose(moved, x, rtol=1e-6, strict=True)
  assert m.descend(x.astype(narrow), g, jnp.float32(0.1)).dtype == narrow
