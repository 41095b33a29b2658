"""Distances, gradients and exponentials against 60-digit arithmetic on the rounded coordinates.

The references are the textbook arcosh forms; what is compared is what the formulas do to the given
numbers, not what rounding the coordinates did before.
"""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from absl.testing import parameterized

from geoemb import manifolds
from geoemb.manifolds import lorentz, poincare
from tests.compiling import full_jit

pytestmark = pytest.mark.slow

DIM = 8
PAIRS = 4
SEPARATIONS = (None, 0.1, 1e-3)  # None: directions are independent

# Largest relative error of dist, and of ‖grad d‖ about its exact value 1, over all pairs at a
# radius. The values are accurate to rounding in both charts while a coordinate's own digits last;
# the measured errors are two to ten times smaller. Ball: α = 1 − ‖x‖² is off by about eps/1000,
# so the relative ones grow as e^r, and as e^2r in the Klein ball. Lorentz gradients are covectors
# in the chart: rounding one entry to eps is eps·T in the metric, whatever the formula, hence again
# e^r, from T = 1/eps on without a digit; hyperbolic distances themselves have no such limit.
TOLERANCES = {
  ("poincare", "float32"): {
    0.01: (1e-6, 1e-6), 1: (1e-6, 1e-6), 5: (1e-6, 1e-6), 8: (1e-6, 2e-6), 10: (2e-6, 5e-6),
    12: (1e-5, 2e-5), 15: (5e-4, 5e-4),
  },
  ("lorentz", "float32"): {
    0.01: (1e-6, 1e-6), 1: (1e-6, 1e-6), 5: (1e-6, 5e-6), 8: (1e-6, 2e-4), 10: (1e-6, 1e-3),
    12: (2e-6, 1e-2), 15: (5e-5, 2e-1), 20: (1e-3, None), 30: (1e-3, None),
  },
  ("poincare", "float64"): {
    0.01: (2e-15, 2e-15), 1: (2e-15, 2e-15), 5: (2e-15, 2e-15), 10: (2e-15, 2e-15),
    15: (2e-15, 4e-15), 20: (1e-14, 1e-14), 25: (5e-13, 5e-12), 30: (2e-10, 2e-10),
  },
  ("lorentz", "float64"): {
    0.01: (2e-15, 2e-15), 1: (2e-15, 2e-15), 5: (2e-15, 1e-14), 10: (2e-15, 2e-12),
    15: (2e-15, 3e-10), 20: (5e-15, 5e-8), 25: (1e-13, 2e-5), 30: (1e-11, 2e-3),
  },
  ("halfspace", "float32"): {
    0.01: (1e-6, 1e-6), 1: (1e-6, 1e-6), 5: (1e-6, 1e-6), 8: (1e-6, 1e-6), 10: (1e-6, 1e-6),
    12: (1e-6, 1e-6), 15: (1e-6, 1e-6), 20: (1e-6, 1e-6),
  },
  ("halfspace", "float64"): {
    0.01: (2e-15, 2e-15), 1: (2e-15, 2e-15), 5: (2e-15, 2e-15), 10: (2e-15, 2e-15),
    20: (2e-15, 2e-15), 30: (2e-15, 2e-15), 100: (2e-15, 2e-15),
  },
  ("klein", "float32"): {
    0.01: (1e-6, 1e-6), 1: (1e-6, 1e-6), 3: (1e-6, 1e-6), 5: (2e-6, 2e-6), 7: (5e-5, 1e-4),
  },
  ("klein", "float64"): {
    0.01: (2e-15, 2e-15), 1: (2e-15, 2e-15), 5: (5e-15, 1e-14), 10: (5e-13, 1e-12),
    15: (2e-10, 2e-10), 17: (3e-9, 6e-9),
  },
  ("horospherical", "float32"): {
    0.01: (1e-6, 1e-6), 1: (1e-6, 1e-6), 5: (2e-6, 2e-6), 10: (5e-6, 5e-6), 20: (5e-6, 5e-6),
    30: (5e-6, 5e-6), 40: (1e-5, 1e-5),
  },
  ("horospherical", "float64"): {
    0.01: (2e-15, 2e-15), 1: (2e-15, 2e-15), 5: (4e-15, 4e-15), 10: (1e-14, 1e-14),
    30: (1e-14, 1e-14), 100: (5e-14, 5e-14),
  },
}  # fmt: skip

