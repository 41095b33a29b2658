"""Points [..., d] as one point of a product manifold: what the minimisers share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geoemb.manifolds import Manifold
from geoemb.typing import Array


class Result(NamedTuple):
  """Where a minimiser has come to."""

  x: Array  # [..., d] points
  value: Array  # [] f(x)
  grad_norm: Array  # [] length of the Riemannian gradient at x, over all points
  iterations: Array  # [] int32
  converged: Array  # [] bool, grad_norm ≤ tol


def inner(m: Manifold, x: Array, u: Array, v: Array) -> Array:
  """Inner product of tangents [..., d] of the product, []."""
  return jnp.sum(m.inner(x, u, v))


def gradient(f: Callable[[Array], Array], m: Manifold, x: Array) -> tuple[Array, Array]:
  """The value of f at x, [], and its Riemannian gradient, [..., d]."""
  value, g = jax.value_and_grad(f)(x)
  return value, m.egrad2rgrad(x, g)


def first_step(gg: Array) -> Array:
  """The step along −g that moves by 1, or −g itself if that is shorter, [], from ‖g‖²."""
  return jnp.where(gg > 1, jax.lax.rsqrt(jnp.where(gg > 1, gg, 1)), 1)
