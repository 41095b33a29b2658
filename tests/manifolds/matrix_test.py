"""Matrix functions and manifolds of matrices against scipy and 40-digit arithmetic."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

from geoemb import manifolds
from geoemb.manifolds import grassmann, matrix, so, spd, stiefel
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

DTYPES = ("float32", "float64")
SIZES = {"stiefel": (4, 2), "grassmann": (4, 2)}


def ask(f, *args):
  """The answer of f, compiled, in the precision of its arguments."""
  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, quick_jit(f)(*args))


def near(a, b, ulps, dtype="float64"):
  b = np.asarray(b)
  tol = ulps * np.finfo(dtype).eps
  np.testing.assert_allclose(a, b, rtol=tol, atol=tol * max(1.0, np.abs(b).max()))


def rng():
  return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponentials(dtype):
  """Against 40 digits: here scipy's are off by up to 2,500 eps."""
  a = rng().standard_normal((6, 4, 4)) * np.array([0, 1e-6, 0.1, 1, 3, 10])[:, None, None]
  sym, skew = a + a.swapaxes(1, 2), a - a.swapaxes(1, 2)
  sym, skew = (0.25 * sym).astype(dtype), skew.astype(dtype)  # angles up to 40
  found = ask(lambda s, a: (matrix.exp_sym(s), matrix.expm(a)), sym, skew)
  mp.mp.dps = 40
  for ours, given in zip(found, (sym, skew)):
    for one, s in zip(ours, given.astype("float64")):
      exact = mp.expm(mp.matrix(s.tolist()), method="taylor")
      near(one, np.array(exact.tolist(), float), 100, dtype)


def test_derivatives_at_equal_and_close_eigenvalues():
  """Of exp, of log and of exp's own derivative, against series in 40 digits."""
  mp.mp.dps = 40
  r = rng()
  q = np.linalg.qr(r.standard_normal((3, 3)))[0]
  cases = [(0, 0, 0), (1, 1, 2), (1, 1 + 1e-9, -1), (0.5, 0.5 + 1e-4, 0.5 - 2e-4), (-3, 2, 1)]
  s = np.stack([q @ np.diag(w) @ q.T for w in cases])
  s = 0.5 * (s + s.swapaxes(1, 2))
  e, h = (0.5 * (z + z.T) for z in r.standard_normal((2, 3, 3)))
  e, h = np.broadcast_to(e, s.shape), np.broadcast_to(h, s.shape)

  def all_of(s, e, h):
    first, second = jax.jvp(matrix.slope_exp, (s, e), (h, jnp.zeros_like(e)))
    logarithm, back = jax.jvp(matrix.log_spd, (matrix.exp_sym(s),), (first,))
    double = jax.jvp(matrix.slope_log, (s, first), (h, second))
    return first, second, logarithm, back, *double

  first, second, logarithm, back, same, still = ask(all_of, s, e, h)
  n = 3
  for i in range(len(s)):  # exp of [[s, e, h, 0], [0, s, 0, h], [0, 0, s, e], [0, 0, 0, s]]
    o = np.zeros((n, n))
    big = np.block([[s[i], e[i], h[i], o], [o, s[i], o, h[i]], [o, o, s[i], e[i]], [o, o, o, s[i]]])
    big = mp.expm(mp.matrix(big.tolist()), method="taylor")
    block = lambda j: np.array([[float(big[a, j * n + b]) for b in range(n)] for a in range(n)])
    near(first[i], block(1), 30)
    np.testing.assert_allclose(second[i], block(3), rtol=1e-11, atol=1e-11)
  near(logarithm, s, 200)
  near(back, e, 200)
  near(same, e, 200)  # slope_log undoes slope_exp, wherever both are taken
  np.testing.assert_allclose(still, 0, atol=1e-10)


