"""Linear algebra that the matrix manifolds share.

Matrices are [..., n, p]; leading axes broadcast. All products are taken in full precision, never in
TF32 or bfloat16. Functions of a symmetric matrix S are Q f(Λ) Qᵀ for S = Q Λ Qᵀ. Their derivatives
are not taken through the eigenvectors, which have none where eigenvalues meet, but by divided
differences of f, which tend to f′ there: Daleckii's and Krein's formula [higham2008functions] §3.2.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.numerics import matmul as mm
from geoemb.typing import Array, Scalar

# Tangents of compact manifolds are cut to this length: hundreds of times around.
LONGEST = 1024.0


def tr(x: Array) -> Array:
  """The transpose, [..., p, n]."""
  return jnp.swapaxes(x, -1, -2)


def sym(x: Array) -> Array:
  """The symmetric part, [..., n, n]."""
  return 0.5 * (x + tr(x))


def skew(x: Array) -> Array:
  """The skew part, [..., n, n]."""
  return 0.5 * (x - tr(x))


def eye(x: Array) -> Array:
  """The identity of the size of x's rows, [p, p]."""
  return jnp.eye(x.shape[-1], dtype=x.dtype)


def dot(u: Array, v: Array) -> Array:
  """The sum of the products of entries, [...]."""
  return jnp.sum(u * v, axis=(-2, -1))


def inner(x: Array, u: Array, v: Array) -> Array:
  """The same for tangents u, v at x, finite for any finite entries, [...]."""
  limit = numerics.root_max(u.dtype)
  uv = dot(numerics.bound(u, limit), numerics.bound(v, limit))
  return jnp.broadcast_to(uv, jnp.broadcast_shapes(x.shape[:-2], uv.shape))


def norm(x: Array) -> Array:
  """Frobenius norm, [...], with gradient 0 at 0."""
  return numerics.safe_norm(x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1]))


def shorten(v: Array, length: Array, limit: Scalar) -> Array:
  """The matrices v whose length [...] exceeds `limit`, scaled down to it."""
  over = (length > limit)[..., None, None]
  length = jnp.where(over, length[..., None, None], 1)
  return jnp.where(over, numerics.divide(v, length) * limit, v)


def capped(v: Array, length: Callable, limit: Scalar | None = None) -> Array:
  """Tangents v no longer than `LONGEST`, or `limit` where that is less; `length` is of v."""
  v = numerics.bound(v, numerics.root_max(v.dtype))
  most = LONGEST if limit is None else jnp.minimum(jnp.asarray(limit, v.dtype), LONGEST)
  return shorten(v, length(v), most)


def distances(length: Callable, pull: Callable) -> tuple[Callable, Callable]:
  """The functions dist and sqdist of points x and y.

  The derivative of d²/2 by x is the covector `pull(x, y)`, so that nothing is differentiated that
  has no derivative at x = y; dist has gradient 0 there.
  """

  @jax.custom_jvp
  def dist(x: Array, y: Array) -> Array:
    return length(x, y)

  @jax.custom_jvp
  def sqdist(x: Array, y: Array) -> Array:
    return jnp.square(length(x, y))

  def slope(primals: tuple, tangents: tuple) -> Array:
    (x, y), (dx, dy) = primals, tangents
    return dot(pull(x, y), dx) + dot(pull(y, x), dy)

  @dist.defjvp
  def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    d = dist(*primals)
    return d, slope(primals, tangents) / jnp.where(d > 0, d, 1)

  @sqdist.defjvp
  def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return sqdist(*primals), 2 * slope(primals, tangents)

  return dist, sqdist


def pairwise(dist: Callable, x: Array, y: Array, block: int = 32) -> Array:
  """Distances of x [..., n, p, q] to y [..., m, p, q], [..., n, m], `block` of the x at a time."""
  rows = jax.lax.map(
    lambda row: dist(row[..., None, :, :], y), jnp.moveaxis(x, -3, 0), batch_size=block
  )
  return jnp.moveaxis(rows, 0, -2)


# Exponentials and logarithms


