"""Positive temperatures from free parameters, and the temperature of a pair of boxes.

A parameter of shape [] is one temperature for all, [d] one a dimension, [..., 1] one a box, and
[..., d] one for each side: they broadcast against the sides of boxes.
Source: [boratko2021capacity] (T-Box), whose code learns all four.
"""

import math

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.typing import Array, Scalar


def softplus(theta: Array, *, least: Scalar = 1e-6) -> Array:
  """The temperature least + log(1 + exp θ), [...]."""
  return jnp.asarray(least, theta.dtype) + jax.nn.softplus(theta)


def exponential(theta: Array) -> Array:
  """The temperature exp θ, [...], within the square roots of the least and the largest number."""
  limit = math.log(float(jnp.finfo(theta.dtype).max)) / 2
  return jnp.exp(numerics.bound(theta, limit))


def bounded(theta: Array, *, low: Scalar, high: Scalar) -> Array:
  """The temperature low + (high − low) σ(θ), [...]: the form of the authors' code."""
  low, high = (jnp.asarray(x, theta.dtype) for x in (low, high))
  return low + (high - low) * jax.nn.sigmoid(theta)


def of_pair(a: Array, b: Array) -> Array:
  """The temperature for the intersection of boxes with temperatures a and b, [...]: their mean.

  Gumbel boxes of different scales are not closed under intersection; the authors' code takes the
  mean, for both the intersection and the volumes of the pair.
  """
  return 0.5 * a + 0.5 * b