def test_polar_factors_and_their_derivatives():
  r = rng()
  x, dx = r.standard_normal((2, 2, 5, 3))
  x[1] = np.linalg.qr(x[1])[0]  # equal singular values
  square, turn = r.standard_normal((2, 3, 3))
  found, slope = ask(lambda x, dx: jax.jvp(matrix.polar, (x,), (dx,)), x, dx)
  exact = lambda x: np.stack([scipy.linalg.polar(a)[0] for a in x])
  h = 1e-5
  near(found, exact(x), 30)
  np.testing.assert_allclose(slope, (exact(x + h * dx) - exact(x - h * dx)) / (2 * h), atol=1e-8)
  square[0] *= -np.sign(np.linalg.det(square))
  f = lambda x: matrix.polar(x, True)
  rotation, slope = ask(lambda x, dx: jax.jvp(f, (x,), (dx,)), square, turn)
  u, _, vt = np.linalg.svd(square)
  near(rotation, u @ np.diag([1, 1, -1]) @ vt, 30)
  np.testing.assert_allclose(np.linalg.det(rotation), 1, rtol=1e-14)
  ahead, behind = (ask(f, square + s * h * turn) for s in (1, -1))
  np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_positive_definite_matrices(dtype):
  """By x^½ logm(x^-½ y x^-½) x^½, and close points by 40 digits."""
  a, b, v = rng().standard_normal((3, 4, 4))
  x, y = ((z @ z.T + np.eye(4)).astype(dtype) for z in (a, b))
  v = (v + v.T).astype(dtype)
  apart = x + np.finfo(dtype).eps ** 0.75 * y
  log, exp, d, moved, flat = ask(
    lambda x, y, v: (
      spd.log(x, y), spd.exp(x, v), spd.dist(x, jnp.stack([y, apart])), spd.transport(x, y, v),
      manifolds.make("log_euclidean").dist(x, y),
    ), x, y, v,
  )  # fmt: skip
  p, q, w, z = (m.astype("float64") for m in (x, y, v, apart))
  root = scipy.linalg.sqrtm(p)
  back = np.linalg.inv(root)
  scale = 1e3  # of condition
  near(log, root @ scipy.linalg.logm(back @ q @ back) @ root, scale, dtype)
  near(exp, root @ scipy.linalg.expm(back @ w @ back) @ root, scale, dtype)
  along = scipy.linalg.sqrtm(q @ np.linalg.inv(p)).real
  near(moved, along @ w @ along.T, scale, dtype)
  near(flat, np.linalg.norm(scipy.linalg.logm(q) - scipy.linalg.logm(p)), scale, dtype)
  near(d[0], np.linalg.norm(np.log(scipy.linalg.eigvalsh(q, p))), scale, dtype)
  mp.mp.dps = 40
  quotient = mp.matrix(p.tolist()) ** -1 * mp.matrix((z - p).tolist())
  close = mp.sqrt(sum(mp.log1p(w.real) ** 2 for w in mp.eig(quotient, left=False, right=False)))
  np.testing.assert_allclose(d[1], float(close), rtol=100 * np.finfo(dtype).eps)