# Largest geodesic distance of exp from the exact end, for (base radius, length). The end has to be
# rounded to the chart, which moves it by eps·e^r/4 at radius r: 0.02 at 13 in float32.
EXP = {(0, 1e-4): 1e-11, (0, 1): 5e-7, (0, 10): 2e-3, (1, 1): 1e-6, (3, 1): 5e-6, (5, 0.1): 2e-5,
       (5, 5): 2e-3, (8, 1): 1e-3, (12, 1): 4e-2}  # fmt: skip


def dot(x, y):
  return mp.fsum(a * b for a, b in zip(x, y))


def exact(x: np.ndarray) -> list[mp.mpf]:
  return [mp.mpf(float(a)) for a in x]


def height_and_foot(x: list) -> tuple:
  n = (len(x) - 1) // 3
  return mp.exp(x[0]), [mp.fsum(x[1 + i :: n]) for i in range(n)]


def arcosh_distance(name: str, x: list, y: list, c: mp.mpf) -> mp.mpf:
  if name == "klein":
    alpha = (1 - c * dot(x, x)) * (1 - c * dot(y, y))
    return mp.acosh((1 - c * dot(x, y)) / mp.sqrt(alpha)) / mp.sqrt(c)
  if name == "halfspace":
    delta = [a - b for a, b in zip(x, y)]
    return mp.acosh(1 + dot(delta, delta) / (2 * x[-1] * y[-1])) / mp.sqrt(c)
  if name == "horospherical":
    (h, p), (k, q) = height_and_foot(x), height_and_foot(y)
    delta = [h - k, *(a - b for a, b in zip(p, q))]
    return mp.acosh(1 + dot(delta, delta) / (2 * h * k)) / mp.sqrt(c)
  delta = [a - b for a, b in zip(x, y)]
  if name == "poincare":
    alpha = (1 - c * dot(x, x)) * (1 - c * dot(y, y))
    return mp.acosh(1 + 2 * c * dot(delta, delta) / alpha) / mp.sqrt(c)
  t = mp.sqrt((1 + c * dot(x, x)) * (1 + c * dot(y, y)))
  return mp.acosh(t - c * dot(x, y)) / mp.sqrt(c)


def dual_norm(name: str, x: list, g: list, c: mp.mpf) -> mp.mpf:
  if name == "klein":
    return mp.sqrt((1 - c * dot(x, x)) * (dot(g, g) - c * dot(x, g) ** 2))
  if name == "halfspace":
    return mp.sqrt(c * dot(g, g)) * x[-1]
  if name == "horospherical":
    n = (len(x) - 1) // 3
    return mp.sqrt(c * (g[0] ** 2 + mp.exp(2 * x[0]) * dot(g[1 : 1 + n], g[1 : 1 + n])))
  if name == "poincare":
    return mp.sqrt(dot(g, g)) * (1 - c * dot(x, x)) / 2
  return mp.sqrt(dot(g, g) + c * dot(x, g) ** 2)


def lift(name: str, x: list, c: mp.mpf) -> list:
  """Spatial hyperboloid coordinates of a chart point."""
  return x if name == "lorentz" else [2 * a / (1 - c * dot(x, x)) for a in x]


def lower(name: str, x: list, c: mp.mpf) -> list:
  if name == "klein":
    return [a / mp.sqrt(1 + c * dot(x, x)) for a in x]
  return x if name == "lorentz" else [a / (1 + mp.sqrt(1 + c * dot(x, x))) for a in x]


