"""Laws every manifold of matrices obeys, its isometries, and finite answers for every input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from geoemb import manifolds
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

# Points are of size 1 and conditions below 100.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
N = 8
DIMS = {"grassmann": (5, 2), "log_euclidean": 3, "so": 4, "spd": 4, "stiefel": (5, 2)}
FULL = [(name, dim, "float64") for name, dim in DIMS.items()]
# Closed forms for 3, and frames of more than half the axes.
CASES = [("so", 3, "float32"), ("stiefel", (4, 3), "float32"), *FULL]


def moves(name: str, dim) -> list:
  """Isometries of points, and of tangents along with them."""
  rng = np.random.default_rng(3)
  n, p = dim if isinstance(dim, tuple) else (dim, dim)
  left, right = (np.linalg.qr(rng.standard_normal((k, k)))[0] for k in (n, p))
  left[0], right[0] = left[0] * np.linalg.det(left), right[0] * np.linalg.det(right)
  if name == "spd":
    a = left + 0.3 * rng.standard_normal((n, n))
    return [lambda x: a.astype(x.dtype) @ x @ a.T.astype(x.dtype)]
  if name == "log_euclidean":
    return [lambda x: 3 * left.astype(x.dtype) @ x @ left.T.astype(x.dtype)]
  by_left = lambda x: left.astype(x.dtype) @ x
  by_right = lambda x: x @ right.astype(x.dtype)
  return [by_left] if name == "stiefel" else [by_left, by_right]


@functools.cache
def facts(name: str, dim, dtype: str) -> dict[str, np.ndarray]:
  """Everything the laws are about; every function is compiled once, for one shape."""
  with jax.enable_x64(True):
    return {k: np.asarray(v) for k, v in _facts(name, dim, dtype).items()}


def _facts(name: str, dim, dtype: str) -> dict[str, np.ndarray]:
  m = manifolds.make(name)
  call = {}

  def ask(f, *args):
    """The answer of m.f, or of a function f, for points and tangents [N, ...]."""
    if f not in call:
      call[f] = quick_jit(getattr(m, f) if isinstance(f, str) else f)
    return np.asarray(call[f](*args))

  rng = np.random.default_rng(1)
  dist, inner, norm = (functools.partial(ask, f) for f in ("dist", "inner", "norm"))
  wide = lambda a: a[:, None, None]
  x = np.asarray(
    quick_jit(lambda k: m.random(k, (N,), dim, scale=1.0, dtype=dtype))(jax.random.key(0))
  )
  lengths = np.exp(np.linspace(np.log(0.01), np.log(1.4), N)).astype(dtype)

  def tangent(x, lengths=lengths):
    v = ask("egrad2rgrad", x, rng.standard_normal(x.shape).astype(dtype))
    return v * wide(lengths / norm(x, v))

  u, v = tangent(x), tangent(x)
  y, z = ask("exp", x, tangent(x)), ask("exp", x, tangent(x, 0.5 * lengths))
  end, log, back = ask("exp", x, v), ask("log", x, y), ask("log", y, x)
  middle = ask("exp", x, np.asarray(0.5, dtype) * log)
  p_u, p_v = ask("transport", x, y, u), ask("transport", x, y, v)
  to_norm = np.stack([norm(a, w) for a, w in ((x, u), (x, v), (y, p_u))])
  out = {
    "x": x, "y": y, "u": u, "v": v, "log": log, "-log back": -back, "d(x,y)": dist(x, y),
    "d(y,x)": dist(y, x), "d(x,z)": dist(x, z), "d(z,y)": dist(z, y), "d(x,x)": dist(x, x),
    "log(x,x)": ask("log", x, x), "exp(x,0)": ask("exp", x, 0 * v), "log exp": ask("log", x, end),
    "exp log": dist(ask("exp", x, log), y), "|log|": norm(x, log),
    "half way": np.stack([dist(x, middle), dist(middle, y)]), "|u|": to_norm[0],
    "|v|": to_norm[1], "<u,v>": inner(x, u, v), "<v,u>": inner(x, v, u), "<u,u>": inner(x, u, u),
    "P<u,v>": inner(y, p_u, p_v), "P log": ask("transport", x, y, log), "P u": p_u,
    "P stay": ask("transport", x, x, u), "P back": ask("transport", y, x, p_u),
    "tangent": ask("log", y, ask("exp", y, p_u)),
  }  # fmt: skip
  both = [(f(x), f(y), f(v), f(end)) for f in moves(name, dim)]
  out["moved dist"] = np.stack([dist(a, b) for a, b, _, _ in both])
  out["moved norm"] = np.stack([norm(a, w) for a, _, w, _ in both])
  out["moved exp"] = np.stack([dist(ask("exp", a, w), b) for a, _, w, b in both])
  if (name, dim, dtype) not in FULL:
    return out

  g = rng.standard_normal(x.shape)
  unit = lambda a, w: w / m.wide(m.norm(a, w))

  @quick_jit
  def calculus(x, y, u, p_u):
    twice, ends = jnp.concatenate([x, x]), jnp.concatenate([y, x])
    pulls = jax.grad(lambda x, y: m.dist(x, y).sum(), (0, 1))(twice, ends)
    values, pullback = jax.vjp(m.sqdist, x, y)
    by_square = pullback(jnp.ones_like(values))
    at = lambda g, a, w: jnp.sum(g * unit(a, w), (-2, -1))
    to_x, to_y = unit(x, u), unit(y, p_u)
    push = jax.vmap(lambda dx, dy: jax.jvp(m.log, (x, y), (dx, dy))[1])
    bend = jax.jvp(jax.grad(lambda a: 0.5 * m.sqdist(a, x).sum()), (x,), (u,))[1]
    both, steps = jnp.stack([x, x]), jnp.stack([0.1 * v, 0.01 * v])
    return {
      "sqdist": values, "grad d": m.egrad2rgrad(x, pulls[0][:N] * m.wide(jnp.sqrt(values))),
      "grad d²/2": m.egrad2rgrad(x, 0.5 * by_square[0]),
      "grad d(x,x)": jnp.stack([g[N:] for g in pulls]),
      "slopes": jnp.stack([at(by_square[0], x, u), at(by_square[1], y, p_u)]),
      "log slopes": push(jnp.stack([to_x, 0 * x]), jnp.stack([0 * y, to_y])),
      "bend": jnp.sum(bend * u, (-2, -1)), "components": m.component_inner(x, u),
      "proj": m.proj(x), "shaken": m.proj(x + 1e-3 * g), "pairwise": m.pairwise(x, y),
      "descend": m.descend(both, jnp.stack([0.3 * g, 0 * g]), 0.5),
      "short descent": m.descend(x, 0.3 * g, 0.5, limit=0.05), "retract": m.retract(both, steps),
    }  # fmt: skip

  h = 1e-4
  weights = np.array([1, -8, 8, -1]) / (12 * h)

  def numeric(f):
    along = []
    for a, w, pair in ((x, u, lambda a: (a, y)), (y, p_u, lambda a: (x, a))):
      values = [f(*pair(ask("exp", a, t * h * w / wide(norm(a, w))))) for t in (-2, -1, 1, 2)]
      along.append(np.tensordot(weights, values, 1))
    return np.stack(along)

  out |= {k: np.asarray(a) for k, a in calculus(x, y, u, p_u).items()}
  step = -0.5 * ask("egrad2rgrad", x, 0.3 * g)
  near = [dist(a, ask("exp", x, s * v)) for a, s in zip(out["retract"], (0.1, 0.01))]
  return out | {
    "differences": numeric(lambda x, y: dist(x, y) ** 2),
    "log differences": numeric(functools.partial(ask, "log")), "retract": np.stack(near),
    "rgrad": inner(x, ask("egrad2rgrad", x, g), v), "egrad": np.sum(g * v, (-2, -1)),
    "descend": dist(out["descend"][0], ask("exp", x, step)), "|step|": norm(x, step),
    "descend 0": out["descend"][1], "shaken": dist(x, out["shaken"]),
    "short descent": dist(x, out["short descent"]),
    "all": np.stack([dist(x, np.broadcast_to(one, y.shape)) for one in y], -1),
  }  # fmt: skip


class Case(parameterized.TestCase):
  def close(self, name, dim, dtype, a, b, scale=1.0):
    f = facts(name, dim, dtype)
    tol = TOLERANCE[dtype] * scale
    np.testing.assert_allclose(f[a], f[b] if isinstance(b, str) else b, rtol=tol, atol=tol)


@parameterized.named_parameters(
  (f"{name}_{'x'.join(map(str, np.atleast_1d(dim)))}_{dtype}", name, dim, dtype)
  for name, dim, dtype in CASES
)
class LawsTest(Case):
  def test_dtype_is_kept(self, name, dim, dtype):
    wrong = {k: str(v.dtype) for k, v in facts(name, dim, dtype).items() if v.dtype != dtype}
    self.assertEqual(wrong, {})
    m = manifolds.make(name)
    x = jax.ShapeDtypeStruct(m.origin((), dim).shape, dtype)
    for f in ("egrad2rgrad", "retract", "sqdist", "pairwise"):
      args = (x, x) if f != "pairwise" else [jax.ShapeDtypeStruct((2, *x.shape), dtype)] * 2
      with jax.enable_x64(True):
        self.assertEqual(jax.eval_shape(getattr(m, f), *args).dtype, dtype, f)

  def test_distance_is_a_metric(self, *case):
    f = facts(*case)
    self.close(*case, "d(x,y)", "d(y,x)")
    self.assertTrue(np.all(f["d(x,y)"] > 0))
    self.assertTrue(np.all(f["d(x,y)"] <= (f["d(x,z)"] + f["d(z,y)"]) * (1 + TOLERANCE[case[2]])))

  def test_coincident_points_are_exactly_at_0_with_gradient_0(self, *case):
    for k in {"d(x,x)", "log(x,x)", "grad d(x,x)"} & facts(*case).keys():
      np.testing.assert_array_equal(facts(*case)[k], 0, k)

  def test_exp_and_log_are_inverse(self, *case):
    self.close(*case, "exp log", 0)
    self.close(*case, "log exp", "v", 5)
    self.close(*case, "exp(x,0)", "x", 0.1)

  def test_log_is_as_long_as_the_distance(self, *case):
    self.close(*case, "|log|", "d(x,y)")
    half = 0.5 * facts(*case)["d(x,y)"]
    self.close(*case, "half way", np.stack([half, half]))

  def test_inner_is_symmetric_and_norm_its_root(self, *case):
    f = facts(*case)
    self.close(*case, "<u,v>", "<v,u>", 0.1)
    self.close(*case, "<u,u>", f["|u|"] ** 2)

  def test_transport_is_an_isometry_along_the_geodesic(self, *case):
    self.close(*case, "P<u,v>", "<u,v>")
    self.close(*case, "P log", "-log back", 5)
    self.close(*case, "P back", "u", 5)
    self.close(*case, "P stay", "u", 0.1)
    self.close(*case, "tangent", "P u", 5)

  def test_isometries_keep_distances_and_geodesics(self, *case):
    f = facts(*case)
    self.close(*case, "moved dist", np.broadcast_to(f["d(x,y)"], f["moved dist"].shape), 5)
    self.close(*case, "moved norm", np.broadcast_to(f["|v|"], f["moved norm"].shape), 5)
    self.close(*case, "moved exp", 0, 5)


@parameterized.named_parameters((name, name, dim, dtype) for name, dim, dtype in FULL)
class CalculusTest(Case):
  def test_riemannian_gradient_represents_the_differential(self, *case):
    self.close(*case, "rgrad", "egrad", 5)

  def test_gradient_of_half_the_squared_distance_is_minus_log(self, *case):
    log = facts(*case)["log"]
    self.close(*case, "grad d²/2", -log, 5)
    self.close(*case, "grad d", -log, 5)

  def test_derivatives_are_those_of_finite_differences(self, *case):
    tol = 1e-9  # eps over the step
    f = facts(*case)
    np.testing.assert_allclose(f["slopes"], f["differences"], rtol=tol, atol=tol)
    np.testing.assert_allclose(f["log slopes"], f["log differences"], rtol=tol, atol=tol)

  def test_hessian_of_half_the_squared_distance_is_the_metric(self, *case):
    self.close(*case, "bend", "<u,u>")

  def test_descend_follows_the_gradient(self, *case):
    f = facts(*case)
    self.close(*case, "descend", 0)
    self.close(*case, "descend 0", "x", 0.1)
    self.close(*case, "short descent", np.minimum(f["|step|"], 0.05))
    self.assertGreater(np.sum(f["|step|"] > 0.06), 3)

  def test_retraction_agrees_to_first_order(self, *case):
    coarse, fine = facts(*case)["retract"]  # at 0.1 v and 0.01 v
    self.assertTrue(np.all(coarse < 0.02 * (facts(*case)["|v|"] ** 2 + 1e-3)))
    self.assertTrue(np.all(fine < 0.02 * coarse + TOLERANCE[case[2]]))

  def test_points_survive_proj(self, *case):
    self.close(*case, "proj", "x", 0.1)
    self.assertLess(np.max(facts(*case)["shaken"]), 0.03)

  def test_pairwise_is_dist(self, *case):
    self.close(*case, "pairwise", "all", 0.1)

  def test_the_rest_agrees(self, *case):
    f = facts(*case)
    self.close(*case, "sqdist", f["d(x,y)"] ** 2)
    self.close(*case, "components", f["<u,u>"][:, None, None])


class BundleTest(parameterized.TestCase):
  @parameterized.parameters(("grassmann", (4, 2)))
  def test_points_of_two_axes(self, name, dim):
    m = manifolds.make(name)
    self.assertEqual((m.point_ndim, m.name), (2, name))

    @quick_jit
    def run(key):
      x, y = m.random(key, (2, 3), dim, scale=1.0)
      ways = m.log(x[:2, None], y[None, :3]), m.log(x[:2], y[:2])
      middle = jnp.stack([m.dist(x, m.midpoint(x, y)), m.dist(m.geodesic(x, y, 0.5), y)])
      one = jnp.stack([m.dist(x[0], y[0]), jax.vmap(m.dist)(x, y)[0], m.dist(x, y)[0]])
      zero = m.dist0(x), m.norm(m.origin_like(x), m.log0(x))
      return ways, 2 * middle / m.dist(x, y), one, zero, m.random(key, (), dim).shape

    (table, pairs), middle, one, zero, shape = run(jax.random.key(1))
    np.testing.assert_allclose(table[[0, 1], [0, 1]], pairs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(middle, 1, rtol=1e-5)
    np.testing.assert_allclose(one, one[0], rtol=1e-5)
    np.testing.assert_allclose(*zero, rtol=1e-5)
    self.assertEqual(tuple(map(int, shape)), np.shape(m.origin((), dim)))


def hard(name: str, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
  """Points at and near every edge of the formulas, and matrices to be tangents."""
  rng = np.random.default_rng(0)
  e = float(np.finfo(dtype).eps)
  if name in ("spd", "log_euclidean"):
    a = rng.standard_normal((3, 3))
    points = [np.eye(3), np.eye(3) * (1 + e), a @ a.T, np.diag([1, 1, 1 + 8 * e]), 0 * a, -a @ a.T]
    points += [np.diag(d) for d in ([1, 2, 1], [1, 1e-3, 1e3], [1, e, 1], [1e8, 1e6, 1e4])]
    points += [1e30 * a, -1e30 * np.eye(3), 1e-6 * np.eye(3), np.outer(a[0], a[0]), a]
    shape = (3, 3)
  elif name == "so":
    shape = (4, 4)
    turn = lambda *angles: np.asarray(
      np.block([
        [np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) if i == j else np.zeros((2, 2))
         for j in range(2)] for i, t in enumerate(angles)
      ])
    )  # fmt: skip
    pi = np.pi
    angles = [(0, 0), (e, 0), (pi, 0), (pi, pi), (pi - e, pi), (pi - 1e-3, pi - 1e-3), (1, 1)]
    points = [turn(*t) for t in [*angles, (1, -1), (1, 2), (pi / 2, -pi / 2)]]
    swap = np.eye(4)[[1, 0, 3, 2]]
    points += [swap, np.linalg.qr(rng.standard_normal((4, 4)))[0] @ np.diag([1, 1, 1, 1])]
    points[-1][:, 0] *= np.linalg.det(points[-1])
  else:
    shape = (4, 2)
    q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    axes = np.eye(4)
    points = [axes[:, :2], axes[:, 1::-1], -axes[:, :2], axes[:, 2:], axes[:, [0, 2]], axes[:, 1:3]]
    points += [axes[:, [0, 3]] * [1, -1], q[:, :2], -q[:, :2], q[:, 2:], q[:, [1, 2]]]
    points.append(np.linalg.qr(axes[:, :2] + e * q[:, :2])[0])
  g = rng.standard_normal(shape)
  vectors = [0 * g, g, 1e-30 * g, 1e5 * g, e * g, np.eye(*shape), np.ones(shape)]
  if not name.startswith(("spd", "log")):  # whose squared lengths have a derivative of size v²/x³
    vectors.append(1e30 * g)
  return np.array(points, dtype), np.array(vectors, dtype)


FUNCTIONS = {  # name: number of array arguments
  "inner": 3, "norm": 2, "dist": 2, "exp": 2, "log": 2,
  "transport": 3, "proj": 1, "egrad2rgrad": 2, "descend": 2, "retract": 2,
}  # fmt: skip


class NanTest(parameterized.TestCase):
  @parameterized.product(name=manifolds.MATRIX_NAMES, dtype=["float32"])
  def test_values_and_gradients_are_finite(self, name, dtype):
    points, vectors = hard(name, np.dtype(dtype))
    n, k = len(points), len(vectors)
    i, j = (a.ravel() for a in np.mgrid[:n, :n])
    with jax.enable_x64(True):
      m = manifolds.make(name)

      @quick_jit
      def everything(points, tangents):
        x, y = points[i], points[j]
        out = {}
        for f, arity in FUNCTIONS.items():
          rate = (jnp.asarray(0.3, dtype),) if f == "descend" else ()
          two = f in ("dist", "log", "transport")
          args = ((x, y, tangents[0]) if two else (x, *tangents))[:arity]
          value, pullback = jax.vjp(lambda *a, f=f, rate=rate: getattr(m, f)(*a, *rate), *args)
          out[f] = value, pullback(jnp.ones_like(value))
        return out

      tangents = vectors[np.random.default_rng(1).integers(0, k, (2, n * n))]
      for f, leaves in everything(points, tangents).items():
        for part, leaf in enumerate(jax.tree.leaves(leaves)):
          self.assertEqual(leaf.dtype, dtype, f)
          bad = np.argwhere(~np.isfinite(np.asarray(leaf)))
          if len(bad):
            row = bad[0][0]
            where = f"{points[i[row]]} {points[j[row]]} {tangents[:, row]}"
            self.fail(f"{f}, output {part}: {len(bad)} bad, first at {where}")

  def test_nan_is_not_hidden(self):
    for name, dim in DIMS.items():
      m = manifolds.make(name)
      o = m.origin((), dim)
      self.assertTrue(np.isnan(quick_jit(m.dist)(o.at[0, 0].set(jnp.nan), o)), name)
