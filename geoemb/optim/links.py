"""Links of Riemannian optax chains: between the two ends everything is a tangent vector.

    tx = links.riemannian(m, optax.trace(0.9), optax.scale_by_learning_rate(lr))

turns Euclidean gradients into tangents at `params`, passes them down the links, and moves along the
geodesic of what comes out. The update it returns is a difference of points, so that
`optax.apply_updates` lands on the manifold. Source: [bonnabel2013rsgd] §2.

Outside the ends gradients are Euclidean, so optax.MultiSteps(tx, k) accumulates them: their mean
is exact, as points stay till the k-th. Its accumulator is float32 unless told otherwise; and it is
for dense steps, since with `rows.update` a row of an earlier batch would miss the k-th.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from geoemb import numerics
from geoemb.manifolds import Manifold, euclidean
from geoemb.typing import Array, PyTree, Scalar


class ScaleByRAdamState(NamedTuple):
  """State of `radam.scale_by_radam`."""

  count: Array  # [] int32, t
  mu: PyTree  # m_t, tangents at the current points
  nu: PyTree  # v_t: [..., d] on flat space, one number a point elsewhere
  nu_max: PyTree  # v̂_t of AMSGrad, or () without


class LookaheadState(NamedTuple):
  """State of `lookahead.lookahead`."""

  count: Array  # [] int32, steps of the fast points
  slow: PyTree  # φ, the slow points; after every k-th step they are the points
  fast: PyTree  # state of the fast points' optimizer


# Which fields of a link's state are tangents at the current points, to be carried along.
TANGENTS = {
  optax.TraceState: ("trace",),
  optax.EmaState: ("ema",),
  optax.ScaleByLionState: ("mu",),
  ScaleByRAdamState: ("mu",),
}
# Which are points.
POINTS = {LookaheadState: ("slow",)}
# States that keep neither, though their arrays may have the points' shapes.
_NO_TANGENTS = (optax.ScaleByRssState,)


def to_riemannian(m: Manifold) -> optax.GradientTransformation:
  """Euclidean gradients in, tangent vectors at `params` out."""
  return optax.stateless(lambda g, x: jax.tree.map(m.egrad2rgrad, x, g))


def clip_norm(
  m: Manifold, max_norm: Scalar, *, norm: Literal["riemannian", "chart"] = "riemannian"
) -> optax.GradientTransformation:
  """Shortens every tangent vector to at most `max_norm`, row by row.

  Args:
    m: the manifold.
    max_norm: the longest that passes unchanged.
    norm: length in the metric, or of the chart's coordinates as in the code of
      [nickel2017poincare].

  Raises:
    ValueError: no such norm.
  """
  if norm not in ("riemannian", "chart"):
    raise ValueError(f'norm must be "riemannian" or "chart", got {norm!r}')

  def clip(v: Array, x: Array) -> Array:
    flat = lambda x, v: numerics.safe_norm(v.reshape(*v.shape[: v.ndim - m.point_ndim], -1))
    if v.ndim:
      length = m.wide((m.norm if norm == "riemannian" else flat)(x, v))
    else:  # a number, of flat space
      length = jnp.abs(v)
    over = length > max_norm
    return jnp.where(over, v * (max_norm / jnp.where(over, length, 1)), v)

  return optax.stateless(lambda v, x: jax.tree.map(clip, v, x))


def add_decay(m: Manifold, weight_decay: Scalar) -> optax.GradientTransformation:
  """Adds −λ log_x(origin) to tangent vectors at x: decoupled weight decay [loshchilov2019adamw].

  Behind the adaptive scaling and before the rate it pulls every point toward the origin by the
  share ηλ of its distance. On flat space it is optax.add_decayed_weights.

  Args:
    m: the manifold.
    weight_decay: λ.
  """

  def add(v: Array, x: Array) -> Array:
    if m.ops is euclidean:  # of any shape, [] too
      return v + weight_decay * x
    return v - weight_decay * m.log(x, m.origin_like(x))

  return optax.stateless(lambda v, x: jax.tree.map(add, v, x))


def _map_fields(names: dict[type, tuple], f: Callable[[PyTree], PyTree], state: PyTree) -> PyTree:
  def move(node: PyTree) -> PyTree:
    if type(node) not in names:
      return node
    mine = names[type(node)]
    fields = node._asdict().items()
    return node._replace(**{k: f(v) if k in mine else _map_fields(names, f, v) for k, v in fields})

  return jax.tree.map(move, state, is_leaf=lambda node: type(node) in names)


def map_tangents(f: Callable[[PyTree], PyTree], state: PyTree) -> PyTree:
  """The state with f applied to every tree of tangents in it, which is shaped as the points are."""
  return _map_fields(TANGENTS, f, state)


def map_points(f: Callable[[PyTree], PyTree], state: PyTree) -> PyTree:
  """The state with f applied to every tree of points in it, such as lookahead's slow ones."""
  return _map_fields(POINTS, f, state)


