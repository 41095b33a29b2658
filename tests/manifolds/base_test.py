"""What every manifold says of itself: its volume, its injectivity radius, and what is no point."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.manifolds import gyro, klein, lorentz, product
from tests.compiling import quick_jit

DIM, C = 3, 0.7
CHARTS = {
  **{name: manifolds.make(name, C) for name in manifolds.NAMES if name != "sphere"},
  "round stereographic": manifolds.make("stereographic", -C),
  "gaussian": manifolds.make("gaussian", C),
  "product": product.manifold("h2 x e1 x p2", (C, 1.0, 1.3), weights=(2, 3, 0.5)),
}


def test_the_volume_element_is_that_of_the_metric():
  """log √det of the inner products of the chart's coordinate vectors."""

  @quick_jit
  def compute():
    out = {}
    for name, m in CHARTS.items():
      dim = 5 if name == "product" else DIM
      x = m.random(jax.random.key(0), (6,), dim, scale=0.4, dtype=jnp.float64)
      n = dim if name == "horospherical" else x.shape[-1]  # of its digits, the leading ones
      e = jnp.eye(n, x.shape[-1])
      g = m.inner(x[:, None, None], e[:, None], e)
      out[name] = m.log_volume(x), 0.5 * jnp.linalg.slogdet(g)[1]
    return out

  with jax.enable_x64(True):
    for name, (one, other) in compute().items():
      np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12, err_msg=name)


def test_frames_are_orthonormal():
  charts = {**CHARTS, "sphere": manifolds.make("sphere", C)}

  @quick_jit
  def compute():
    out = {}
    for name, m in charts.items():
      dim = {"product": 5, "gaussian": 2 * DIM}.get(name, DIM)
      x = m.random(jax.random.key(0), (), 5 if name == "product" else DIM, scale=0.4)
      assert m.dimension(x) == dim
      frame = m.from_frame(x, jnp.eye(dim, dtype=x.dtype))
      out[name] = m.inner(x, frame[:, None], frame), m.to_frame(x, frame)
    return out

  for name, both in compute().items():
    for found in both:
      np.testing.assert_allclose(found, np.eye(len(found)), atol=1e-6, err_msg=name)


def test_curvatures():
  for name in manifolds.NAMES:
    sign = {"euclidean": 0, "sphere": -1}.get(name, 1)
    np.testing.assert_allclose(manifolds.make(name, C).bend(), sign * C, rtol=1e-6)
  assert CHARTS["round stereographic"].bend() < 0


def test_what_has_no_frame_or_curvature_says_so():
  with pytest.raises(ValueError, match="constant curvature, got 'h2 x e1'"):
    manifolds.make("h2 x e1").bend()
  with pytest.raises(ValueError, match="points are vectors, got spd"):
    manifolds.make("spd").dimension(jnp.eye(2))


def test_gradients_broadcast_with_points():
  @quick_jit
  def compute():
    out = {}
    for name in manifolds.NAMES:
      m = manifolds.make(name, C)
      x = m.random(jax.random.key(0), (5,), DIM, scale=0.5)
      g = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
      for case, pair in (("one gradient", (x, g[0])), ("one point", (x[0], g))):
        each = m.egrad2rgrad(*jnp.broadcast_arrays(*pair))
        out[name, case] = m.egrad2rgrad(*pair), each
    return out

  for case, (found, each) in compute().items():
    assert found.shape == each.shape, case
    np.testing.assert_allclose(found, each, rtol=1e-5, err_msg=case)


def test_injectivity_radii():
  for name in ("lorentz", "poincare", "euclidean", "halfspace", "gaussian"):
    assert manifolds.make(name, C).injectivity_radius == math.inf
  half = np.pi / math.sqrt(C)
  np.testing.assert_allclose(manifolds.make("sphere", C).injectivity_radius, half, rtol=1e-6)
  for c, radius in ((C, math.inf), (0.0, math.inf), (-C, half)):
    np.testing.assert_allclose(manifolds.make("stereographic", c).injectivity_radius, radius)
  mixed = product.manifold("s2 x h3 x s2", (C, 1.0, 0.1), weights=(4, 1, 1))
  np.testing.assert_allclose(mixed.injectivity_radius, 2 * half, rtol=1e-6)
  assert 2 * half < np.pi / math.sqrt(0.1)
  np.testing.assert_allclose(manifolds.make("stiefel").injectivity_radius, 0.89 * np.pi, rtol=1e-6)