def expm(a: Array) -> Array:
  """Matrix exponential, [..., n, n], of matrices with norms up to `LONGEST`, for normal ones.

  Taylor's series of a / 2ˢ, which is at most 1 long, squared s times. Smooth to every order.
  """
  halvings = round(math.log2(LONGEST)) + 2  # the norm below is up to √2 times that of tangents
  length = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(jnp.square(a), axis=(-2, -1), keepdims=True)))
  s = jnp.ceil(jnp.log2(jnp.where(length > 1, length, 1)))
  s = jnp.where(s > halvings, halvings, s)
  a = a * jnp.exp2(-s)
  degree = 11 if jnp.finfo(a.dtype).bits == 32 else 19  # 1/(degree + 1)! is below eps/50
  one = eye(a)
  square = mm(a, a)
  powers = [one, a, square, mm(square, a)]
  fourth = mm(square, square)
  total = jnp.zeros_like(a)
  for k in range(degree - 3, -1, -4):  # four coefficients at a time
    part = sum(p / math.factorial(k + j) for j, p in enumerate(powers))
    total = part + mm(total, fourth)
  squared = lambda i, e: jnp.where(i < s, mm(e, e), e)
  return jax.lax.fori_loop(0, halvings, squared, total)


def _basis(s: Array) -> tuple[Array, Array]:
  return jnp.linalg.eigh(s, symmetrize_input=False)


def _turn(q: Array, e: Array) -> Array:
  """Qᵀ e Q."""
  return mm(tr(q), e, q)


def _slopes(w: Array) -> Array:
  """First divided differences of exp, [..., n, n]: e^((a + b)/2) sinh((a − b)/2)/((a − b)/2)."""
  a, b = w[..., :, None], w[..., None, :]
  return jnp.exp(0.5 * (a + b)) * numerics.sinh_over(0.5 * (a - b))


def _bends(w: Array) -> Array:
  """Second divided differences of exp at w_i, w_k, w_j, [..., n, n, n].

  By first ones at the two farthest apart; where all are close by the series about their mean.
  """
  w = jnp.stack(
    jnp.broadcast_arrays(w[..., :, None, None], w[..., None, :, None], w[..., None, None, :])
  )
  w = jnp.sort(w, axis=0)
  a, b, c = w
  gap = c - a
  near = gap < numerics.eps(w.dtype) ** 0.2  # where the series' first missing term is eps^0.8
  first = lambda a, b: jnp.exp(0.5 * (a + b)) * numerics.sinh_over(0.5 * (a - b))
  apart = (first(c, b) - first(b, a)) / jnp.where(near, 1, gap)
  mean = (a + b + c) / 3
  d = jnp.where(near, w - mean, 0)
  series = 0.5 + jnp.sum(d**2, axis=0) / 48 + jnp.sum(d**3, axis=0) / 360
  return jnp.where(near, jnp.exp(mean) * series, apart)


@jax.custom_jvp
def exp_sym(s: Array) -> Array:
  """Exponential of symmetric matrices, [..., n, n]; twice differentiable in this form."""
  w, q = _basis(s)
  return mm(q * jnp.exp(w)[..., None, :], tr(q))


@exp_sym.defjvp
def _exp_sym_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  return exp_sym(*primals), slope_exp(*primals, *tangents)


@jax.custom_jvp
def slope_exp(s: Array, e: Array) -> Array:
  """Derivative of `exp_sym` at s along e, [..., n, n]."""
  w, q = _basis(s)
  return mm(q, _slopes(w) * _turn(q, e), tr(q))


@slope_exp.defjvp
def _slope_exp_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (s, e), (ds, de) = primals, tangents
  return slope_exp(s, e), slope_exp(s, de) + _bend_exp(s, e, ds)


def _bend_exp(s: Array, e: Array, h: Array) -> Array:
  """Second derivative of `exp_sym` at s along e and h, [..., n, n]."""
  w, q = _basis(s)
  e, h = _turn(q, e), _turn(q, h)
  half = functools.partial(
    jnp.einsum, "...ikj,...ik,...kj->...ij", _bends(w), precision=jax.lax.Precision.HIGHEST
  )
  return mm(q, half(e, h) + half(h, e), tr(q))


@jax.custom_jvp
def slope_log(s: Array, e: Array) -> Array:
  """Derivative of the logarithm at exp(s) along e, [..., n, n]: the inverse of `slope_exp`."""
  w, q = _basis(s)
  return mm(q, _turn(q, e) / _slopes(w), tr(q))


@slope_log.defjvp
def _slope_log_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  (s, e), (ds, de) = primals, tangents
  value = slope_log(s, e)
  return value, slope_log(s, de - _bend_exp(s, value, ds))