def carry(m: Manifold, state: PyTree, x: PyTree, y: PyTree) -> PyTree:
  """The state with its tangents transported from points x to y."""
  return map_tangents(lambda v: jax.tree.map(m.transport, x, y, v), state)


def _check_carried(state: PyTree, x: PyTree) -> None:
  """Raises ValueError if a link keeps what may be tangents and is not in TANGENTS."""
  shapes = {x.shape for x in jax.tree.leaves(x)}
  known = (*TANGENTS, *_NO_TANGENTS)
  is_known = lambda node: type(node) in known
  for path, leaf in jax.tree_util.tree_leaves_with_path(state, is_leaf=is_known):
    if is_known(leaf) or getattr(leaf, "shape", ()) not in shapes:
      continue
    if jnp.issubdtype(leaf.dtype, jnp.floating):
      raise ValueError(
        f"tangent_links{jax.tree_util.keystr(path)} is shaped as the points are, and how to carry "
        "it along with them is not known; for moments see radam.scale_by_radam"
      )


def riemannian(
  m: Manifold,
  *tangent_links: optax.GradientTransformation,
  move: Literal["exp", "retract"] = "exp",
  max_step: Scalar | None = None,
) -> optax.GradientTransformationExtraArgs:
  """A transformation of points from links that act on tangent vectors.

  Tangents kept in the links' states (momentum, first moments) are transported to the new points:
  those of `TANGENTS`. Arguments of its update beyond the usual go to the links that take them.

  Args:
    m: the manifold all of `params` lie on; for trees only partly on it see `optax.partition`.
    *tangent_links: what stands between gradient and step; the last one scales by −η.
    move: follow the geodesic, or the cheaper retraction of `m`.
    max_step: longest step, in the metric; longer ones are shortened, row by row.

  Raises:
    ValueError: no such move; from `init` on curved space, a link that keeps arrays of the points'
      shapes of which it is not known whether they are tangents, such as optax.scale_by_adam.
  """
  if move not in ("exp", "retract"):
    raise ValueError(f'move must be "exp" or "retract", got {move!r}')
  by_exp = move == "exp" and m.ops is not euclidean  # exp has a limit of its own, for less
  if max_step is not None and not by_exp:
    tangent_links = (*tangent_links, clip_norm(m, max_step))
  inner = optax.chain(to_riemannian(m), *tangent_links)
  if m.ops is euclidean:  # x + v is the point itself: no rounding of (x + v) − x
    return inner

  def init(x: PyTree) -> PyTree:
    state = inner.init(x)
    _check_carried(state[1:], x)
    return state

  def update(
    g: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any
  ) -> tuple[PyTree, PyTree]:
    if params is None:
      raise ValueError("a Riemannian step needs params: update(grads, state, params)")
    v, state = inner.update(g, state, params, **extra)
    go = functools.partial(m.exp, limit=max_step) if by_exp else m.retract
    y = jax.tree.map(go, params, v)
    # y − x is exact where x and y are close; proj's margin absorbs what apply_updates rounds.
    return jax.tree.map(m.displacement, params, y), carry(m, state, params, y)

  return optax.GradientTransformationExtraArgs(init, update)


def adaptive(
  m: Manifold,
  scaling: optax.GradientTransformation,
  learning_rate: optax.ScalarOrSchedule,
  *,
  weight_decay: Scalar,
  move: Literal["exp", "retract"],
  max_step: Scalar | None,
) -> optax.GradientTransformation:
  """`riemannian` of a scaling, decoupled weight decay if there is any, and the rate."""
  none = isinstance(weight_decay, (int, float)) and weight_decay == 0
  decay = [] if none else [add_decay(m, weight_decay)]
  rate = optax.scale_by_learning_rate(learning_rate)
  return riemannian(m, scaling, *decay, rate, move=move, max_step=max_step)


def descent(
  learning_rate: optax.ScalarOrSchedule, m: Manifold, *, max_step: Scalar | None = None
) -> optax.GradientTransformation:
  """`riemannian(m, optax.scale_by_learning_rate(learning_rate))` by `m.descend`, for less.

  Args:
    learning_rate: η, a number or a schedule.
    m: the manifold all of `params` lie on.
    max_step: longest step, in the metric; longer ones are shortened, row by row.
  """
  rate = optax.scale_by_learning_rate(learning_rate, flip_sign=False)

  def update(g: PyTree, state: PyTree, x: PyTree | None = None) -> tuple[PyTree, PyTree]:
    if x is None:
      raise ValueError("a Riemannian step needs params: update(grads, state, params)")
    eta, state = rate.update(jax.tree.map(lambda x: jnp.ones([], x.dtype), x), state)
    step = lambda g, x, eta: m.displacement(x, m.descend(x, g, eta, limit=max_step))
    return jax.tree.map(step, g, x, eta), state

  return optax.GradientTransformation(rate.init, update)
