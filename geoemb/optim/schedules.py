"""Learning-rate schedules."""

import jax.numpy as jnp
import optax

from geoemb.typing import Scalar


def burn_in(
  learning_rate: Scalar,
  *,
  steps: int,
  burn_in_steps: int = 0,
  factor: float = 0.01,
  end: float = 1.0,
) -> optax.Schedule:
  """`learning_rate`·`factor` for the first steps, then linear from `learning_rate` to `end` of it.

  Args:
    learning_rate: η.
    steps: steps in all, where the linear part ends.
    burn_in_steps: length of the burn-in [nickel2017poincare] §3.1.
    factor: of η during burn-in.
    end: of η at the last step; 1 keeps it constant.
  """
  span = max(1, steps - burn_in_steps)

  def schedule(count):
    past = jnp.clip((count - burn_in_steps) / span, 0, 1)
    return learning_rate * jnp.where(count < burn_in_steps, factor, 1 - (1 - end) * past)

  return schedule