def rounded(name: str, x: list, c: mp.mpf, dtype: str) -> np.ndarray:
  """The chart's coordinates of spatial ones, rounded."""
  number = lambda a: np.dtype(dtype).type(float(a))
  if name not in ("halfspace", "horospherical"):
    return np.array([number(a) for a in lower(name, x, c)])
  h = 1 / (mp.sqrt(1 + c * dot(x, x)) - mp.sqrt(c) * x[0])
  if name == "halfspace":
    return np.array([number(mp.sqrt(c) * h * a) for a in x[1:]] + [number(h)])
  rest, parts = [mp.sqrt(c) * h * a for a in x[1:]], [number(mp.log(h))]
  for _ in range(3):
    parts += (part := [number(a) for a in rest])
    rest = [a - mp.mpf(float(b)) for a, b in zip(rest, part)]
  return np.array(parts)


def shoot(x: list, v: list, c: mp.mpf) -> list:
  """Spatial coordinates of the exponential of the spatial tangent v."""
  length = mp.sqrt(c * (dot(v, v) - c * dot(x, v) ** 2 / (1 + c * dot(x, x))))
  return [mp.cosh(length) * a + mp.sinh(length) / length * b for a, b in zip(x, v)]


def direction(rng: np.random.Generator) -> list:
  u = exact(rng.standard_normal(DIM))
  return [a / mp.sqrt(dot(u, u)) for a in u]


def pair(name, dtype, radius, separation, c, rng):
  """Two rounded chart points at about `radius`, `separation` apart."""
  u, root = direction(rng), mp.sqrt(c)
  x = [mp.sinh(radius) / root * a for a in u]
  if separation is None:
    y = [mp.sinh(radius) / root * a for a in direction(rng)]
  else:
    w = direction(rng)
    along = dot(u, w)  # the unit vector of the tangent space with this component along u
    w = [b - along * a + along * mp.cosh(radius) * a for a, b in zip(u, w)]
    y = shoot(x, [mp.mpf(separation) / root * a for a in w], c)
  return [rounded(name, p, c, dtype) for p in (x, y)]


@functools.cache
def pairs(name: str, dtype: str, c: float) -> dict:
  """x, y, the radius of each pair, and from one compiled call dist and its gradients."""
  mp.mp.dps = 60 if max(TOLERANCES[name, dtype]) < 50 else 200
  rng = np.random.default_rng(0)
  radii = [r for r in TOLERANCES[name, dtype] for _ in SEPARATIONS for _ in range(PAIRS)]
  cases = [s for _ in TOLERANCES[name, dtype] for s in SEPARATIONS for _ in range(PAIRS)]
  # c as the dtype has it is the curvature that is meant
  c_exact = mp.mpf(float(np.dtype(dtype).type(c)))
  xy = [pair(name, dtype, mp.mpf(r), s, c_exact, rng) for r, s in zip(radii, cases)]
  x, y = (np.stack(p) for p in zip(*xy))
  ops = manifolds.make(name).ops
  with jax.enable_x64(True):
    f = full_jit(
      jax.vmap(jax.value_and_grad(lambda x, y, c: ops.dist(x, y, c=c), (0, 1, 2)), (0, 0, None))
    )
    d, (g_x, g_y, g_c) = jax.tree.map(np.asarray, f(x, y, jnp.asarray(c, dtype)))
  return dict(x=x, y=y, r=np.array(radii), d=d, g_x=g_x, g_y=g_y, g_c=g_c, c=c_exact)