@pytest.mark.parametrize("name, dim", [("so", 3), ("grassmann", (3, 1))])
def test_geodesics_are_shortest_up_to_the_injectivity_radius(name, dim):
  """By one turn of one plane, whose other way round is the shorter from there on."""
  m = manifolds.make(name)

  @quick_jit
  def compute(share):
    x = m.origin((), dim)
    v = m.tangent(x, jnp.zeros_like(x).at[1, 0].set(1))
    y = m.exp(x, v * (share * m.injectivity_radius / m.norm(x, v)))
    return m.dist(x, y) / m.injectivity_radius

  np.testing.assert_allclose(compute(0.99), 0.99, rtol=1e-5)
  np.testing.assert_allclose(compute(1.01), 0.99, rtol=1e-5)


@pytest.mark.parametrize(
  "name, wrong, why",
  [
    ("poincare", [0.6, 0.8, 0.8], "c‖x‖² < 1"),
    ("klein", [1.2, 0, 0], "c‖x‖² < 1"),
    ("halfspace", [1.0, 2, 0], "a height above 0"),
    ("sphere", [1.0, 0, 0, 0], "c‖x‖² = 1"),
    ("h2 x s2", [5.0, 5, 1, 0, 0], "c‖x‖² = 1"),
    ("lorentz", [1, np.nan, 2], "is not finite"),
  ],
)
def test_points_that_are_none_are_named(name, wrong, why):
  m = manifolds.make(name, C)
  good = m.random(jax.random.key(0), (2, 2), 4 if "x" in name else DIM, scale=0.3)
  assert m.fault(good) == ""
  bad = good.at[1, 0].set(jnp.asarray(wrong, good.dtype))
  assert m.fault(bad).startswith("point (1, 0) ")
  assert m.fault(bad).endswith(why)
  assert m.fault(bad[1, 0]).startswith("the point ")


def test_tangents_that_are_none_are_named():
  m = manifolds.make("sphere", C)
  x = m.random(jax.random.key(0), (3,), DIM)
  v = jax.random.normal(jax.random.key(1), x.shape)
  on = m.tangent(x, v)
  assert m.fault(x, on) == ""
  np.testing.assert_allclose(np.sum(x * on, axis=-1), 0, atol=1e-6)
  np.testing.assert_allclose(on, m.egrad2rgrad(x, v), atol=1e-6)
  assert m.fault(x, on.at[2].add(x[2])) == "tangent (2,) does not lie in the tangent space"
  assert m.fault(x, on.at[1, 0].set(jnp.inf)) == "tangent (1,) is not finite"
  assert manifolds.make("lorentz").fault(x, v) == ""


@pytest.mark.parametrize("name", ["lorentz", "poincare"])
def test_busemann_functions_are_distances_from_infinity(name):
  with jax.enable_x64(True):
    m = manifolds.make(name, C)

    @quick_jit
    def compute(key):
      key_x, key_p = jax.random.split(key)
      x = m.random(key_x, (50,), DIM, scale=1.0 if name == "lorentz" else 0.6, dtype=jnp.float64)
      p = jax.random.normal(key_p, x.shape, x.dtype)
      p = p / jnp.linalg.norm(p, axis=-1, keepdims=True)
      x = jnp.concatenate([x, m.exp0(2 * p / (1 if name == "lorentz" else 2))])
      p = jnp.concatenate([p, p])
      o = m.origin_like(x)
      far = m.exp(o, 14 * p / m.norm(o, p)[:, None])
      found, pull = jax.vjp(m.busemann, x, p)
      slope = m.norm(x, m.egrad2rgrad(x, pull(jnp.ones_like(found))[0]))
      return found, m.dist(x, far) - m.dist(o, far), slope

    found, expected, slope = map(np.asarray, compute(jax.random.key(0)))
  np.testing.assert_allclose(found, expected, atol=1e-8)
  np.testing.assert_allclose(slope, 1, rtol=1e-9)
  assert np.min(found) < -2 / np.sqrt(C) * 0.5 < 1 < np.max(found)


@pytest.mark.parametrize(
  "name, dim",
  [("spd", 3), ("log_euclidean", 3), ("so", 3), ("stiefel", (4, 2)), ("grassmann", (4, 2))],
)
def test_tangents_of_matrices(name, dim):
  m = manifolds.make(name)

  @quick_jit
  def compute(key):
    x = m.random(key, (3,), dim, scale=0.5)
    v = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    on = m.tangent(x, v)
    return x, v, on, m.tangent(x, on), m.log(x, m.exp(x, 0.1 * on))

  x, v, on, again, back = compute(jax.random.key(0))
  np.testing.assert_allclose(again, on, atol=1e-6)
  np.testing.assert_allclose(back, 0.1 * on, atol=1e-5)
  assert m.fault(x, v) == "tangent (0,) does not lie in the tangent space"
  assert m.fault(x, on) == ""


