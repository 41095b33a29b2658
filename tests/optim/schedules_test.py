import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb.optim import schedules


@pytest.mark.parametrize("x64", [False, True])
def test_burn_in_is_a_share_and_then_a_line(x64):
  counts = np.array([0, 5, 9, 10, 11, 30, 49, 50, 51, 10**6], np.int32)
  with jax.enable_x64(x64):
    schedule = schedules.burn_in(2.0, steps=50, burn_in_steps=10, factor=0.1, end=0.2)
    got = jax.jit(schedule)(counts)
  line = 2 * (1 - 0.8 * np.array([0, 1 / 40, 0.5, 39 / 40, 1, 1, 1]))
  np.testing.assert_allclose(got, [0.2, 0.2, 0.2, *line], rtol=1e-6)


def test_a_constant_rate_is_exact():
  schedule = schedules.burn_in(0.3, steps=1000)
  got = np.asarray(jax.jit(schedule)(np.arange(0, 2000, 7, dtype=np.int32)))
  np.testing.assert_array_equal(got, np.float32(0.3))


@pytest.mark.parametrize("steps, burn_in_steps", [(0, 0), (5, 5), (5, 9), (1, 0)])
def test_runs_that_are_all_burn_in_or_empty_have_finite_rates(steps, burn_in_steps):
  schedule = schedules.burn_in(0.5, steps=steps, burn_in_steps=burn_in_steps, end=0.1)
  got = np.asarray(jax.jit(schedule)(np.arange(20, dtype=np.int32)))
  np.testing.assert_allclose(got[:burn_in_steps], 0.005, rtol=1e-6)
  assert np.all((got >= 0.005 - 1e-9) & (got <= 0.5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_schedule_keeps_the_dtype_of_what_it_scales(dtype):
  with jax.enable_x64(True):
    tx = optax.scale_by_learning_rate(schedules.burn_in(0.5, steps=10, end=0.1))
    g = jnp.ones((3,), dtype)
    updates, _ = jax.jit(tx.update)(g, tx.init(g))
  assert updates.dtype == dtype