@parameterized.product(
  name=("poincare", "lorentz", "klein", "halfspace", "horospherical"),
  dtype=("float32", "float64"),
  c=(1.0, 0.37),
)
class DistanceTest(parameterized.TestCase):
  def worst(self, name, dtype, c, error, column):
    """Fails if the largest error at some radius is beyond the table."""
    data = pairs(name, dtype, c)
    found = {}
    for i, r in enumerate(data["r"]):
      e = error(data, i)
      if e is not None:
        found[float(r)] = max(found.get(float(r), 0.0), float(e))
    limits = {float(r): tol[column] for r, tol in TOLERANCES[name, dtype].items()}
    over = {
      r: (e, limits[r]) for r, e in found.items() if limits[r] is not None and not e < limits[r]
    }
    self.assertEqual(over, {}, "radius: (found, allowed)")

  def test_distance(self, name, dtype, c):
    def error(p, i):
      d = arcosh_distance(name, exact(p["x"][i]), exact(p["y"][i]), p["c"])
      return abs(p["d"][i] - d) / d if d else None  # close points may round to one

    self.worst(name, dtype, c, error, 0)

  def test_gradient_has_unit_length(self, name, dtype, c):
    def error(p, i):
      if np.array_equal(p["x"][i], p["y"][i]):
        return None
      at = (("x", "g_x"), ("y", "g_y"))
      return max(abs(dual_norm(name, exact(p[x][i]), exact(p[g][i]), p["c"]) - 1) for x, g in at)

    self.worst(name, dtype, c, error, 1)

  def test_derivative_by_curvature(self, name, dtype, c):
    p = pairs(name, dtype, c)
    for i, r in enumerate(p["r"]):
      if r > 10 or np.array_equal(p["x"][i], p["y"][i]):
        continue
      x, y = exact(p["x"][i]), exact(p["y"][i])
      slope = mp.diff(lambda c, x=x, y=y: arcosh_distance(name, x, y, c), p["c"])
      # against d: where x and y are close but on one ray the slope itself nearly cancels
      blur = {"klein": np.exp(2 * r), "poincare": np.exp(r)}.get(name, 0)
      tol = 100 * np.finfo(dtype).eps * (1 + blur)
      self.assertLess(abs(p["g_c"][i] - slope), tol * (abs(slope) + p["d"][i]), f"radius {r}")


class ExpTest(parameterized.TestCase):
  @parameterized.product(name=("poincare", "lorentz"), dtype=("float32", "float64"))
  def test_end_point_and_way_back(self, name, dtype):
    mp.mp.dps = 60
    ops = manifolds.make(name).ops
    rng = np.random.default_rng(0)
    one, rows = mp.mpf(1), []
    for radius, length in EXP:
      for _ in range(PAIRS):
        x, w = ([float(a) for a in direction(rng)] for _ in range(2))
        if name == "poincare":
          x = np.tanh(radius / 2) * np.array(x)
          v = length * (1 - x @ x) / 2 * np.array(w)
        else:
          x, w = np.array(x), np.array(w)
          v = length * (w + (np.cosh(radius) - 1) * (w @ x) * x)
          x = np.sinh(radius) * x
        rows.append((x.astype(dtype), v.astype(dtype), radius, length))
    x, v = (np.stack(column) for column in list(zip(*rows))[:2])
    with jax.enable_x64(True):
      end, back = jax.tree.map(np.asarray, full_jit(lambda x, v: (
        ops.exp(x, v), ops.norm(x, ops.log(x, ops.exp(x, v)) - v)))(x, v))  # fmt: skip
    unit = np.finfo(dtype).eps / np.finfo("float32").eps
    for i, (_, _, radius, length) in enumerate(rows):
      a, u = exact(x[i]), exact(v[i])
      if name == "poincare":  # the differential of the lift
        alpha = 1 - dot(a, a)
        u = [2 * q / alpha + 4 * dot(a, u) * p / alpha**2 for p, q in zip(a, u)]
      goal = lower(name, shoot(lift(name, a, one), u, one), one)
      miss = arcosh_distance(name, exact(end[i]), goal, one)
      self.assertLess(abs(miss), EXP[radius, length] * unit, f"radius {radius}, length {length}")
      way = max(EXP[radius, length], 1e-6) * max(1, 1 / length)
      self.assertLess(back[i], way * unit, f"radius {radius}, length {length}")