def test_points_at_the_end_of_a_chart_are_flagged():
  hyperbolic = ("halfspace", "horospherical", "klein", "lorentz", "poincare", "stereographic")
  charts = {name: manifolds.make(name, C) for name in hyperbolic}
  charts |= {"gaussian": CHARTS["gaussian"], "product": CHARTS["product"]}

  @quick_jit
  def compute():
    out = {}
    for name, m in charts.items():
      o = m.origin((4,), 5 if name == "product" else DIM)
      v = m.tangent(o, jnp.cos(jnp.arange(o.size, dtype=o.dtype)).reshape(o.shape) + 2)
      v = v / m.norm(o, v)[:, None]
      ends = [m.exp(o, length * v) for length in (0.0, 3.0, 200.0, 1e6, 1e30)]
      out[name] = jnp.stack(ends), jnp.stack([m.saturated(x) for x in ends])
    return out

  for name, (ends, flags) in compute().items():
    assert np.all(np.isfinite(ends)), name
    np.testing.assert_array_equal(flags.any(axis=1), [False, False, True, True, True], name)
  assert not np.any(manifolds.make("sphere").saturated(jnp.ones((3, 4))))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_arrays_are_computed_in_float32(dtype):
  m = manifolds.make("h2 x s2 x e2 x p2")

  def everything(x, y, v):
    return {
      "dist": m.dist(x, y), "exp": m.exp(x, v), "log": m.log(x, y), "norm": m.norm(x, v),
      "transport": m.transport(x, y, v), "descend": m.descend(x, v, 0.1), "proj": m.proj(x),
      "pairwise": m.pairwise(x, y), "geodesic": m.geodesic(x, y, 0.3), "inner": m.inner(x, v, v),
      "displacement": m.displacement(x, y), "saturated": m.saturated(x),
    }  # fmt: skip

  @quick_jit
  def both(key):
    x, y, v = (m.random(k, (5,), 8, scale=0.5, dtype=dtype) for k in jax.random.split(key, 3))
    wide = everything(*(a.astype(jnp.float32) for a in (x, y, v)))
    slope = jax.grad(lambda x: m.dist(x, y).astype(jnp.float32).sum())(x)
    return everything(x, y, v), wide, slope

  narrow, wide, slope = both(jax.random.key(0))
  for name, value in narrow.items():
    expected = wide[name] if name == "saturated" else wide[name].astype(dtype)
    assert value.dtype == expected.dtype, name
    np.testing.assert_array_equal(value, expected, err_msg=name)
  assert slope.dtype == dtype
  assert np.all(np.isfinite(slope.astype(jnp.float32)))
  assert m.origin((), 8, dtype).dtype == dtype
  with pytest.raises(TypeError, match="bfloat16 and float16 do not mix"):
    m.dist(jnp.zeros(9, jnp.bfloat16), jnp.zeros(9, jnp.float16))


def test_answers_pass_the_check():
  """Also where rounding alone can leave the manifold: at a ball's end, and near the antipode."""
  c, n = 0.46, 400
  charts = {name: manifolds.make(name, c) for name in ("klein", "poincare", "sphere")}
  charts["round"] = manifolds.make("stereographic", -c)

  @quick_jit
  def compute():
    key_v, key_r = jax.random.split(jax.random.key(0))
    out = {}
    for name, m in charts.items():
      x = m.origin((n,), 10)
      v = m.tangent(x, jax.random.normal(key_v, x.shape))
      most = 4.6 if m.sign == 1 else 60  # of 4.63, or farther than the ball
      r = most * jax.random.uniform(key_r, (n,))
      x = m.exp(x, v * (r / m.norm(x, v))[..., None])
      y = x[::-1].at[:20].set(-x[:20] if name == "sphere" else x[:20])
      y = m.exp(y, 1e-3 * m.tangent(y, v))
      log = m.log(x, y)
      points = {
        "exp": x, "exp log": m.exp(x, log), "proj": m.proj(3 * x), "descend": m.descend(x, log, 1.0)
      }  # fmt: skip
      if name in ("poincare", "round"):
        points |= {"sum": gyro.add(x, y, c=m.c), "cosum": gyro.coadd(x, y, c=m.c)}
      out[name] = points, {"log": (x, log), "transport": (y, m.transport(x, y, log))}
    sheet = 1e9 * jax.random.normal(key_v, (n, 10))
    for name, convert in (("poincare", lorentz.to_poincare), ("klein", klein.from_lorentz)):
      out[name][0]["of the sheet"] = convert(sheet, c=c)
    return out

  for name, (points, tangents) in compute().items():
    for f, x in points.items():
      assert charts[name].fault(x) == "", (name, f)
    for f, (x, v) in tangents.items():
      assert charts[name].fault(x, v) == "", (name, f)
