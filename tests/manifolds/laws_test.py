"""Laws every manifold obeys. A new manifold joins by being listed in manifolds.NAMES."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from geoemb import manifolds, numerics
from geoemb.manifolds import (
  halfspace,
  horospherical,
  klein,
  lorentz,
  poincare,
  sphere,
  stereographic,
)
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

DTYPES = ("float32", "float64")
# Points lie within a radius of about 4, where rounding of the coordinates alone moves a point by
# eps·e^4 ≈ 50 eps; float32's tolerance is that with a factor of 15, float64's leaves it more.
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
C = 0.7
N, DIM = 24, 4


def draws(m: manifolds.Manifold, dtype: str) -> tuple[jax.Array, ...]:
  """Points x, y, z [N, ...] at 0.01 to 3 from the origin, and tangents u, v at x that long."""
  normal = np.random.default_rng(1).standard_normal
  origin = m.origin((N,), DIM, jnp.dtype(dtype))
  lengths = jnp.exp(jnp.linspace(jnp.log(0.01), jnp.log(3.0), N)).astype(dtype)

  def tangents(x, lengths):
    g = m.egrad2rgrad(x, normal((len(lengths), *x.shape)).astype(dtype))
    return g * (lengths / m.norm(x, g))[..., None]

  start = tangents(origin, jnp.stack([lengths, lengths[::-1], 0.5 * lengths]))
  x, y, z = m.exp(origin, start)
  return x, y, z, *tangents(x, jnp.stack([lengths, 0.3 * lengths]))


NAMES = (*manifolds.NAMES, "round stereographic")


def geometry(name: str, c: float) -> manifolds.Manifold:
  """The geometry `name`, "round" for negative c."""
  return manifolds.make(name.removeprefix("round "), -c if name.startswith("round ") else c)


@functools.cache
def facts(name: str, dtype: str) -> dict[str, np.ndarray]:
  """Everything the laws are about, from one compiled function."""
  with jax.enable_x64(True):
    m = geometry(name, jnp.asarray(C, dtype))
    return {k: np.asarray(v) for k, v in laws(m.name, dtype)(m).items()}


@functools.cache
def laws(name: str, dtype: str):
  """The compiled function of a geometry module, of either sign of curvature."""
  fixed = manifolds.make(name, 1.0)  # affinities are for a fixed c

  def each(f, *args):
    return f(*(jnp.stack(a) for a in zip(*args)))

  @quick_jit
  def compute(m):
    x, y, z, u, v = draws(m, dtype)
    g = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    end, stay, coarse, fine = each(m.exp, (x, v), (x, 0 * v), (x, 0.1 * v), (x, 0.01 * v))
    log, log_stay, back, log_end = each(m.log, (x, y), (x, x), (y, x), (x, end))
    reached, middle = each(m.exp, (x, log), (x, 0.5 * log))
    p_u, p_v, p_log, p_stay = each(m.transport, (x, y, u), (x, y, v), (x, y, log), (x, x, u))
    rgrad = m.egrad2rgrad(x, g)
    uv, vu, uu, p_uv, gv = each(
      m.inner, (x, u, v), (x, v, u), (x, u, u), (y, p_u, p_v), (x, rgrad, v)
    )
    d = each(
      m.dist,
      (x, y),
      (y, x),
      (x, z),
      (z, y),
      (x, x),
      (x, middle),
      (middle, y),
      (m.retract(x, 0.1 * v), coarse),
      (m.retract(x, 0.01 * v), fine),
    )
    far, cut = m.descend(x, 0.3 * g, 0.5), m.descend(x, 0.3 * g, 0.5, limit=0.05)
    step = -0.5 * m.egrad2rgrad(x, 0.3 * g)
    w = jnp.sin(jnp.arange(len(x) ** 2, dtype=x.dtype)).reshape(len(x), -1)
    pull, pull_all = (
      m.egrad2rgrad(  # the part across a sphere is not theirs
        jnp.stack([x, y]), jnp.stack(jax.grad(lambda x, y, d=d: jnp.sum(w * d(x, y)), (0, 1))(x, y))
      )
      for d in (m.pairwise, lambda x, y: m.dist(x[:, None], y))
    )
    up_x, up_y = fixed.lift(x), fixed.lift(y)
    slope, slope_stay = jax.grad(lambda a: m.dist(a, jnp.stack([y, x])).sum())(jnp.stack([x, x]))
    return {
      "x": x, "y": y, "u": u, "v": v, "log": log, "log(x,x)": log_stay, "-log back": -back,
      "exp(x,0)": stay, "exp log": reached, "log exp": log_end, "|log|": m.norm(x, log),
      "d(x,y)": d[0], "d(y,x)": d[1], "d(x,z)": d[2], "d(z,y)": d[3], "d(x,x)": d[4],
      "half way": d[5:7], "retract": d[7:], "<u,v>": uv, "<v,u>": vu, "<u,u>": uu,
      "|u|": m.norm(x, u), "|v|": m.norm(x, v), "P<u,v>": p_uv,
      "components": m.component_inner(x, u).sum(-1),
      "P log": p_log, "P stay": p_stay, "P back": m.transport(y, x, p_u), "rgrad": gv,
      "egrad": jnp.sum(g * v, -1), "grad d²/2": m.egrad2rgrad(x, slope * d[0][:, None]),
      "descend": far, "exp of it": m.exp(x, step), "descend 0": m.descend(x, 0 * g, 0.5),
      "short descent": m.dist(x, cut), "its way": m.log(x, cut), "step": step,
      "|step|": m.norm(x, step), "grad d(x,x)": slope_stay, "proj": m.proj(x),
      "pairwise": m.pairwise(x, y), "all": m.dist(x[:, None], y), "pull": pull,
      "pull of all": pull_all, "lifted dist": fixed.dist(up_x, up_y), "plain": fixed.dist(x, y),
      "lifted": fixed.pairwise(up_x, up_y), "unlifted": fixed.pairwise(x, y),
      "affinity": fixed.pairwise_affinity(x, y), "affinity of": jnp.exp(-fixed.pairwise(x, y)),
      "search": numerics.dots(m.query(x), m.key(y)), "vmap": jax.vmap(m.dist)(x, y),
      "one": m.dist(x[0], y[0]), "broadcast": m.log(x[:2, None], y[None, :3]),
    }  # fmt: skip

  return compute


# Rarer charts in float64 alone: what float32 loses is measured by oracle_test for all.
IN_FLOAT32 = ("euclidean", "sphere", "poincare", "lorentz")
CASES = [
  (name, dtype) for name in NAMES for dtype in DTYPES if name in IN_FLOAT32 or dtype > "float32"
]


@parameterized.named_parameters(
  (f"{name.replace(' ', '_')}_{dtype}", name, dtype) for name, dtype in CASES
)
class LawsTest(parameterized.TestCase):
  def close(self, name, dtype, a, b, scale=1.0):
    f = facts(name, dtype)
    tol = TOLERANCE[dtype] * scale
    np.testing.assert_allclose(f[a], f[b] if isinstance(b, str) else b, rtol=tol, atol=tol)

  def test_dtype_is_kept(self, name, dtype):
    self.assertEqual(
      {k: str(v.dtype) for k, v in facts(name, dtype).items() if v.dtype != dtype}, {}
    )

  def test_distance_is_a_metric(self, name, dtype):
    f = facts(name, dtype)
    np.testing.assert_allclose(f["d(x,y)"], f["d(y,x)"], rtol=1e-6 if dtype == "float32" else 1e-14)
    self.assertTrue(np.all(f["d(x,y)"] > 0))
    self.assertTrue(np.all(f["d(x,y)"] <= (f["d(x,z)"] + f["d(z,y)"]) * (1 + TOLERANCE[dtype])))

  def test_coincident_points_are_exactly_at_0_with_gradient_0(self, name, dtype):
    f = facts(name, dtype)
    for k in ("d(x,x)", "log(x,x)", "grad d(x,x)"):
      np.testing.assert_array_equal(f[k], 0, k)

  def test_descend_follows_the_gradient(self, name, dtype):
    f = facts(name, dtype)
    self.close(name, dtype, "descend", "exp of it")
    self.close(name, dtype, "descend 0", "x")
    expected = np.minimum(f["|step|"], 0.05)
    self.close(name, dtype, "short descent", expected)
    self.assertGreater(np.sum(f["|step|"] > 0.06), 3)  # so some are cut
    way = f["step"] * (expected / f["|step|"])[:, None]
    self.close(name, dtype, "its way", way)

  def test_exp_inverts_log(self, name, dtype):
    self.close(name, dtype, "exp log", "y")

  def test_log_inverts_exp(self, name, dtype):
    self.close(name, dtype, "log exp", "v", 10)  # chart components grow with the radius

  def test_exp_of_0_stays(self, name, dtype):
    self.close(name, dtype, "exp(x,0)", "x", 0.01)

  def test_log_is_as_long_as_the_distance(self, name, dtype):
    self.close(name, dtype, "|log|", "d(x,y)")

  def test_half_of_log_is_half_way(self, name, dtype):
    half = 0.5 * facts(name, dtype)["d(x,y)"]
    self.close(name, dtype, "half way", np.stack([half, half]))

  def test_inner_is_symmetric_and_norm_its_root(self, name, dtype):
    self.close(name, dtype, "<u,v>", "<v,u>", 0.1)
    self.close(name, dtype, "<u,u>", facts(name, dtype)["|u|"] ** 2)
    self.close(name, dtype, "components", "<u,u>")

  def test_transport_is_an_isometry(self, name, dtype):
    self.close(name, dtype, "P<u,v>", "<u,v>", 10)  # tangents round at both ends

  def test_transport_carries_the_geodesic_along_itself(self, name, dtype):
    self.close(name, dtype, "P log", "-log back", 10)

  def test_transport_there_and_back_is_the_identity(self, name, dtype):
    self.close(name, dtype, "P back", "u", 10)
    self.close(name, dtype, "P stay", "u", 0.1)

  def test_riemannian_gradient_represents_the_differential(self, name, dtype):
    self.close(name, dtype, "rgrad", "egrad", 10)

  def test_gradient_of_half_the_squared_distance_is_minus_log(self, name, dtype):
    self.close(name, dtype, "grad d²/2", -facts(name, dtype)["log"], 10)

  def test_retraction_agrees_to_first_order(self, name, dtype):
    f = facts(name, dtype)
    coarse, fine = f["retract"]  # at 0.1 v and 0.01 v: the difference falls with the square
    floor = 1e-4 if dtype == "float32" else 1e-11
    cube = 4 * (0.01 * f["|v|"]) ** 3  # what is left where the second order vanishes by chance
    self.assertTrue(np.all(fine < 0.02 * coarse + cube + floor))

  def test_points_survive_proj(self, name, dtype):
    self.close(name, dtype, "proj", "x", 0.01)

  def test_pairwise_is_dist(self, name, dtype):
    # by inner products: absolute error √eps·e^r at worst, for pairs that are close
    atol = {"float32": 2e-2, "float64": 1e-6}[dtype]
    f = facts(name, dtype)
    np.testing.assert_allclose(f["pairwise"], f["all"], rtol=TOLERANCE[dtype] * 10, atol=atol)
    np.testing.assert_allclose(f["affinity"], f["affinity of"], rtol=TOLERANCE[dtype])

  def test_pairwise_pulls_as_dist(self, name, dtype):
    f = facts(name, dtype)
    atol = {"float32": 2e-2, "float64": 1e-6}[dtype] * np.abs(f["pull of all"]).max()
    np.testing.assert_allclose(f["pull"], f["pull of all"], rtol=TOLERANCE[dtype] * 10, atol=atol)

  def test_lifted_points_have_the_same_distances(self, name, dtype):
    self.close(name, dtype, "lifted dist", "plain")
    self.close(name, dtype, "lifted", "unlifted")

  def test_query_and_key_order_as_the_distance(self, name, dtype):
    f = facts(name, dtype)
    order = np.argsort(f["search"], axis=1)
    d = np.take_along_axis(f["all"], order, axis=1)
    self.assertTrue(np.all(np.diff(d, axis=1) > -{"float32": 2e-2, "float64": 1e-6}[dtype]))

  def test_vmap_and_single_points_give_the_batch(self, name, dtype):
    self.close(name, dtype, "vmap", "d(x,y)", 0.1)
    self.close(name, dtype, "one", facts(name, dtype)["d(x,y)"][0], 0.1)

  def test_leading_axes_broadcast(self, name, dtype):
    f = facts(name, dtype)
    np.testing.assert_allclose(
      f["broadcast"][[0, 1], [0, 1]], f["log"][:2], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


class OriginTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_distances_from_the_origin_have_unit_gradients(self, name, dtype):
    m = geometry(name, C)
    with jax.enable_x64(True):
      o = m.origin((200,), 4, dtype)

      @quick_jit
      def length(key):
        v = m.egrad2rgrad(o, 0.7 * jax.random.normal(key, o.shape, dtype))
        y = m.exp(o, v)
        ends = jax.grad(lambda x, y: jnp.sum(m.dist(x, y)), (0, 1))(o, y)
        return [m.norm(x, m.egrad2rgrad(x, g)) for x, g in zip((o, y), ends)]

      for found in length(jax.random.key(0)):
        np.testing.assert_allclose(found, 1, rtol={"float32": 1e-5, "float64": 1e-13}[dtype])


class SquareTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_sqdist_is_smooth(self, name, dtype):
    """The square of dist, with its slope; at x = y the Hessian of half of it is the metric."""
    f = facts(name, dtype)
    with jax.enable_x64(True):
      m = geometry(name, jnp.asarray(C, dtype))
      tolerance = TOLERANCE[dtype]
      for one, other in squares(m, *(jnp.asarray(f[k]) for k in "xyu")):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@quick_jit
def squares(m, x, y, u):
  """What sqdist says, and dist of the same; a manifold of either curvature is one program."""
  half = lambda x, y: 0.5 * m.sqdist(x, y)
  ways = [jax.value_and_grad(f, (0, 1)) for f in (half, lambda x, y: 0.5 * m.dist(x, y) ** 2)]
  values, slopes = zip(*(jax.vmap(f)(x, y) for f in ways))
  slopes = [[m.norm(x, m.egrad2rgrad(x, s)) for x, s in zip((x, y), slope)] for slope in slopes]
  by_c = [
    jax.grad(lambda m, f=f: f(m).sum())(m).c
    for f in (lambda m: m.sqdist(x, y), lambda m: m.dist(x, y) ** 2)
  ]
  bend = lambda x, u: jax.jvp(lambda z: jax.jvp(lambda z: half(z, x), (z,), (u,))[1], (x,), (u,))[1]
  return values, slopes, by_c, (jax.vmap(bend)(x, u), m.inner(x, u, u))


class CurvatureTest(parameterized.TestCase):
  @parameterized.parameters(*NAMES)
  def test_derivative_by_c_is_that_of_finite_differences(self, name):
    m = geometry(name, C)
    ops = m.ops

    @quick_jit
    def slopes(c, h):
      x, y, _, u, v = draws(m, "float64")

      def calls(c):
        out = {
          "dist": ops.dist(x, y, c=c), "norm": ops.norm(x, v, c=c), "exp": ops.exp(x, v, c=c),
          "inner": ops.inner(x, u, v, c=c), "transport": ops.transport(x, y, v, c=c),
          "log": ops.log(x, y, c=c), "pairwise": ops.pairwise(x, y, c=c),
        }  # fmt: skip
        if name == "sphere":
          del out["pairwise"]  # x and y leave the sphere when c moves, and x·y its range
        return out

      at = jax.vmap(calls)(c + h * jnp.array([-2.0, -1, 1, 2]))
      weights = jnp.array([1.0, -8, 8, -1]) / (12 * h)
      return jax.jvp(calls, (c,), (jnp.ones_like(c),))[1], jax.tree.map(
        lambda a: jnp.tensordot(weights, a, 1), at
      )

    with jax.enable_x64(True):
      step = 1e-4 if name == "klein" else 1e-3  # α = 1 − c‖x‖² is small, and changes as much
      exact, numeric = slopes(jnp.asarray(m.c), step)
      for f in exact:
        np.testing.assert_allclose(
          exact[f], numeric[f], rtol=1e-6, atol=1e-6, err_msg=f"{name}.{f}"
        )

  @parameterized.parameters("klein", "lorentz", "poincare", "stereographic")
  def test_flat_limit_is_euclidean(self, name):
    ops, scale = manifolds.make(name).ops, {"klein": 1, "lorentz": 1}.get(name, 2)
    x, y, v = np.random.default_rng(0).standard_normal((3, 10, DIM)).astype(np.float32)
    ask = quick_jit(
      lambda c: (
        ops.dist(x, y, c=c), ops.pairwise(x, y, c=c)[0], ops.exp(x, v, c=c), ops.log(x, y, c=c),
        ops.transport(x, y, v, c=c),
      )
    )  # fmt: skip
    for c in (0.0, 1e-12):
      dist, pairs, end, log, moved = ask(jnp.float32(c))
      np.testing.assert_allclose(dist, scale * np.linalg.norm(x - y, axis=-1), rtol=1e-5)
      np.testing.assert_allclose(pairs, scale * np.linalg.norm(x[0] - y, axis=-1), rtol=1e-5)
      np.testing.assert_allclose(end, x + v, rtol=1e-5, atol=1e-5)
      np.testing.assert_allclose(log, y - x, rtol=1e-5, atol=1e-5)
      np.testing.assert_allclose(moved, v, rtol=1e-5, atol=1e-5)


HYPERBOLIC = (  # every chart of hyperbolic space, with the way from the Lorentz chart and back
  ("halfspace", halfspace.from_lorentz, halfspace.to_lorentz),
  ("horospherical", horospherical.from_lorentz, horospherical.to_lorentz),
  ("klein", klein.from_lorentz, klein.to_lorentz),
  ("poincare", lorentz.to_poincare, lorentz.from_poincare),
  ("stereographic", lorentz.to_poincare, lorentz.from_poincare),
)


@quick_jit
def slopes_by_c(c):
  """Of `stereographic` by c: forward, numerically, and of all of them together in reverse."""
  h = 3e-3
  x, y, u, v = 0.4 * np.random.default_rng(0).standard_normal((4, 12, DIM))

  def values(c):
    return {
      "dist": stereographic.dist(x, y, c=c), "exp": stereographic.exp(x, v, c=c),
      "log": stereographic.log(x, y, c=c), "transport": stereographic.transport(x, y, v, c=c),
      "norm": stereographic.norm(x, v, c=c), "inner": stereographic.inner(x, u, v, c=c),
      "pairwise": stereographic.pairwise(x, y, c=c), "key": stereographic.key(y, c=c),
      "descend": stereographic.descend(x, u, 0.3, c=c), "query": stereographic.query(x, c=c),
      "egrad2rgrad": stereographic.egrad2rgrad(x, u, c=c),
    }  # fmt: skip

  at = jax.vmap(values)(c + h * jnp.array([-3.0, -2, -1, 1, 2, 3]))
  weights = jnp.array([-1.0, 9, -45, 45, -9, 1]) / (60 * h)
  numeric = jax.tree.map(lambda a: jnp.tensordot(weights, a, 1), at)
  forward = jax.jvp(values, (c,), (jnp.ones_like(c),))[1]
  total = jax.grad(lambda c: sum(jnp.sum(a) for a in values(c).values()))(c)
  return forward, numeric, total


class SignedCurvatureTest(parameterized.TestCase):
  """`stereographic` at and across c = 0."""

  @parameterized.parameters(0.0, 1e-9, -1e-9, 1e-3, -1e-3)
  def test_derivative_by_c_across_0(self, c):
    with jax.enable_x64(True):
      exact, numeric, total = slopes_by_c(jnp.asarray(c))
    for f in exact:
      np.testing.assert_allclose(exact[f], numeric[f], rtol=1e-9, atol=1e-9, err_msg=f)
    expected = sum(np.sum(np.asarray(a)) for a in exact.values())
    np.testing.assert_allclose(total, expected, rtol=1e-12)

  def test_second_derivative_by_c_at_0_is_finite(self):
    x, y = 0.4 * np.random.default_rng(0).standard_normal((2, 12, DIM))
    with jax.enable_x64(True):
      f = lambda c: stereographic.dist(x, y, c=c).sum()
      h, c = 1e-3, jnp.asarray(0.0)
      exact = quick_jit(jax.grad(jax.grad(f)))(c)
      slope = quick_jit(jax.grad(f))
      np.testing.assert_allclose(exact, (slope(c + h) - slope(c - h)) / (2 * h), rtol=1e-4)

  def test_positive_c_is_the_ball(self):
    with jax.enable_x64(True):
      one, other = facts("stereographic", "float64"), facts("poincare", "float64")
    for f in ("d(x,y)", "log", "exp log", "P log", "pairwise", "rgrad", "<u,v>"):
      np.testing.assert_allclose(one[f], other[f], rtol=1e-11, atol=1e-12, err_msg=f)

  def test_negative_c_is_the_sphere(self):
    with jax.enable_x64(True):
      f = facts("round stereographic", "float64")
      x, y, v = (jnp.asarray(f[k]) for k in "xyv")

      @quick_jit
      def compute(x, y, v, log, moved, end):
        to_sphere = functools.partial(stereographic.to_sphere, c=-C)
        push = lambda x, v: jax.jvp(to_sphere, (x,), (v,))
        (a, v_a), b = push(x, v), to_sphere(y)
        return {
          "dist": (sphere.dist(a, b, c=C), f["d(x,y)"]),
          "norm": (sphere.norm(a, v_a, c=C), f["|v|"]),
          "exp": (sphere.exp(a, v_a, c=C), to_sphere(end)),
          "log": (sphere.log(a, b, c=C), push(x, log)[1]),
          "transport": (sphere.transport(a, b, v_a, c=C), push(y, moved)[1]),
          "on the sphere": (C * jnp.sum(a * a, -1), jnp.ones(N)),
          "back": (stereographic.from_sphere(a, c=-C), x),
        }

      end, moved = stereographic.exp(x, v, c=-C), stereographic.transport(x, y, v, c=-C)
      found = compute(x, y, v, jnp.asarray(f["log"]), moved, end)
    for k, (one, other) in found.items():
      np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11, err_msg=k)

  @parameterized.parameters(*DTYPES)
  def test_the_sphere_around_the_antipode_of_the_pole(self, dtype):
    eps = np.finfo(dtype).eps
    angle = np.array([1e-3, 1e-2, 0.1, 1]).astype(dtype)  # off the antipode
    with jax.enable_x64(True):
      p = jnp.stack([-jnp.cos(angle), 0 * angle, jnp.sin(angle)], -1)
      x = stereographic.from_sphere(p, c=-1.0)
      np.testing.assert_allclose(x[:, 1], 1 / np.tan(angle / 2), rtol=4 * eps)
      np.testing.assert_allclose(stereographic.to_sphere(x, c=-1.0), p, rtol=8 * eps, atol=4 * eps)
      end = stereographic.from_sphere(jnp.asarray([-1, 0, 0], dtype), c=-1.0)
    self.assertEqual(x.dtype, dtype)
    np.testing.assert_allclose(end, [eps**-0.5, 0], rtol=1e-6)

  def test_antipodes(self):
    with jax.enable_x64(True):
      x = jnp.asarray(np.random.default_rng(0).standard_normal((20, DIM)))
      y = -x / (C * jnp.sum(x * x, -1, keepdims=True))
      f = jax.vmap(jax.value_and_grad(functools.partial(stereographic.dist, c=-C)))
      (d, slope), log = quick_jit(lambda x, y: (f(x, y), stereographic.log(x, y, c=-C)))(x, y)
    np.testing.assert_allclose(d, np.pi / np.sqrt(C), rtol=1e-15)
    self.assertTrue(np.all(np.isfinite(slope)) and np.all(np.isfinite(log)))


class ChartsTest(parameterized.TestCase):
  def test_ball_and_lorentz_are_one_space(self):
    with jax.enable_x64(True):
      f = facts("lorentz", "float64")
      x, y, u, v = (f[k] for k in "xyuv")
      to_ball = functools.partial(lorentz.to_poincare, c=C)

      @quick_jit
      def compute():
        push = lambda x, v: jax.jvp(to_ball, (x,), (v,))
        (a, u_a), (_, v_a) = push(x, u), push(x, v)
        b = to_ball(y)
        return {
          "round trip": (lorentz.from_poincare(a, c=C), x),
          "dist": (lorentz.dist(x, y, c=C), poincare.dist(a, b, c=C)),
          "inner": (lorentz.inner(x, u, v, c=C), poincare.inner(a, u_a, v_a, c=C)),
          "norm": (lorentz.norm(x, u, c=C), poincare.norm(a, u_a, c=C)),
          "exp": (to_ball(lorentz.exp(x, u, c=C)), poincare.exp(a, u_a, c=C)),
          "log": (push(x, lorentz.log(x, y, c=C))[1], poincare.log(a, b, c=C)),
          "transport": (
            push(y, lorentz.transport(x, y, u, c=C))[1], poincare.transport(a, b, u_a, c=C)
          ),
          "ambient": (lorentz.from_ambient(lorentz.to_ambient(x, c=C), c=C), x),
        }  # fmt: skip

      for f, (one, other) in compute().items():
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12, err_msg=f)

  def test_all_hyperbolic_charts_have_one_distance(self):
    with jax.enable_x64(True):
      f = facts("lorentz", "float64")
      d = f["d(x,y)"]
      for name, into, back in HYPERBOLIC:
        x, y = (into(jnp.asarray(f[k]), c=C) for k in "xy")
        np.testing.assert_allclose(manifolds.make(name, C).dist(x, y), d, rtol=1e-11, err_msg=name)
        np.testing.assert_allclose(back(x, c=C), f["x"], rtol=1e-10, atol=1e-11, err_msg=name)

  def test_ambient_points_are_on_the_sheet(self):
    x = jax.random.normal(jax.random.key(0), (20, DIM))
    p = np.asarray(lorentz.to_ambient(x, c=C), np.float64)
    np.testing.assert_allclose(p[:, 0] ** 2 - (p[:, 1:] ** 2).sum(-1), 1 / C, rtol=1e-5)

  @parameterized.parameters(*manifolds.NAMES)
  def test_isometries_keep_distances(self, name):
    with jax.enable_x64(True):
      f = facts(name, "float64")
      x, y = f["x"], f["y"]
      rng = np.random.default_rng(0)
      rotation = np.linalg.qr(rng.standard_normal((x.shape[-1],) * 2))[0]
      moves = [lambda x: x @ rotation]
      if name == "euclidean":
        moves.append(lambda x: x + 3)
      if name == "horospherical":  # a shift along the horosphere, and a stretch from its centre
        along = np.array([0.0, 3, -1, 2, *[0] * 6])
        stretch = np.array([1.0, *[np.e] * 9])
        moves = [lambda x: x + along, lambda x: x * stretch + np.eye(10)[0]]
      if name == "halfspace":  # a shift, a stretch, an inversion, a turn about the vertical
        turn = np.eye(DIM)
        turn[:-1, :-1] = np.linalg.qr(rng.standard_normal((DIM - 1, DIM - 1)))[0]
        moves = [
          lambda x: x + np.array([3.0, -1, 2, 0]), lambda x: np.e * x, lambda x: x @ turn,
          lambda x: x / np.sum(x * x, axis=-1, keepdims=True),
        ]  # fmt: skip
      if name in ("klein", "lorentz", "poincare", "stereographic"):
        boost = np.eye(DIM + 1)
        boost[:2, :2] = [[np.cosh(1.3), np.sinh(1.3)], [np.sinh(1.3), np.cosh(1.3)]]
        into, out = (lambda x: x, lambda x: x)
        charts = {
          "klein": (klein.to_lorentz, klein.from_lorentz),
          "poincare": (lorentz.from_poincare, lorentz.to_poincare),
          "stereographic": (lorentz.from_poincare, lorentz.to_poincare),
        }
        if name in charts:
          into, out = (functools.partial(f, c=C) for f in charts[name])
        moves.append(
          lambda x: out(lorentz.from_ambient(lorentz.to_ambient(into(x), c=C) @ boost, c=C))
        )
      dist = jax.jit(manifolds.make(name, C).dist)
      for move in moves:
        np.testing.assert_allclose(dist(move(x), move(y)), dist(x, y), rtol=1e-11)


class BundleTest(parameterized.TestCase):
  def test_a_manifold_is_a_pytree_whose_leaf_is_c(self):
    m = manifolds.make("lorentz", 2.0)
    self.assertEqual(jax.tree.leaves(m), [2.0])
    self.assertEqual(m.name, "lorentz")
    x, y = m.random(jax.random.key(0), (2, 5), 3, scale=1.0)
    slope = jax.jit(jax.grad(lambda m: m.dist(x, y).sum()))(
      manifolds.make("lorentz", jnp.float32(2))
    )
    self.assertEqual(slope.name, "lorentz")
    self.assertTrue(np.isfinite(slope.c))

  def test_one_trace_serves_every_c(self):
    traces = []

    @jax.jit
    def f(m, x):
      traces.append(m)
      return m.dist(x, -x)

    x = jnp.full((3,), 0.1)
    f(manifolds.make("poincare", jnp.float32(1)), x)
    f(manifolds.make("poincare", jnp.float32(2)), x)
    self.assertLen(traces, 1)

  def test_jit_is_eager(self):
    m = manifolds.make("lorentz", C)
    x, y = m.random(jax.random.key(0), (2, 3), 3, scale=0.2)
    np.testing.assert_allclose(jax.jit(m.dist)(x, y), m.dist(x, y), rtol=1e-6)

  def test_unknown_names_are_answered_with_the_nearest(self):
    with self.assertRaisesRegex(ValueError, "got 'lorenz'; did you mean lorentz"):
      manifolds.make("lorenz")

  @parameterized.parameters("euclidean", "lorentz", "poincare")
  def test_random_is_uniform_in_the_chart(self, name):
    x = manifolds.make(name).random(jax.random.key(0), (500,), 4, scale=0.02)
    self.assertEqual(x.shape, (500, 4))
    self.assertLessEqual(float(jnp.max(jnp.abs(x))), 0.02)
    np.testing.assert_allclose(np.quantile(x, [0.25, 0.75]), [-0.01, 0.01], atol=1e-3)

  def test_heights_in_the_half_space_stay_positive(self):
    m = manifolds.make("halfspace")
    x = jnp.array([[0.0, 1e6], [0, 1], [0, 2**-20], [0, 1]], jnp.float32)
    y = jnp.array([[0.0, 1e-6], [0, 1e-9], [0, 2**-30], [0, 0.7]], jnp.float32)
    reached = x + m.displacement(x, y)
    self.assertTrue(np.all(reached[:, 1] > 0))
    np.testing.assert_array_equal(reached[2:], y[2:])
    np.testing.assert_allclose(m.dist(x, reached)[:2], 15, rtol=0.05)
    retracted = m.retract(x, m.log(x, y))
    self.assertTrue(np.all(retracted[:, 1] > 0))

  def test_random_on_the_sphere_is_uniform(self):
    m = manifolds.make("sphere", 4.0)
    x = np.asarray(m.random(jax.random.key(0), (20000,), 2))
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 0.5, rtol=1e-6)
    np.testing.assert_allclose(
      np.quantile(x, [0.25, 0.75], axis=0).T, [[-0.25, 0.25]] * 3, atol=0.01
    )