class DepthTest(parameterized.TestCase):
  @parameterized.parameters(20, 30, 40)
  def test_horospherical_float32_holds_close_pairs_apart(self, radius):
    """Against the distance before rounding, which no chart of one number a coordinate keeps."""
    mp.mp.dps = 80
    rng, one = np.random.default_rng(radius), mp.mpf(1)
    x, y, d = [], [], []
    for _ in range(12):
      u, w = direction(rng), direction(rng)
      a = [mp.sinh(radius) * q for q in u]
      along = dot(u, w)
      v = [mp.mpf("0.1") * (q + along * (mp.cosh(radius) - 1) * p) for p, q in zip(u, w)]
      b = shoot(a, v, one)
      for rows, point in ((x, a), (y, b)):
        rows.append(rounded("horospherical", point, one, "float32"))
      d.append(0.1)
    x, y = np.stack(x), np.stack(y)
    found = full_jit(manifolds.make("horospherical").dist)(x, y)
    self.assertEqual(found.dtype, np.float32)
    np.testing.assert_allclose(found, d, rtol=1e-4)


class ReachTest(parameterized.TestCase):
  """How far out a chart can be used: exp from the origin, then the distance back, to 1 %."""

  @parameterized.parameters(
    ("poincare", "float32", 15.0), ("poincare", "float64", 35.0),
    ("lorentz", "float32", 42.0), ("lorentz", "float64", 350.0),
  )  # fmt: skip
  def test_usable_radius(self, name, dtype, radius):
    ops = manifolds.make(name).ops
    scale = 0.5 if name == "poincare" else 1.0
    with jax.enable_x64(True):
      r = np.linspace(0.5, radius, 50).astype(dtype)
      v = r[:, None] * np.array([0.6, 0, -0.8], dtype) * np.dtype(dtype).type(scale)
      d = full_jit(lambda v: ops.dist(jnp.zeros_like(v), ops.exp(jnp.zeros_like(v), v)))(v)
    # Where float32 ends in the ball, GPUs' quotients and roots are off by a little more.
    np.testing.assert_allclose(d, r, rtol=0.01 if jax.default_backend() == "cpu" else 0.03)

  @parameterized.parameters("poincare", "lorentz")
  def test_close_points_are_told_apart(self, name):
    # 1e-4 apart across the ray at radius 5, where float32 rounds points by 1e-5
    step = np.float32(1e-4)
    x = (
      lorentz.to_poincare(jnp.array([74.2, 0], "float32"))
      if name == "poincare"
      else jnp.array([74.2, 0], "float32")
    )
    across = step * (0.5 * (1 - x[0] ** 2) if name == "poincare" else 1)
    d = manifolds.make(name).dist(x, x.at[1].set(across))
    np.testing.assert_allclose(d, step, rtol=0.01)


