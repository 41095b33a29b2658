"""Means of the points that training passes through [tripuraneni2018averaging].

state = averaging.init(x)
state = averaging.update(m, state, x)  # after each step; state.mean is the mean
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb.manifolds import Manifold
from geoemb.typing import Array, PyTree, Scalar


class State(NamedTuple):
  """A mean of points."""

  count: Array  # [] int32, points in the mean
  mean: PyTree  # x̄


def init(x: PyTree) -> State:
  """The mean of no points; x tells their shapes."""
  return State(jnp.zeros([], jnp.int32), jax.tree.map(jnp.copy, x))


def update(m: Manifold, state: State, x: PyTree, *, decay: Scalar | None = None) -> State:
  """The mean with x as one point more: x̄ ← geodesic(x̄, x, share).

  The share is 1/t for the t-th point, so that all count alike: on flat space this is their mean. It
  costs one geodesic a step, and is the Fréchet mean to first order in the points' spread.

  Args:
    m: the manifold all of x lie on.
    state: from `init` or a former step.
    x: points.
    decay: β of an exponential mean: the share is (1 − β)/(1 − βᵗ), which on flat space is
      Σ βᵗ⁻ˢ xₛ over the sum of the weights.

  Raises:
    ValueError: decay is not between 0 and 1.
  """
  if not (decay is None or isinstance(decay, jax.core.Tracer) or 0 <= decay < 1):
    raise ValueError(f"decay is at least 0 and below 1, got {decay}")
  count = state.count + 1

  def toward(mean: Array, x: Array) -> Array:
    t = count.astype(x.dtype)
    share = 1 / t if decay is None else (1 - decay) / (1 - decay**t)
    return jnp.where(count == 1, x, m.proj(m.geodesic(mean, x, share)))

  return State(count, jax.tree.map(toward, state.mean, x))
