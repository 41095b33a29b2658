"""A least-squares table [toy], for tests of the harness and the command line.

Departures:  none found.
"""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import harness
from geoemb.typing import Array, Key


@dataclasses.dataclass
class Config:
  """A field of every kind."""

  rows: int = 50  # of the table
  lr: float = 0.1  # step size
  steps: int = 300
  block: int = 8  # batches drawn at once
  save_every: int | None = None  # steps between checkpoints
  name: str = "toy"  # any text
  data: str | None = None  # a file, or none
  flag: bool = False
  shape: tuple[int, ...] = (1, 2)
  nan_at: int = -1  # step whose loss is made nan
  seed: int = 0


VARIANTS = {
  "small": dict(rows=20),
  "large": dict(rows=500),
  "twin": dict(rows=20, seed=1),
}
TARGETS = (
  harness.Target("Table 1", variant="small", metric="error", paper=0.5, tol=0.1, better="low"),
  harness.Target("Table 1", variant="large", metric="error", paper=1e-9, better="low"),
)


def get_config(variant: str = "small") -> Config:
  return Config(**VARIANTS[variant])


def cpu_threads(config: Config) -> int | None:
  return 1


def run(config: Config, workdir: str) -> dict[str, float]:
  if config.data is not None and not os.path.exists(config.data):
    raise FileNotFoundError(f"{config.data} not found: put one there.")
  goal = np.random.default_rng(0).normal(size=(config.rows, 3)).astype(np.float32)

  def sample(key: Key, steps: Array):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(steps)
    ids = jax.vmap(lambda k: jax.random.randint(k, (4,), 0, config.rows))(keys)
    return ids, steps

  def step(state, batch):
    table, turns = state
    ids, now = batch

    def loss_fn(x):
      return 0.5 * jnp.sum(jnp.square(x - jnp.asarray(goal)[ids]))

    loss, grad = jax.value_and_grad(loss_fn)(table[ids])
    table = table.at[ids].add(-config.lr * grad)
    return (table, turns + 1), {"loss": jnp.where(now == config.nan_at, jnp.nan, loss)}

  key_init, key_train = jax.random.split(jax.random.key(config.seed))
  state = (jax.random.normal(key_init, (config.rows, 3)), jnp.zeros((), jnp.int32))
  fit = harness.fit(
      step, sample, state, key_train, steps=config.steps, workdir=workdir, items_per_step=4,
      block=config.block, save_every=config.save_every,
      evaluate=lambda s: {"error": float(jnp.mean(jnp.square(s[0] - goal)))},
      eval_every=max(1, config.steps // 4),
  )  # fmt: skip
  table = np.asarray(fit.state[0])
  np.save(os.path.join(workdir, "table.npy"), table)
  return {"error": float(np.mean(np.square(table - goal))), "turns": int(fit.state[1])}