class FlatAndRoundTest(parameterized.TestCase):
  @parameterized.parameters("float32", "float64")
  def test_sphere_is_accurate_at_0_and_at_the_antipode(self, dtype):
    mp.mp.dps = 60
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.standard_normal((DIM, 2)))[0].T
    angles = np.array([1e-6, 1e-3, 0.1, 1, 2, 3, np.pi - 1e-3])
    x = np.broadcast_to(u[0], (len(angles), DIM)).astype(dtype)
    y = (np.cos(angles)[:, None] * u[0] + np.sin(angles)[:, None] * u[1]).astype(dtype)
    ops = manifolds.make("sphere").ops
    with jax.enable_x64(True):
      d, g = jax.tree.map(np.asarray, full_jit(jax.vmap(jax.value_and_grad(ops.dist)))(x, y))
    for i in range(len(angles)):
      a, b = exact(x[i]), exact(y[i])
      a, b = ([t / mp.sqrt(dot(p, p)) for t in p] for p in (a, b))
      goal = 2 * mp.asin(
        mp.sqrt(dot([s - t for s, t in zip(a, b)], [s - t for s, t in zip(a, b)])) / 2
      )
      # the rounded points are off the sphere by eps, and so their difference by that
      self.assertLess(abs(d[i] - goal), 4 * np.finfo(dtype).eps * max(1, float(goal)))
      n = float(np.linalg.norm(g[i] - (g[i] @ x[i]) * x[i]))
      self.assertAlmostEqual(n, 1, delta=1e-3 if dtype == "float32" else 1e-9)

  def test_pairwise_noise_does_not_become_gradient(self):
    """Coincident rows among others, at radii where float32 inner products resolve nothing."""
    rng = np.random.default_rng(0)
    for name, scale in (("lorentz", 0.3), ("lorentz", 1e3), ("lorentz", 1e6), ("euclidean", 1e3)):
      m = manifolds.make(name)
      x = (scale * rng.standard_normal((40, DIM))).astype(np.float32)
      one = lambda a, b, m=m: m.pairwise(a[None], b[None])[0, 0]
      d, g = full_jit(lambda x, m=m, one=one: (m.pairwise(x, x), jax.vmap(jax.grad(one))(x, x)))(x)
      np.testing.assert_array_equal(np.diagonal(d), 0)
      np.testing.assert_array_equal(g, 0)
    x = poincare.random(jax.random.key(0), (40,), DIM, scale=1.0)
    np.testing.assert_array_equal(np.diagonal(full_jit(poincare.pairwise)(x, x)), 0)


class SignedCurvatureTest(parameterized.TestCase):
  # Largest relative error of dist, and of ‖grad d‖ about 1 (on the sphere an angle from antipodes).
  @parameterized.product(c=(-0.7, 0.0, 0.7), dtype=("float32", "float64"))
  def test_stereographic(self, c, dtype):
    mp.mp.dps = 60
    rng, number = np.random.default_rng(0), np.dtype(dtype).type
    ops, exact_c = manifolds.make("stereographic").ops, mp.mpf(float(number(c)))
    x = rng.standard_normal((60, DIM))
    x *= np.geomspace(1e-3, 0.9 if c > 0 else 30, 60)[:, None] / np.linalg.norm(x, axis=1)[:, None]
    y = x + np.geomspace(1e-6, 0.05, 60)[::-1, None] * rng.standard_normal((60, DIM))
    z = 0.15 * rng.standard_normal((60, DIM))
    pairs = [(x, y), (x, z)]
    if c < 0:  # a little beside the antipode
      pairs.append((x, -y / (-c * np.sum(y * y, axis=1, keepdims=True))))
    x, y = (np.concatenate(a).astype(dtype) for a in zip(*pairs))
    with jax.enable_x64(True):
      d, slopes = full_jit(
        jax.vmap(jax.value_and_grad(lambda x, y: ops.dist(x, y, c=number(c)), (0, 1)))
      )(x, y)
    miss, skew = [], []
    for i in range(len(x)):
      a, b = exact(x[i]), exact(y[i])
      delta = [p - q for p, q in zip(a, b)]
      alpha = [1 - exact_c * dot(p, p) for p in (a, b)]
      goal = 2 * mp.sqrt(dot(delta, delta) / (alpha[0] * alpha[1]))
      if c:
        root = mp.sqrt(abs(exact_c))
        goal = 2 / root * (mp.asinh if c > 0 else mp.asin)(0.5 * root * goal)
      miss.append(float(abs(float(d[i]) - goal) / goal))
      for g, by in zip(slopes, alpha):
        skew.append(float(abs(mp.sqrt(dot(exact(g[i]), exact(g[i]))) * by / 2 - 1)))
    eps = np.finfo(dtype).eps  # measured: up to 3 and 11
    self.assertLess(max(miss), 10 * eps)
    self.assertLess(max(skew), 30 * eps)
