"""Riemannian L-BFGS: the last pairs of steps and changes of gradient, transported to the point.

Source: [huang2015broyden]; the two loops are [nocedal2006numerical] algorithm 7.4.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.manifolds import Manifold
from geoemb.optim.second_order import linesearch, problem
from geoemb.optim.second_order.problem import Result
from geoemb.typing import Array


class _State(NamedTuple):
  x: Array  # [..., d]
  value: Array  # [] f(x)
  grad: Array  # [..., d] g
  s: Array  # [k, ..., d] steps as tangents at x, the newest last
  y: Array  # [k, ..., d] what they changed the gradient by
  rho: Array  # [k] 1/⟨s, y⟩, 0 where there is no pair yet
  count: Array  # [] int32
  stuck: Array  # [] bool, no step was found along −g


def minimize(
  f: Callable[[Array], Array],
  m: Manifold,
  x0: Array,
  *,
  max_iter: int = 200,
  tol: float = 1e-6,
  memory: int = 10,
) -> Result:
  """A stationary point of f near x0, by L-BFGS with strong Wolfe steps.

  Pairs are carried along every step by parallel transport, an isometry, so their products stay.
  Forgets them where no step was found, and ends where none is found along −g.

  Args:
    f: from points [..., d] to a scalar, [].
    m: the manifold of each point.
    x0: [..., d] points to start from, one point of a product.
    max_iter: steps, at most.
    tol: length of the gradient to stop at.
    memory: k, pairs that are kept.
  """

  def direction(state: _State) -> Array:
    x = state.x

    def newest_first(q: Array, pair: tuple) -> tuple[Array, Array]:
      s, y, rho = pair
      a = rho * problem.inner(m, x, s, q)
      return q - a * y, a

    def oldest_first(q: Array, pair: tuple) -> tuple[Array, None]:
      s, y, rho, a = pair
      return q + (a - rho * problem.inner(m, x, y, q)) * s, None

    pairs = state.s, state.y, state.rho
    q, a = jax.lax.scan(newest_first, state.grad, pairs, reverse=True)
    yy = problem.inner(m, x, state.y[-1], state.y[-1])
    some = state.rho[-1] > 0
    gg = problem.inner(m, x, state.grad, state.grad)
    # Without a pair, −g or what of it moves by 1.
    scale = jnp.where(some, 1 / jnp.where(some, state.rho[-1] * yy, 1), problem.first_step(gg))
    return -jax.lax.scan(oldest_first, scale * q, (*pairs, a))[0]

  def advance(state: _State) -> _State:
    d = direction(state)
    slope = problem.inner(m, state.x, state.grad, d)
    t = linesearch.search(f, m, state.x, d, 1.0, (state.value, slope))
    v = t * d
    x = m.exp(state.x, v)
    value, g = problem.gradient(f, m, x)
    carry = lambda u: m.transport(state.x, x, u)
    v = carry(v)
    change = g - carry(state.grad)
    vy = problem.inner(m, x, v, change)
    vv, yy = problem.inner(m, x, v, v), problem.inner(m, x, change, change)
    # A pair whose product is rounding noise would spoil the rest.
    fine = vy > numerics.eps(x.dtype) * jnp.sqrt(vv) * jnp.sqrt(yy)
    push = lambda old, new: jnp.where(fine, jnp.concatenate([old[1:], new[None]]), old)
    rho = push(state.rho, 1 / jnp.where(fine, vy, 1))
    lost = t == 0
    return _State(
      x, value, g, push(carry(state.s), v), push(carry(state.y), change),
      jnp.where(lost, 0, rho), state.count + 1, lost & (state.rho[-1] == 0)
    )  # fmt: skip

  def go(state: _State) -> Array:
    gg = problem.inner(m, state.x, state.grad, state.grad)
    return (state.count < max_iter) & ~state.stuck & (jnp.sqrt(gg) > tol)

  value, g = problem.gradient(f, m, x0)
  none = jnp.zeros((memory, *x0.shape), x0.dtype)
  rho = jnp.zeros(memory, x0.dtype)
  start = _State(x0, value, g, none, none, rho, jnp.int32(0), jnp.asarray(False))
  state = jax.lax.while_loop(go, advance, start)
  length = jnp.sqrt(problem.inner(m, state.x, state.grad, state.grad))
  return Result(state.x, state.value, length, state.count, length <= tol)
