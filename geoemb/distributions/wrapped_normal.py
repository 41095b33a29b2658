"""Wrapped normal: a normal in the tangent space at μ, pushed to the manifold by exp.

On all geometries of `manifolds.NAMES`. `scale` is of the normal in the orthonormal frame at μ
(`Manifold.from_frame`): a scalar or [..., d], standard deviations along the frame, or with `tril`
[..., d, d], the lower-triangular Cholesky factor of the covariance. Its unit is that of distances.
Leading axes of scales and of μ [..., point] broadcast.

Where exp is a bijection the density is N(w; 0, Σ) (r/s(r))^(d−1), [nagano2019wrapped], with w the
coordinates of log_μ(x), r = ‖w‖ and s(r) = sinh(√c r)/√c. On a sphere of radius R = 1/√c every
point is reached by the tangents w + 2πkR ŵ for all whole k, and the density is the sum over them:
that of the samples, which are not truncated. From d = 2 on it is infinite at −μ and, by the
tangents of length 2πR, at μ, both integrably; on the circle it is finite.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.distributions import radial
from geoemb.manifolds import Manifold
from geoemb.typing import Array, Key, Scalar


def sample(
  key: Key,
  m: Manifold,
  mu: Array,
  scale: Scalar,
  shape: tuple[int, ...] = (),
  *,
  tril: bool = False,
) -> Array:
  """Points, [*shape, ..., point], with reparametrised derivatives by μ, the scale and c."""
  dim = m.dimension(mu)
  scale = _scale(scale, dim, mu.dtype, tril)
  batch = jnp.broadcast_shapes(mu.shape[:-1], scale.shape[: -2 if tril else -1])
  normal = jax.random.normal(key, (*shape, *batch, dim), mu.dtype)
  mu = jnp.broadcast_to(mu, (*batch, mu.shape[-1]))
  return m.exp(mu, m.from_frame(mu, _stretch(scale, normal, tril)))


def log_prob(
  m: Manifold,
  x: Array,
  mu: Array,
  scale: Scalar,
  *,
  tril: bool = False,
  windings: int = 8,
) -> Array:
  """Log-density by Riemannian volume, [...], in nats.

  Args:
    m: the manifold.
    x: [..., point].
    mu: [..., point].
    scale: as above.
    tril: whether the scale is a Cholesky factor.
    windings: the largest |k| that is summed on spheres; what is lost is the mass of tangents longer
      than (2k + 1)πR. Sums of 2k + 1 scalars a point.
  """
  dim = m.dimension(mu)
  scale = _scale(scale, dim, mu.dtype, tril)
  k = m.bend(mu.dtype)
  w = numerics.bound(radial.log(m, mu, x), numerics.root_max(mu.dtype))
  if m.sign not in (-1, 0):  # on spheres log is 0 at the antipode, which any direction reaches
    half = math.pi / jnp.sqrt(jnp.where(k < 0, -k, 1))
    first = jnp.zeros_like(w).at[..., 0].set(half)
    lost = (k < 0) & (m.dist(mu, x) > 0.5 * half) & jnp.all(w == 0, axis=-1)
    w = jnp.where(lost[..., None], first, w)
  z = _shrink(scale, w, tril)
  det = jnp.log(jnp.abs(jnp.diagonal(scale, axis1=-2, axis2=-1) if tril else scale))
  det = jnp.sum(det, axis=-1) * (1 if tril or scale.shape[-1] == dim else dim)
  value = -0.5 * numerics.dot(z, z) - det - 0.5 * dim * math.log(2 * math.pi)
  value = value - radial.log_volume(numerics.dot(w, w), k, dim)
  if m.sign in (-1, 0):
    return value
  return value + _wound(w, scale, k, dim, tril, windings)


def _wound(w: Array, scale: Array, k: Array, dim: int, tril: bool, windings: int) -> Array:
  """Logarithm of the density over that of the shortest tangent alone, [...]; 0 unless k < 0."""
  round_ = k < 0
  turn = 2 * math.pi / jnp.sqrt(jnp.where(round_, -k, 1))
  r = numerics.safe_norm(w)
  if dim == 1:  # two directions, of the same windings
    some = jnp.broadcast_to(round_, r.shape)
    unit = jnp.where(w < 0, -1, jnp.ones_like(w))
  else:
    some = round_ & (r > numerics.eps(w.dtype) * turn)  # at μ itself all directions would count
    r = jnp.where(some, r, turn)
    unit = jnp.where(some[..., None], w, 0) / r[..., None]
  u = _shrink(scale, unit, tril)
  q = numerics.dot(u, u)
  n = np.arange(-windings, windings + 1)
  n = jnp.asarray(n[n != 0], w.dtype)
  r, q, turn = r[..., None], q[..., None], n * turn
  # by the squares (r + n turn)² − r² of the lengths
  more = -0.5 * q * turn * (2 * r + turn)
  if dim > 1:
    more = more + (dim - 1) * jnp.log(jnp.abs(1 + turn / r))
  total = jax.nn.logsumexp(jnp.where(some[..., None], more, 0), axis=-1)
  return jnp.where(some, jnp.logaddexp(total, 0), 0)


def _scale(scale: Scalar, dim: int, dtype: jnp.dtype, tril: bool) -> Array:
  """The scale as an array [..., 1 or d], or [..., d, d]."""
  scale = jnp.asarray(scale, dtype)
  if tril:
    if scale.shape[-2:] != (dim, dim):
      raise ValueError(f"a Cholesky factor must be [..., {dim}, {dim}], got {scale.shape}")
    return scale
  scale = scale[None] if scale.ndim == 0 else scale
  if scale.shape[-1] not in (1, dim):
    raise ValueError(f"scale must be a scalar or [..., {dim}] as the manifold, got {scale.shape}")
  return scale


def _stretch(scale: Array, z: Array, tril: bool) -> Array:
  """The vectors L z, [..., d]."""
  if not tril:
    return scale * z
  return numerics.einsum("...ij,...j->...i", jnp.tril(scale), z)


def _shrink(scale: Array, w: Array, tril: bool) -> Array:
  """The vectors L⁻¹ w, [..., d]."""
  if not tril:
    return w / scale
  batch = jnp.broadcast_shapes(scale.shape[:-2], w.shape[:-1])
  scale, w = (jnp.broadcast_to(a, (*batch, *s)) for a, s in
              ((scale, scale.shape[-2:]), (w[..., None], (w.shape[-1], 1))))  # fmt: skip
  return jax.lax.linalg.triangular_solve(scale, w, left_side=True, lower=True)[..., 0]
