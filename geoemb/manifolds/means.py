"""Means of points: Fréchet's, differentiable through its equation, and the closed-form centroid."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import base, lorentz, product
from geoemb.manifolds.base import Manifold
from geoemb.typing import Array


class _Step(NamedTuple):
  x: Array  # [point] the mean so far
  value: Array  # [] Σ w d²
  going: Array  # [] bool
  count: Array  # [] int32


@base.in_float32
def frechet(m: Manifold, y: Array, w: Array | None = None, *, max_steps: int = 100) -> Array:
  """The weighted Fréchet mean argmin_x Σ_i w_i dist(x, y_i)², [..., point].

  Newton's method on Σ w_i log_x(y_i) = 0, or where that does not descend a step of Karcher's flow,
  until the sum of squares stands still. Derivatives by y, w and the curvature, forward and reverse,
  are those of the equation (implicit function theorem), whatever the steps were. A solve of
  [point]² is part of both. Unique in hyperbolic and flat space; on a sphere within a ball of radius
  π/(2√c), and otherwise the nearest to where the flow begins: at the best of the heaviest point, of
  the mean in its tangent space and, where points are vectors, of the origin. The mean of bfloat16
  and float16 points is found in float32, and rounded.
  Source: [karcher1977mean]; its derivatives by the equation are the idea of [lou2020frechet].

  Args:
    m: the manifold.
    y: [..., n, point] points.
    w: [..., n] weights ≥ 0, not all 0; they are divided by their sum. Equal ones by default.
    max_steps: of either kind.
  """
  axis = -1 - m.point_ndim
  if w is None:
    w = jnp.ones(y.shape[: y.ndim + axis + 1], y.dtype)
  return _frechets(m, y, w, max_steps=max_steps)


@functools.partial(jax.jit, static_argnames="max_steps")
def _frechets(m: Manifold, y: Array, w: Array, *, max_steps: int) -> Array:
  """`frechet` of a batch of sets."""
  mean = lambda y, w: _frechet(m, y, w / jnp.sum(w), max_steps)
  for _ in range(w.ndim - 1):
    mean = jax.vmap(mean)
  return mean(y, w)


def _bend(m: Manifold, dtype: jnp.dtype) -> Array:
  """The largest curvature of a factor, without its sign, []."""
  weights = [f.weight for f in m.ops.factors] if isinstance(m.ops, product.Product) else [1.0]
  bends = [jnp.abs(jnp.asarray(c, dtype)) / w for c, w in zip(jax.tree.leaves(m.c), weights)]
  return functools.reduce(jnp.maximum, bends)


def _frechet(m: Manifold, y: Array, w: Array, max_steps: int) -> Array:
  """`frechet` of one set, y [n, point] and w [n]."""
  fixed = jax.tree.map(jax.lax.stop_gradient, m)

  def squares(x: Array) -> Array:
    """The sums of squares at x [k, point], [k]."""
    return jnp.sum(w * m.sqdist(x[:, None], y), axis=-1)

  def pull(x: Array) -> Array:
    """Half the negative gradient at the nearest point; off the manifold, the way back as well.

    Where points are frames of planes, so is the way to another frame of the same plane: its value
    is 0, but without its derivative the equation would be singular.
    """
    on = m.proj(x)
    moved = fixed.proj(x)
    here = jax.lax.stop_gradient(moved)
    turn = (moved - here) - fixed.tangent(here, moved - here)
    return numerics.einsum("n,n...->...", w, m.log(on, y)) + (x - on) + turn

  def inverse(linear, b: Array) -> Array:
    size = b.size
    columns = jax.vmap(lambda e: linear(e.reshape(b.shape)).reshape(size))(
      jnp.eye(size, dtype=b.dtype)
    )
    return jnp.linalg.solve(columns.T, b.reshape(size)).reshape(b.shape)

  def solve(pull, start: Array) -> Array:
    def better(old: _Step) -> _Step:
      v, push = jax.linearize(pull, old.x)
      # The Hessian of d²/2 is at most D coth D across the geodesic, D the distance in curvature
      # radii; a step of its inverse cannot go too far.
      stiff = jnp.sqrt(_bend(m, v.dtype)) * m.dist(old.x, y)
      steps = jnp.stack([-inverse(push, v), v / (1 + jnp.sum(w * stiff))])  # Newton's, the flow's
      x = m.exp(old.x, steps)
      value = squares(x)
      first = value[0] < value[1]  # false for NaN, as Newton's is where the system is singular
      best = jnp.where(first, value[0], value[1])
      fine = best < old.value
      # The sum of squares is flat at its least: where it stands still, one more of Newton's steps
      # doubles the digits. A few dozen eps are the rounding of the sum, more is no descent.
      level = value[0] <= old.value * (1 + 64 * numerics.eps(v.dtype))
      last = jnp.where(level & jnp.all(jnp.isfinite(x[0])), x[0], old.x)
      on = jnp.where(first, x[0], x[1])
      return _Step(jnp.where(fine, on, last), best, fine, old.count + 1)

    go = lambda s: (s.count < max_steps) & s.going
    first = _Step(start, squares(start[None])[0], jnp.asarray(True), jnp.int32(0))
    return jax.lax.while_loop(go, better, first).x

  heavy = y[jnp.argmax(w)]
  starts = [m.exp(heavy, numerics.einsum("n,n...->...", w, m.log(heavy, y))), heavy]
  # In far points' tangent spaces digits are lost that the origin's has. Matrices have no such
  # blur, and some of them distances that are slow to find from afar.
  if m.point_ndim == 1:
    starts.append(m.origin_like(heavy))
  starts = jnp.stack(starts)
  value = squares(starts)
  start = starts[jnp.argmin(jnp.where(jnp.isnan(value), jnp.inf, value))]
  return jax.lax.custom_root(pull, jax.lax.stop_gradient(start), solve, inverse)


def lorentz_centroid(x: Array, w: Array | None = None, *, c: float | Array = 1.0) -> Array:
  """Σ w_i p_i of ambient points p_i, scaled to the sheet, [..., d] [law2019lorentzian].

  The minimiser of Σ w_i (cosh(√c d(x, p_i)) − 1), also known as the Einstein midpoint.
  The length T² − ‖s‖² of the sum is found from t_i − ŝ·x_i = (1/c + ‖x_⊥‖²)/(t_i + ŝ·x_i), of
  which none cancels.

  Args:
    x: [..., n, d] spatial coordinates.
    w: [..., n] weights ≥ 0, not all 0. Equal ones by default.
    c: curvature −c.
  """
  c = jnp.asarray(c, x.dtype)
  w = jnp.ones(x.shape[:-1], x.dtype) if w is None else w
  w = (w / jnp.sum(w, axis=-1, keepdims=True))[..., None]
  s = jnp.sum(w * x, axis=-2)
  t = lorentz.to_ambient(x, c=c)[..., 0]
  unit = numerics.unit(s)[..., None, :]
  along = jnp.sum(unit * x, axis=-1)
  across = x - along[..., None] * unit
  ahead = along > 0
  less = jnp.where(
    ahead,
    (1 / c + jnp.sum(across * across, axis=-1)) / jnp.where(ahead, t + along, 1),
    t - along,
  )
  w = w[..., 0]
  length = jnp.sqrt(jnp.sum(w * less, axis=-1)) * jnp.sqrt(jnp.sum(w * (t + along), axis=-1))
  return s / (jnp.sqrt(c) * length)[..., None]