@jax.custom_jvp
def log_spd(x: Array) -> Array:
  """Logarithm of positive definite matrices, [..., n, n]; twice differentiable in this form.

  Eigenvalues below eps of the largest count as that. A matrix of which none exceeds
  16/√(largest number) counts as the identity.
  """
  w, q = _basis(x)
  w = jnp.where(w[..., -1:] < 1 / numerics.root_max(x.dtype), 1, w)
  least = numerics.eps(x.dtype) * w[..., -1:]
  w = jnp.where(w < least, least, w)  # NaN stays NaN
  return mm(q * jnp.log(w)[..., None, :], tr(q))


@log_spd.defjvp
def _log_spd_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  s = log_spd(*primals)
  return s, slope_log(s, sym(tangents[0]))


# Frames


def polish(x: Array) -> Array:
  """Frames XᵀX = I to a few eps made so to rounding, [..., n, p]: a step of Newton's iteration."""
  return x + 0.5 * mm(x, eye(x) - mm(tr(x), x))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def polar(x: Array, rotation: bool = False) -> Array:
  """The nearest X with XᵀX = I, [..., n, p], and det X = 1 if it is to be a rotation."""
  u, _, v = _polar(x, rotation)
  return mm(u, tr(v))


def _polar(x: Array, rotation: bool) -> tuple[Array, Array, Array]:
  """U, s, V with x = U diag(s) Vᵀ, the last of s negative if U Vᵀ were no rotation."""
  u, s, vt = jnp.linalg.svd(x, full_matrices=False)
  if rotation:
    sign = jnp.sign(jnp.linalg.det(mm(u, vt)))
    last = jnp.where(jnp.arange(s.shape[-1]) == s.shape[-1] - 1, sign[..., None], 1)
    u, s = u * last[..., None, :], s * last
  return u, s, tr(vt)


