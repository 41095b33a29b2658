"""Riemannian trust regions with truncated conjugate gradients [absil2007trust] §3."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import Manifold
from geoemb.optim.second_order import problem
from geoemb.optim.second_order.problem import Result
from geoemb.typing import Array, Scalar


class _Inner(NamedTuple):
  eta: Array  # [..., d] the step so far
  h_eta: Array  # [..., d] the Hessian of it
  r: Array  # [..., d] residual g + H η
  delta: Array  # [..., d] direction
  rr: Array  # [] ‖r‖²
  count: Array  # [] int32
  out: Array  # [] bool, whether η is at the border
  done: Array  # [] bool


class _State(NamedTuple):
  x: Array  # [..., d]
  value: Array  # [] f(x)
  grad: Array  # [..., d]
  radius: Array  # [] Δ
  count: Array  # [] int32


def hessian(
  f: Callable[[Array], Array], m: Manifold, x: Array
) -> tuple[Array, Callable[[Array], Array]]:
  """The Riemannian gradient of f at x, [..., d], and the map v ↦ ∇_v grad f, [..., d], at x.

  The covariant derivative is d/dt at 0 of grad f at exp(x, t v), transported back to x, by forward
  differentiation: exact, and one linearisation serves every v.
  """

  def pulled(v: Array) -> Array:
    y = m.exp(x, v)
    return m.transport(y, x, problem.gradient(f, m, y)[1])

  return jax.linearize(pulled, jnp.zeros_like(x))


def _truncated(
  m: Manifold, x: Array, g: Array, h: Callable, radius: Array, most: int, kappa: float, theta: float
) -> tuple[Array, Array, Array]:
  """The step η, H η, and whether η ends at the radius: Steihaug's conjugate gradients.

  They solve H η = −g until the residual is min(κ, ‖g‖^θ) of the gradient, or, on to the border,
  until the curvature is negative or the ball is left.
  """
  dot = lambda u, v: problem.inner(m, x, u, v)
  gg = dot(g, g)
  length = jnp.sqrt(gg)
  goal = length * jnp.minimum(kappa, length**theta)

  def step(s: _Inner) -> _Inner:
    h_delta = h(s.delta)
    curve = dot(s.delta, h_delta)
    alpha = s.rr / jnp.where(curve > 0, curve, 1)
    eta = s.eta + alpha * s.delta
    out = ~((curve > 0) & (dot(eta, eta) < radius * radius))
    # τ ≥ 0 with ‖η + τ δ‖ = Δ, without cancellation
    ed, dd = dot(s.eta, s.delta), dot(s.delta, s.delta)
    rest = radius * radius - dot(s.eta, s.eta)
    rest = jnp.where(rest > 0, rest, 0)
    root = jnp.sqrt(ed * ed + dd * rest)
    tau = jnp.where(ed > 0, rest / jnp.where(ed > 0, ed + root, 1), (root - ed) / dd)
    share = jnp.where(out, tau, alpha)
    r = s.r + share * h_delta
    rr = dot(r, r)
    delta = -r + rr / s.rr * s.delta
    done = out | (jnp.sqrt(rr) <= goal)
    return _Inner(
      s.eta + share * s.delta, s.h_eta + share * h_delta, r, delta, rr, s.count + 1, out, done
    )

  go = lambda s: ~s.done & (s.count < most) & (s.rr > 0)
  zero = jnp.zeros_like(g)
  no = jnp.asarray(False)
  s = jax.lax.while_loop(go, step, _Inner(zero, zero, g, -g, gg, jnp.int32(0), no, no))
  return s.eta, s.h_eta, s.out


def minimize(
  f: Callable[[Array], Array],
  m: Manifold,
  x0: Array,
  *,
  max_iter: int = 100,
  tol: float = 1e-6,
  radius: Scalar = 0.5,
  max_radius: Scalar = 10.0,
  kappa: float = 0.1,
  theta: float = 1.0,
) -> Result:
  """A local minimum of f near x0, by trust regions with exact Hessian-vector products.

  Convergence is superlinear of order 1 + θ, as far as rounding lets it [absil2007trust] §4.

  Args:
    f: from points [..., d] to a scalar, [], twice differentiable.
    m: the manifold of each point.
    x0: [..., d] points to start from, one point of a product.
    max_iter: steps, at most, those included that are refused.
    tol: length of the gradient to stop at.
    radius: Δ at first, a distance in the product.
    max_radius: the largest Δ.
    kappa: κ, share of the gradient that the inner loop may leave.
    theta: θ, how that falls with the gradient.
  """
  most = 2 * x0.size  # exact arithmetic needs no more than the dimension

  def advance(s: _State) -> _State:
    g, h = hessian(f, m, s.x)
    eta, h_eta, out = _truncated(m, s.x, g, h, s.radius, most, kappa, theta)
    y = m.exp(s.x, eta)
    value, g_y = problem.gradient(f, m, y)
    told = -problem.inner(m, s.x, g, eta) - 0.5 * problem.inner(m, s.x, eta, h_eta)
    # Both decreases drown in the rounding of f near the end: equal noise takes the quotient to 1.
    # 1000 eps for a sum of many terms, as in Manopt.
    noise = 1e3 * numerics.eps(s.x.dtype) * jnp.maximum(1, jnp.abs(s.value))
    ratio = (s.value - value + noise) / (told + noise)
    fine = jnp.isfinite(value) & jnp.all(jnp.isfinite(g_y)) & (ratio > 0.1) & (told >= 0)
    shrunk, grown = 0.25 * s.radius, jnp.minimum(2 * s.radius, max_radius)
    size = jnp.where(out & (ratio > 0.75), grown, s.radius)
    size = jnp.where((ratio >= 0.25) & fine, size, shrunk)
    keep = lambda a, b: jnp.where(fine, a, b)
    return _State(keep(y, s.x), keep(value, s.value), keep(g_y, s.grad), size, s.count + 1)

  # Where the region is smaller than points are apart, nothing is left to find.
  least = math.sqrt(float(jnp.finfo(x0.dtype).tiny))

  def go(s: _State) -> Array:
    gg = problem.inner(m, s.x, s.grad, s.grad)
    return (s.count < max_iter) & (jnp.sqrt(gg) > tol) & (s.radius > least)

  value, g = problem.gradient(f, m, x0)
  start = _State(x0, value, g, jnp.asarray(radius, x0.dtype), jnp.int32(0))
  s = jax.lax.while_loop(go, advance, start)
  length = jnp.sqrt(problem.inner(m, s.x, s.grad, s.grad))
  return Result(s.x, s.value, length, s.count, length <= tol)
