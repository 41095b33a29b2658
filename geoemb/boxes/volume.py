"""Log-volumes of boxes, and containment log P(A|B) = log Vol(A ∩ B) − log Vol(B), all in nats.

A log-volume is a sum over dimensions of the logarithm of a measure of the side s = Z − z. The
smooth measures' logarithms are found in log space: they have no floor, and disjoint boxes keep
their exact gradients at any distance.
Temperatures are positive, and broadcast against [..., d]: one for all, one a dimension, one a box
([..., 1]) or one for each side. Derivatives beyond `numerics.slope_max` are limited to it.
Source: [vilnis2018probabilistic], [li2019smoothing], [dasgupta2020gumbel].
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.boxes import box as boxes
from geoemb.boxes.box import Box
from geoemb.typing import Array, Scalar


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_scaled(f: Callable, side: Array, scale: Array) -> Array:
  """The sum log scale + f(side/scale), [...], for measures of sides that have a scale."""
  return numerics.rounded(jnp.log(scale) + f(numerics.rounded(side / scale)))


@_log_scaled.defjvp
def _log_scaled_jvp(f: Callable, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  """Derivatives f' by side and 1 − u f' by scale with u = side/scale, both over scale."""
  side, scale = primals
  u = numerics.rounded(side / scale)
  value, slope = jax.jvp(f, (u,), (jnp.ones_like(u),))
  limited = lambda x: numerics.bound(x / scale, numerics.slope_max(x.dtype))
  value = numerics.rounded(jnp.log(scale) + value)
  return value, limited(slope) * tangents[0] + limited(1 - u * slope) * tangents[1]


def _broadcast(side: Array, temperature: Scalar) -> tuple[Array, Array]:
  return jnp.broadcast_arrays(side, jnp.asarray(temperature, side.dtype))


def log_hard_side(side: Array) -> Array:
  """Logarithm of max(s, 0), [..., d] [vilnis2018probabilistic], with a floor in the place of −∞.

  The floor is the logarithm of the least normal number, −87.3 or −708.4 in float64, and the
  gradient is 0 there: hard boxes that are disjoint have none.
  """
  least = float(jnp.finfo(side.dtype).tiny)
  return jnp.log(jnp.where(side > least, side, least))


def log_soft_side(side: Array, *, temperature: Scalar) -> Array:
  """Logarithm of T log(1 + exp(s/T)), [..., d] [li2019smoothing]: s/T + log T for s/T → −∞."""
  return _log_scaled(numerics.log_softplus, *_broadcast(side, temperature))


def _log_bessel(u: Array) -> Array:
  return math.log(2) + numerics.log_k0(-0.5 * u)


def log_gumbel_side(side: Array, *, temperature: Scalar) -> Array:
  """Logarithm of 2β K0(2 exp(−s/(2β))), [..., d]: a Gumbel box's expected side.

  [dasgupta2020gumbel], appendix "Calculation of Expected Volume of a Box".

  It falls as −2 exp(−s/(2β)) for negative sides, and is exact up to s/β = −153 in float32, −1396 in
  float64; from there on it continues along its tangent as far as numbers go.
  """
  return _log_scaled(_log_bessel, *_broadcast(side, temperature))


def log_gumbel_side_approx(
  side: Array, *, temperature: Scalar, volume_temperature: Scalar | None = None
) -> Array:
  """Logarithm of β log(1 + exp(s/β − 2γ)), [..., d]: the approximation in [dasgupta2020gumbel].

  γ is Euler's constant.

  Args:
    side: [..., d].
    temperature: β, of the Gumbel distributions of the corners.
    volume_temperature: T in T log(1 + exp((s − 2γβ)/T)), by default β: [chheda2021box] has two.
  """
  side, beta = _broadcast(side, temperature)
  soft = beta if volume_temperature is None else volume_temperature
  return log_soft_side(side - 2 * numerics.EULER_GAMMA * beta, temperature=soft)


def log_volume(box: Box, log_side: Callable[[Array], Array]) -> Array:
  """Log-volume, [...]: Σ log_side(s) over the dimensions, at least the least number.

  Args:
    box: [..., d].
    log_side: one of this module's, with its temperature bound.
  """
  return numerics.finite(jnp.sum(log_side(boxes.side(box)), axis=-1))


def log_containment(
  a: Box,
  b: Box,
  *,
  log_side: Callable[[Array], Array],
  meet: Callable[[Box, Box], Box] = boxes.intersection,
) -> Array:
  """Logarithm of P(A|B) = Vol(A ∩ B)/Vol(B), [...], at most 0: how much of B is in A.

  Subtracted dimension by dimension, where both volumes' sums would have cancelled. `log_side` has
  to increase and `meet` to return a part of b, as all here do: what exceeds 0 then is rounding,
  and is clipped without harm to the gradient.

  Args:
    a: [..., d].
    b: [..., d].
    log_side: one of this module's, with its temperature bound.
    meet: `box.intersection`, or `box.gumbel_intersection` with its temperature bound.
  """
  return log_containment_bound(a, b, boxes.side(b), log_side=log_side, meet=meet)


def log_containment_bound(
  a: Box,
  b: Box,
  least: Array,
  *,
  log_side: Callable[[Array], Array],
  meet: Callable[[Box, Box], Box] = boxes.intersection,
) -> Array:
  """A number that log P(A|C) exceeds for no C in b whose sides are at least `least`, [...].

  What b shares with a is no smaller than what C does, in each dimension.

  Args:
    a: [..., d].
    b: [..., d] around the boxes C.
    least: [..., d].
    log_side: as in `log_containment`.
    meet: as in `log_containment`.
  """
  part = log_side(boxes.side(meet(a, b))) - log_side(least)
  most = float(jnp.finfo(part.dtype).max)
  part = numerics.clip_through(part, -most, 0.0)
  return numerics.finite(jnp.sum(part, axis=-1))


def pairwise_log_containment(
  a: Box,
  b: Box,
  *,
  log_side: Callable[[Array], Array],
  meet: Callable[[Box, Box], Box] = boxes.intersection,
  block: int | None = None,
) -> Array:
  """Logarithms of P(Aᵢ|Bⱼ) for a [..., n, d] and b [..., m, d], [..., n, m].

  Args:
    a: [..., n, d].
    b: [..., m, d].
    log_side: as in `log_containment`.
    meet: as in `log_containment`.
    block: boxes of a to take at a time, which limits memory to that for [..., block, m, d], in the
      gradient too; temperatures then broadcast against [..., m, d]. None takes all, and
      temperatures broadcast against [..., n, m, d], so that they may differ by pair.
  """

  def one_to_many(a: Box) -> Array:
    a = Box(*(x[..., None, :] for x in a))
    return log_containment(a, b, log_side=log_side, meet=meet)

  if block is not None:
    rows = Box(*(jnp.moveaxis(x, -2, 0) for x in a))
    return jnp.moveaxis(jax.lax.map(jax.checkpoint(one_to_many), rows, batch_size=block), 0, -2)
  b = Box(*(x[..., None, :, :] for x in b))
  return one_to_many(a)
