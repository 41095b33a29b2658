"""Penalties on the sides of boxes, one value a box.

Squares of numbers beyond `numerics.root_max` count as its square.
Source: [chheda2021box], whose code has the first, and the mean of log |s| in the place of its
square.
"""

import jax.numpy as jnp

from geoemb import numerics
from geoemb.boxes import box as boxes
from geoemb.boxes.box import Box
from geoemb.typing import Array, Scalar


def _mean_square(x: Array) -> Array:
  return jnp.mean(jnp.square(numerics.bound(x, numerics.root_max(x.dtype))), axis=-1)


def squared_side(box: Box) -> Array:
  """Mean of s² over the dimensions, [...]."""
  return _mean_square(boxes.side(box))


def squared_log_side(log_side: Array) -> Array:
  """Mean of (log s)² over the dimensions, [...], of logarithms [..., d] in nats from `volume`."""
  return _mean_square(log_side)


def squared_excess(box: Box, *, limit: Scalar) -> Array:
  """Mean of max(s − limit, 0)² over the dimensions, [...]."""
  excess = boxes.side(box) - limit
  return _mean_square(jnp.where(excess > 0, excess, 0))
