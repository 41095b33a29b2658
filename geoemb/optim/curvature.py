"""Learned curvature: what becomes of points and tangents when c changes.

The rule: distances from the origin and directions there stay. A point x of curvature c goes to
exp₀(log₀(x)), the logarithm by the old c and the exponential by the new one, and a tangent is
carried along by the differential of that map, so that a radial one keeps its length; one across
the radius r has it changed by the factor s_c'(r)/s_c(r), s_c(r) = sinh(√c r)/√c, or the sine. On a
sphere that shrinks, points farther than its antipode come back on the other side.
"""

import types
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from geoemb.manifolds import Manifold
from geoemb.optim import links
from geoemb.typing import Array, PyTree


def rebase(m_old: Manifold, m_new: Manifold, x: Array, *tangents: Array) -> tuple[Array, ...]:
  """The point of m_new that x of m_old goes to, [..., d], and the tangents there, [..., d] each.

  Args:
    m_old: the manifold x lies on.
    m_new: the same geometry at another curvature.
    x: [..., d] points.
    *tangents: [..., d] each, at x.

  Raises:
    ValueError: m_old and m_new are of different geometries.
  """
  if m_old.ops is not m_new.ops:
    raise ValueError(f"rebase changes the curvature only, got {m_old.name} and {m_new.name}")

  def move(x: Array) -> Array:
    o_old, o_new = m_old.origin_like(x), m_new.origin_like(x)
    v = m_old.log(o_old, x)
    # Both metrics at the origin are multiples of each other, so one tangent tells the quotient.
    one = m_old.egrad2rgrad(o_old, jnp.ones_like(x))
    scale = m_old.norm(o_old, one) / m_new.norm(o_new, one)
    return m_new.exp(o_new, scale[..., None] * v)

  if not tangents:
    return (move(x),)
  y, push = jax.linearize(move, x)
  return (y, *(push(v) for v in tangents))


class LearnedState(NamedTuple):
  """State of `learned`."""

  points: PyTree  # of the points' optimizer; its tangents are at the current points and curvature
  log_c: PyTree  # of the curvature's


def learned(
  geometry: types.ModuleType,
  make: Callable[[Manifold], optax.GradientTransformation],
  curvature: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """A transformation of pairs (points, log c), both learned, by the rule of this module.

  In each step the points move on the manifold of the present c, then c moves, and takes the points
  and the points and tangents in their optimizer's state along; means that are kept beside it, as by
  `averaging`, are left to `rebase`. So what `curvature` is given is the derivative of the loss by
  log c along that way, ∂f/∂log c + ⟨∂f/∂x, ∂x/∂log c⟩, not that at fixed coordinates. All points
  move, so this is for dense tables and not for `rows.update`.

  Args:
    geometry: a module such as geoemb.manifolds.lorentz.
    make: from the manifold at some c, traced, to a transformation of points on it.
    curvature: the transformation of log c, [], such as optax.sgd.
  """
  bind = lambda log_c: geometry.manifold(jnp.exp(log_c))

  def init(params: tuple[PyTree, Array]) -> LearnedState:
    x, log_c = params
    return LearnedState(make(bind(log_c)).init(x), curvature.init(log_c))

  def update(
    g: tuple[PyTree, Array], state: LearnedState, params: tuple[PyTree, Array] | None = None
  ) -> tuple[tuple[PyTree, Array], LearnedState]:
    if params is None:
      raise ValueError("a Riemannian step needs params: update(grads, state, params)")
    (x, log_c), (g_x, g_c) = params, g
    m = bind(log_c)

    def along(log_c: Array) -> PyTree:
      return jax.tree.map(lambda x: rebase(m, bind(log_c), x)[0], x)

    flow = jax.jvp(along, (log_c,), (jnp.ones_like(log_c),))[1]
    g_c = g_c + sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(g_x), jax.tree.leaves(flow)))
    step, points = make(m).update(g_x, state.points, x)
    y = optax.apply_updates(x, step)
    step_c, state_c = curvature.update(g_c, state.log_c, log_c)
    m_new = bind(optax.apply_updates(log_c, step_c))

    carry = lambda x, v: rebase(m, m_new, x, v)[1]
    points = links.map_tangents(lambda v: jax.tree.map(carry, y, v), points)
    there = lambda tree: jax.tree.map(lambda y: rebase(m, m_new, y)[0], tree)
    points = links.map_points(there, points)
    z = there(y)
    return (jax.tree.map(m_new.displacement, x, z), step_c), LearnedState(points, state_c)

  return optax.GradientTransformation(init, update)