def test_badly_conditioned_pairs_keep_their_digits():
  """A range of 1e12 of quotients in float32, which their own eigenvalues could not tell."""
  w = np.array([1e-6, 1, 1e6], np.float32)
  x, y = np.eye(3, dtype=np.float32), np.diag(w)
  d, back = ask(lambda x, y: (spd.dist(x, y), spd.dist(y, x)), x, y)
  np.testing.assert_allclose([d, back], np.linalg.norm(np.log(w.astype("float64"))), rtol=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_rotations(n):
  a = rng().standard_normal((3, n, n))
  a = (a - a.swapaxes(1, 2)) / 2
  a *= (
    np.array([1e-9, 0.3, 0.9])[:, None, None]
    * np.pi
    / np.linalg.norm(a, 2, axis=(1, 2))[:, None, None]
  )
  r = scipy.linalg.expm(a)
  x = np.linalg.qr(rng().standard_normal((n, n)))[0]
  x[0] *= np.linalg.det(x)
  end, log, d = ask(lambda x, v, y: (so.exp(x, v), so.log(x, y), so.dist(x, y)), x, x @ a, x @ r)
  near(end, x @ r, 10)
  near(log, x @ a, 100)
  near(d[1:], np.linalg.norm(a[1:], axis=(1, 2)) / np.sqrt(2), 30)


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_turns(dtype):
  """Where there are several logarithms log is one of them."""
  e = float(np.finfo(dtype).eps)
  axis = np.array([0.6, -0.48, 0.64])
  hat = np.cross(np.eye(3), axis)
  angles = np.array([np.pi, np.pi - e, np.pi - 1e-3, 1e-3, e])
  r = scipy.linalg.expm(angles[:, None, None] * hat).astype(dtype)
  r[0] = 2 * np.outer(axis, axis) - np.eye(3)
  o = np.eye(3, dtype=dtype)
  d, reached = ask(lambda o, r: (so.dist(o, r), so.exp(o, so.log(o, r))), o, r)
  np.testing.assert_allclose(d, angles, rtol=4 * e, atol=4 * e)
  np.testing.assert_allclose(reached, r, atol=20 * e)
  turn = lambda t: np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
  r = np.stack([scipy.linalg.block_diag(turn(t), turn(0.5)) for t in angles]).astype(dtype)
  d = ask(so.dist, np.eye(4, dtype=dtype), r)
  np.testing.assert_allclose(d, np.hypot(angles, 0.5), rtol=10 * e)
  q = np.linalg.qr(rng().standard_normal((6, 6)))[0]
  r = np.stack([scipy.linalg.block_diag(*map(turn, a)) for a in ([np.pi, np.pi, 1], [np.pi] * 3)])
  r = (q @ r @ q.T).astype(dtype)
  d, reached = ask(lambda o, r: (so.dist(o, r), so.exp(o, so.log(o, r))), np.eye(6, dtype=dtype), r)
  np.testing.assert_allclose(d, np.sqrt([2 * np.pi**2 + 1, 3 * np.pi**2]), rtol=20 * e)
  np.testing.assert_allclose(reached, r, atol=60 * e)


@pytest.mark.parametrize("dtype", DTYPES)
def test_principal_angles(dtype):
  """Near 0 and near π/2 at once, against the angles they were made from and scipy's."""
  e = float(np.finfo(dtype).eps)
  q = np.linalg.qr(rng().standard_normal((7, 7)))[0]
  mix, other = (np.linalg.qr(z)[0] for z in rng().standard_normal((2, 3, 3)))
  angles = np.array([[1e-3, 0.5, np.pi / 2 - 1e-3], [0.01, 0.01, 1.0], [0, 0, np.pi / 2]])
  x = q[:, :3] @ mix
  y = np.stack([(q[:, :3] * np.cos(t) + q[:, 3:6] * np.sin(t)) @ other for t in angles])
  x, y = x.astype(dtype), y.astype(dtype)
  found, d, turned, reached = ask(
    lambda x, y: (
      grassmann.angles(x, y), grassmann.dist(x, y), grassmann.dist(x, x @ mix.astype(dtype)),
      grassmann.dist(y, grassmann.exp(x, grassmann.log(x, y))),
    ), x, y,
  )  # fmt: skip
  np.testing.assert_allclose(np.sort(found), angles, atol=8 * e)
  scipys = scipy.linalg.subspace_angles(x.astype("float64"), y[0].astype("float64"))
  np.testing.assert_allclose(np.sort(found)[0], np.sort(scipys), atol=8 * e)
  np.testing.assert_allclose(d, np.linalg.norm(angles, axis=1), rtol=8 * e)
  np.testing.assert_allclose(reached, 0, atol=20 * e)
  assert turned == 0


def test_geodesics_of_frames_are_those_of_the_paper():
  """[edelman1998geometry] eq. 2.42 with QR factors, and eq. 2.65 and 2.68 by SVD, in numpy."""
  r = rng()
  x = np.linalg.qr(r.standard_normal((6, 2)))[0]
  y = np.linalg.qr(r.standard_normal((6, 2)))[0]
  g, h = r.standard_normal((2, 6, 2))
  a = x.T @ g - g.T @ x
  flat, other = (z - x @ (x.T @ z) for z in (g, h))
  v = x @ a + flat
  q, upper = np.linalg.qr(flat)
  block = scipy.linalg.expm(np.block([[a, -upper.T], [upper, np.zeros((2, 2))]]))
  u, s, wt = np.linalg.svd(flat, full_matrices=False)
  end = x @ wt.T @ np.diag(np.cos(s)) @ wt + u @ np.diag(np.sin(s)) @ wt
  arrow = -x @ wt.T @ np.diag(np.sin(s)) @ u.T + u @ np.diag(np.cos(s) - 1) @ u.T
  short = 0.4 / np.linalg.norm(flat)  # log finds it again
  found = ask(
    lambda x, y: (
      stiefel.exp(x, v), grassmann.exp(x, flat), matrix.rotate(x, jnp.zeros((2, 2)), flat, other),
      stiefel.exp(x, stiefel.log(x, y)), stiefel.norm(x, v),
      grassmann.log(x, grassmann.exp(x, short * flat)),
    ), x, y,
  )  # fmt: skip
  near(found[0], np.concatenate([x, q], 1) @ block[:, :2], 40)
  near(found[1], end, 40)
  near(found[2], other + arrow @ other, 40)
  near(found[3], y, 40)
  near(found[4], np.sqrt(np.sum(flat**2) + 0.5 * np.sum(a**2)), 10)
  near(found[5], short * flat, 40)


@pytest.mark.parametrize("shape", [(6, 3), (4, 4)])
def test_frames_are_carried_in_parallel(shape):
  """v' = −Γ(γ', v), with Γ that of the geodesic equation [edelman1998geometry] eq. 2.41."""
  r = rng()
  x, far = (np.linalg.qr(r.standard_normal(shape))[0] for _ in range(2))
  far[:, 0] *= np.linalg.det(far) * np.linalg.det(x) if shape == (4, 4) else 1
  w = r.standard_normal(shape)
  u, v = ask(lambda x, y, w: (stiefel.log(x, y), stiefel.tangent(x, w)), x, far, w)
  point = quick_jit(lambda x, u, t: jax.jvp(lambda t: stiefel.exp(x, t * u), (t,), (1.0,)))

  def slope(t, w):
    with jax.enable_x64(True):
      y, dy = map(np.asarray, point(x, u, t))
    w = w.reshape(shape)
    a, b = y.T @ dy, y.T @ w
    gamma = (dy @ w.T + w @ dy.T) @ y + y @ (a @ b + b @ a + dy.T @ w + w.T @ dy)
    return -0.5 * gamma.ravel()

  end = scipy.integrate.solve_ivp(slope, (0, 1), v.ravel(), rtol=1e-9, atol=1e-10).y[:, -1]
  moved = ask(stiefel.transport, x, far, v)
  np.testing.assert_allclose(moved, end.reshape(shape), atol=1e-8)
  assert np.abs(moved - v).max() > 0.1


@pytest.mark.parametrize("name", manifolds.MATRIX_NAMES)
def test_there_may_be_no_points(name):
  m = manifolds.make(name)

  def everything(key):
    x = m.random(key, (2, 0), SIZES.get(name, 3))
    o = m.origin_like(x)
    v = m.log(o, x)
    d, slope = jax.value_and_grad(lambda x: m.dist(o, x).sum())(x)
    return m.exp(o, v), m.transport(o, x, v), m.retract(o, v), m.pairwise(x, x), slope, d

  *points, rows, slope, d = jax.eval_shape(everything, jax.random.key(0))
  assert {p.shape for p in (*points, slope)} == {slope.shape}
  assert (rows.shape, d.shape, slope.shape[:2]) == ((2, 0, 0), (), (2, 0))