@polar.defjvp
def _polar_jvp(rotation: bool, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """With O = U Vᵀ, x = O P: dO = O Ω + (I − O Oᵀ) dx P⁻¹, where Ω P + P Ω = Oᵀdx − dxᵀO."""
  (x,), (dx,) = primals, tangents
  u, s, v = _polar(x, rotation)
  least = numerics.eps(x.dtype) * s[..., :1]  # below, directions are noise; 0 there
  sums = s[..., :, None] + s[..., None, :]
  safe = lambda s, least: jnp.where(s > least, 1 / jnp.where(s > least, s, 1), 0)
  along = mm(tr(u), dx, v)
  turn = (along - tr(along)) * safe(sums, least[..., None])
  across = dx - mm(u, tr(u), dx)
  return mm(u, tr(v)), mm(u, turn, tr(v)) + mm(mm(across, v) * safe(s, least)[..., None, :], tr(v))


def leading(x: Array, y: Array) -> tuple[Array, Array]:
  """Both with the same leading axes."""
  shape = jnp.broadcast_shapes(x.shape[:-2], y.shape[:-2])
  return jnp.broadcast_to(x, (*shape, *x.shape[-2:])), jnp.broadcast_to(y, (*shape, *y.shape[-2:]))


def _generator(x: Array, a: Array, v: Array) -> tuple[Array, Array, Array]:
  """P₁, P₂ᵀ and N = P₂ᵀP₁ with Ω = X A Xᵀ − X Vᵀ + V Xᵀ = P₁P₂ᵀ, for skew A and XᵀV = 0.

  V is scaled to length 1 on the left, to balance N.
  """
  s = jax.lax.stop_gradient(norm(v))[..., None, None]
  s = jnp.where(s > 0, s, 1)
  one = jnp.broadcast_to(eye(x), a.shape)
  left = jnp.concatenate(jnp.broadcast_arrays(x, v / s), axis=-1)
  right = jnp.concatenate([mm(a, tr(x)) - tr(v), s * tr(x)], axis=-2)
  top = jnp.concatenate([a, -mm(tr(v), v) / s], axis=-1)
  n = jnp.concatenate([top, jnp.concatenate([s * one, jnp.zeros_like(a)], axis=-1)], axis=-2)
  return left, right, n


def rotate_frame(x: Array, a: Array, v: Array) -> Array:
  """exp(Ω) X for the rotation's generator Ω = X A Xᵀ − X Vᵀ + V Xᵀ, [..., n, p].

  The geodesic's end of [edelman1998geometry] eq. 2.42. Their 2p × 2p block has the QR factors of V;
  this one, similar to it, has VᵀV, and so derivatives for V of any rank.
  """
  left, _, n = _generator(x, a, v)
  return polish(mm(left, expm(n)[..., : x.shape[-1]]))


def rotate(x: Array, a: Array, v: Array, u: Array) -> Array:
  """exp(Ω) u, [..., n, k], for Ω as in `rotate_frame`.

  exp(P₁P₂ᵀ) = I + P₁ φ(N) P₂ᵀ with φ(z) = (eᶻ − 1)/z, by the exponential of a bordered matrix.
  """
  left, right, n = _generator(x, a, v)
  n, b = leading(n, mm(right, u))
  scale = jax.lax.stop_gradient(norm(b))[..., None, None]
  scale = jnp.where(scale > 0, scale, 1)
  k, width = n.shape[-1], b.shape[-1]
  below = [(0, 0)] * (n.ndim - 2) + [(0, width), (0, 0)]
  whole = jnp.pad(jnp.concatenate([n, b / scale], axis=-1), below)
  return u + mm(left, expm(whole)[..., :k, k:] * scale)


def qr_step(x: Array, v: Array) -> Array:
  """The frame Q of x + v = Q R, R with a positive diagonal, [..., n, p], for tangents v at x.

  By Cholesky's factor of RᵀR = I + VᵀV, which needs v of moderate size: at most 100 long.
  """
  v = capped(v, norm, 100.0)
  gram = eye(x) + mm(tr(v), v)
  r = tr(jnp.linalg.cholesky(gram, symmetrize_input=False))
  inverse = jax.lax.linalg.triangular_solve(r, jnp.broadcast_to(eye(x), r.shape), left_side=True)
  return polish(mm(x + v, inverse))


# Rotations


def log_rotation(d: Array) -> tuple[Array, Array]:
  """The skew logarithm of a rotation R = I + d, [..., n, n], and its length √(tr AᵀA/2), [...].

  From the difference d, of which small angles keep their digits. Without derivative. A half turn
  has many logarithms, of which this is one. For n > 3, planes turned by π to rounding are pairs of
  the first eigenvectors of the symmetric part, and one left without a partner by rounding stays.
  """
  k, s = skew(d), sym(d)
  n = d.shape[-1]
  if n == 1:
    return k, k[..., 0, 0]
  if n == 2:
    angle = jnp.arctan2(k[..., 1, 0], 1 + 0.5 * (s[..., 0, 0] + s[..., 1, 1]))
    return angle[..., None, None] * jnp.array([[0, -1], [1, 0]], d.dtype), jnp.abs(angle)
  if n == 3:
    return _log_rotation_3(k, s)
  w, q = _basis(s)
  sine = numerics.safe_norm(tr(mm(k, q)))
  angle = numerics.atan2(sine, 1 + w)
  some = sine > 16 * numerics.eps(d.dtype)  # else its direction is rounding noise
  ratio = jnp.where(some, angle / jnp.where(some, sine, 1), jnp.where(w > -1, 1, 0))
  a = skew(mm(k, q * ratio[..., None, :], tr(q)))
  one, other = q[..., : n - n % 2 : 2], q[..., 1::2]
  half = ~some & (w < -1)
  half = jnp.where(half[..., : n - n % 2 : 2] & half[..., 1::2], 2 * math.pi, 0)
  turns = skew(mm(other * half[..., None, :].astype(d.dtype), tr(one)))
  return a + turns, math.sqrt(0.5) * numerics.safe_norm(angle)


def _log_rotation_3(k: Array, s: Array) -> tuple[Array, Array]:
  """For n = 3, by the quaternion (w, v): the row of 4(w, v)(w, v)ᵀ with the largest diagonal."""
  axis = jnp.stack([k[..., 2, 1], k[..., 0, 2], k[..., 1, 0]], axis=-1)
  trace = jnp.trace(s, axis1=-2, axis2=-1)[..., None]
  first = jnp.concatenate([4 + trace, 2 * axis], axis=-1)[..., None, :]
  rest = 2 * s - trace[..., None] * eye(s)
  rest = jnp.concatenate([2 * axis[..., None], rest], axis=-1)
  rows = jnp.concatenate([first, rest], axis=-2)
  best = jnp.argmax(jnp.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
  row = jnp.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :]
  row = numerics.unit(row) * jnp.where(row[..., :1] < 0, -1, 1)
  w, v = row[..., 0], row[..., 1:]
  length = numerics.safe_norm(v)
  angle = 2 * numerics.atan2(length, w)
  x, y, z = jnp.moveaxis(
    v * (numerics.divide(angle, jnp.where(length > 0, length, 1)))[..., None], -1, 0
  )
  o = jnp.zeros_like(x)
  a = jnp.stack([o, -z, y, z, o, -x, -y, x, o], axis=-1)
  return a.reshape(*a.shape[:-1], 3, 3), angle
