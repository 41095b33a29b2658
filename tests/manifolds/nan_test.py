"""Every function of every manifold is finite, in value and gradient, for every finite input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from geoemb import manifolds
from geoemb.manifolds import lorentz
from tests.compiling import full_jit, quick_jit

pytestmark = pytest.mark.slow

DIM = 3


def hard_points(dtype: np.dtype) -> np.ndarray:
  """Points and tangents at, near and beyond every edge of the formulas, [n, DIM]."""
  e = np.finfo(dtype).eps
  u = np.array([0.6, 0.0, -0.8])
  rows = [0 * u, 1e-30 * u, -1e-30 * u, 1e-8 * u, 0.5 * u, -0.5 * u, [0.3, -0.2, 0.1], [1, 0, 0]]
  rows += [s * u for s in (1 - 2 * e, 1 - e / 2, 1, -1, 1 + e, 1.5, 100, 1e9, 1e19, 1e30, -1e30)]
  rows += [[1e30, 1e-30, 0], [-1e30, 1e30, 1e30], [1e-30, 1, 0], [0, 1e9, 1e-9]]
  return np.array(rows, dtype)


FUNCTIONS = {  # name: number of array arguments
  "inner": 3, "norm": 2, "component_inner": 2, "dist": 2, "sqdist": 2, "exp": 2, "log": 2,
  "transport": 3, "proj": 1, "egrad2rgrad": 2, "descend": 2, "retract": 2, "pairwise": 2,
  "pairwise_affinity": 2, "query": 1, "key": 1,
}  # fmt: skip
EXTRA = {
  "klein": {"to_lorentz": 1, "from_lorentz": 1},
  "lorentz": {"to_ambient": 1, "from_ambient": 1, "to_poincare": 1, "from_poincare": 1},
  "halfspace": {"displacement": 2, "to_lorentz": 1, "from_lorentz": 1},
  "stereographic": {"to_sphere": 1, "from_sphere": 1},
  "horospherical": {"displacement": 2, "to_lorentz": 1, "from_lorentz": 1},
}


class NanTest(parameterized.TestCase):
  @parameterized.product(name=manifolds.NAMES, dtype=["float32", "float64"])
  def test_values_and_gradients_are_finite(self, name, dtype):
    with jax.enable_x64(True):
      self.hunt(name, np.dtype(dtype))

  def hunt(self, name, dtype):
    ops = manifolds.make(name).ops
    points = hard_points(dtype)
    n = len(points)
    if name == "sphere":  # raw ambient vectors, and the same scaled to the sphere
      points = np.concatenate([points, np.asarray(ops.proj(jnp.asarray(points)))])
      n = len(points)
    if name == "horospherical":  # points of the half-plane
      points = np.concatenate([points, points[:, :1]], axis=1)
    i, j = (a.ravel() for a in np.mgrid[:n, :n])
    vectors = points[np.random.default_rng(0).permutation(n * n) % n]
    args = (points[i], points[j], vectors)

    # Two charts in float32 as users compile them; the others unoptimised, for speed.
    optimised = dtype == np.float32 and name in ("poincare", "lorentz")

    @functools.partial(full_jit if optimised else quick_jit, static_argnums=0)
    def everything(functions, args, c):
      out = {}
      for f, arity in functions:
        rate = (jnp.asarray(0.3, dtype),) if f == "descend" else ()
        call = lambda c, *a, f=f, rate=rate: getattr(ops, f)(
          *a, *rate, c=1.5 if f == "pairwise_affinity" else c
        )
        a = (points, points) if f.startswith("pairwise") else args[:arity]
        value, pullback = jax.vjp(call, c, *a)
        out[f] = value, pullback(jnp.ones_like(value))
        if f in ("dist", "exp", "log", "pairwise"):
          out[f + " forward"] = jax.jvp(call, (c, *a), (jnp.ones_like(c), *map(jnp.ones_like, a)))
      return out

    functions = tuple({**FUNCTIONS, **EXTRA.get(name, {})}.items())
    curvatures = (1.0, 0.3, 40.0)
    if name == "stereographic":
      curvatures += (-1.0, -0.3, -40.0, 0.0, 1e-30, -1e-30)
    for c in curvatures:
      out = everything(functions, args, jnp.asarray(c, dtype))
      for f, leaves in out.items():
        for part, leaf in enumerate(jax.tree.leaves(leaves)):
          leaf = np.asarray(leaf)
          self.assertEqual(leaf.dtype, dtype, f"{f} at c = {c}")
          bad = np.argwhere(~np.isfinite(leaf))
          if len(bad):
            row = bad[0][0] if leaf.ndim else None
            where = "" if row is None or f.startswith("pairwise") else [a[row] for a in args]
            self.fail(f"{name}.{f} at c = {c}: output {part} has {len(bad)} bad, first at {where}")

  @parameterized.parameters("euclidean", "lorentz", "poincare", "stereographic")
  def test_zero_curvature_is_finite(self, name):
    ops = manifolds.make(name).ops

    @full_jit
    def values(x, y, v, c):
      return {
        "dist": ops.dist(x, y, c=c), "exp": ops.exp(x, v, c=c), "log": ops.log(x, y, c=c),
        "pairwise": ops.pairwise(x, y, c=c), "transport": ops.transport(x, y, v, c=c),
        "inner": ops.inner(x, v, v, c=c), "egrad2rgrad": ops.egrad2rgrad(x, v, c=c),
        "grad": jax.grad(lambda x: ops.dist(x, y, c=c).sum())(x),
      }  # fmt: skip

    x, y, v = 0.3 * np.random.default_rng(0).standard_normal((3, 5, DIM)).astype(np.float32)
    for f, value in values(x, y, v, jnp.float32(0)).items():
      self.assertTrue(np.all(np.isfinite(value)), f)

  def test_long_tangents_end_at_the_documented_caps(self):
    v = np.array([[1e30, -1e30, 0.0], [100.0, 0, 0], [1e6, 1e6, 1e6]], np.float32)
    for name, radius in (("lorentz", 42.2), ("poincare", 15.2)):
      m = manifolds.make(name)
      start = m.origin((), 3)
      end = full_jit(lambda v, m=m, start=start: m.dist(start, m.exp(start, v)))(v)
      # Rounding moves the ball's cap; GPUs' quotients and roots are a little off besides.
      rtol = 0.01 if jax.default_backend() == "cpu" else 0.03
      np.testing.assert_allclose(end, radius, rtol=rtol)

  def test_capped_points_stay(self):
    x = np.float32(1e30) * np.array([[0.6, 0, -0.8], [1, 1, 1]], np.float32)
    for name in ("lorentz", "poincare"):
      m = manifolds.make(name)
      once = m.proj(x)
      np.testing.assert_array_equal(once, m.proj(once))

  def test_nan_is_not_hidden(self):
    for name in manifolds.NAMES:
      m = manifolds.make(name)
      origin = m.origin((), 2)
      x = jnp.zeros((2, *origin.shape)).at[0, 0].set(jnp.nan)
      self.assertTrue(np.isnan(full_jit(m.dist)(x, origin)[0]), name)

  def test_random_points_are_inside(self):
    m = manifolds.make("poincare", 4.0)
    x = np.asarray(full_jit(lambda key: m.random(key, (100,), 8, scale=10.0))(jax.random.key(0)))
    self.assertLess(np.max(np.linalg.norm(x, axis=-1)), 0.5)
    self.assertTrue(np.all(np.isfinite(full_jit(lorentz.from_poincare)(x, c=4.0))))
