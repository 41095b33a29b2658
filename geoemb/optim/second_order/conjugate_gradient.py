"""Nonlinear conjugate gradients with transported directions [absil2008optimization] §8.3."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from geoemb.manifolds import Manifold
from geoemb.optim.second_order import linesearch, problem
from geoemb.optim.second_order.problem import Result
from geoemb.typing import Array


class _State(NamedTuple):
  x: Array  # [..., d]
  value: Array  # [] f(x)
  grad: Array  # [..., d] g
  direction: Array  # [..., d]
  step: Array  # [] to be tried first
  steepest: Array  # [] bool, whether the direction is −g
  count: Array  # [] int32
  stuck: Array  # [] bool, no step was found along −g


def minimize(
  f: Callable[[Array], Array],
  m: Manifold,
  x0: Array,
  *,
  max_iter: int = 200,
  tol: float = 1e-6,
  beta: Literal["hager-zhang", "polak-ribiere"] = "hager-zhang",
) -> Result:
  """A stationary point of f near x0, by conjugate gradients with strong Wolfe steps.

  Restarts with −g where the direction does not descend or no step along it was found, and ends
  where none is found along −g. c₂ is 0.1 as in [nocedal2006numerical] §3.1.

  Args:
    f: from points [..., d] to a scalar, [].
    m: the manifold of each point.
    x0: [..., d] points to start from, one point of a product.
    max_iter: steps, at most.
    tol: length of the gradient to stop at.
    beta: of [hager2005descent] §1, or of Polak and Ribière, at least 0
      ([nocedal2006numerical] eq. 5.45).

  Raises:
    ValueError: no such beta.
  """
  if beta not in ("hager-zhang", "polak-ribiere"):
    raise ValueError(f'beta must be "hager-zhang" or "polak-ribiere", got {beta!r}')

  def advance(s: _State) -> _State:
    slope = problem.inner(m, s.x, s.grad, s.direction)
    t = linesearch.search(f, m, s.x, s.direction, s.step, (s.value, slope), c2=0.1)
    x = m.exp(s.x, t * s.direction)
    value, g = problem.gradient(f, m, x)
    before, p = m.transport(s.x, x, s.grad), m.transport(s.x, x, s.direction)
    y = g - before
    if beta == "hager-zhang":
      py = problem.inner(m, x, p, y)
      over = 1 / jnp.where(py > 0, py, 1)
      yy = problem.inner(m, x, y, y)
      share = over * (problem.inner(m, x, y, g) - 2 * yy * over * problem.inner(m, x, p, g))
      share = jnp.where(py > 0, share, 0)
    else:
      gg = problem.inner(m, x, before, before)
      share = jnp.maximum(problem.inner(m, x, g, y), 0) / jnp.where(gg > 0, gg, 1)
    d = -g + share * p
    gg, new_slope = problem.inner(m, x, g, g), problem.inner(m, x, g, d)
    # Given up where f falls by less than a thousandth of what it does along −g.
    fine = (t > 0) & (new_slope < -1e-3 * gg)
    d, new_slope = jnp.where(fine, d, -g), jnp.where(fine, new_slope, -gg)
    # The same first-order change as the last step made [nocedal2006numerical] §3.5.
    step = t * slope / jnp.where(new_slope < 0, new_slope, -1)
    step = jnp.where((t > 0) & (step > 0), step, problem.first_step(gg))
    return _State(x, value, g, d, step, ~fine, s.count + 1, (t == 0) & s.steepest)

  def go(s: _State) -> Array:
    gg = problem.inner(m, s.x, s.grad, s.grad)
    return (s.count < max_iter) & ~s.stuck & (jnp.sqrt(gg) > tol)

  value, g = problem.gradient(f, m, x0)
  first = problem.first_step(problem.inner(m, x0, g, g))
  start = _State(x0, value, g, -g, first, jnp.asarray(True), jnp.int32(0), jnp.asarray(False))
  s = jax.lax.while_loop(go, advance, start)
  length = jnp.sqrt(problem.inner(m, s.x, s.grad, s.grad))
  return Result(s.x, s.value, length, s.count, length <= tol)
