"""Vectors of 2k numbers that rank any k of n documents first: margins by n and precision.

Run:         python launch.py --config=experiments/retrieval/limit_construction.py:pairs
Cost:        seconds on a CPU core.
Departures:  [weller2025limit] has no such vectors: for pairs it fits free ones, which take 12
             numbers for n = 46 (Table 6). These take 4, on its sphere, and are known to geometry
             [gale1963neighborly]. Vectors are found in float64, rounded to a dtype, and scored in
             it, or in float32 where it is narrower. A query is right if its k documents score above
             all others.
Unspecified: none found.
"""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import figure

from geoemb import harness, numerics
from geoemb.retrieval import cyclic_polytope, free_embedding
from geoemb.typing import Array

DTYPES = ("float64", "float32", "bfloat16")


@dataclasses.dataclass
class Config:
  """Numbers of documents, and k."""

  sizes: tuple[int, ...] = (12, 46, 100, 200, 500, 1000)  # n
  k: int = 2  # relevant documents a query; all C(n, k) queries
  block: int = 1024  # queries at a time
  seed: int = 0  # has no effect


VARIANTS = {
  "pairs": dict(),
  "triples": dict(sizes=(12, 25, 46, 100), k=3),
  "smoke": dict(sizes=(46, 100, 200, 1000), k=1),
}
TARGETS = (
  *(
    harness.Target("Four numbers for all pairs", "pairs", f"{what}_{dtype}_n{n}")
    for n in (46, 200, 1000)
    for what, dtype in (("gap", "float64"), *(("right", dtype) for dtype in DTYPES))
  ),
  harness.Target("Four numbers for all pairs", "pairs", "exponent"),
  *(
    harness.Target("Six numbers for all triples", "triples", f"{what}_{dtype}_n{n}")
    for n in (46, 100)
    for what, dtype in (("gap", "float64"), ("right", "float32"))
  ),
  harness.Target("Six numbers for all triples", "triples", "exponent"),
)


def get_config(variant: str = "pairs") -> Config:
  """All pairs, or triples, of some numbers of documents."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Scores every query by n and dtype; draws the least gaps, and returns them with their decay."""
  if config.k < 1 or not config.sizes or min(config.sizes) <= config.k:
    raise ValueError(f"sizes must exceed k = {config.k}, got {config.sizes}")
  if config.block < 1:
    raise ValueError(f"block must be positive, got {config.block}")
  os.makedirs(workdir, exist_ok=True)
  metrics, least = {}, []
  with jax.enable_x64(True):
    for n in config.sizes:
      for dtype, gaps in zip(DTYPES, _gaps(n, config.k, config.block)):
        metrics[f"gap_{dtype}_n{n}"] = float(gaps.min())
        metrics[f"right_{dtype}_n{n}"] = float(np.mean(gaps > 0))
      least.append(metrics[f"gap_float64_n{n}"])
  if min(least) > 0 and len(least) > 1:
    metrics["exponent"] = float(np.polyfit(np.log(config.sizes), np.log(least), 1)[0])
  _draw(config, least, metrics, os.path.join(workdir, "gaps"))
  return metrics


def _gaps(n: int, k: int, block: int) -> list[np.ndarray]:
  """Least relevant less greatest other score of every query, [C(n, k)], a dtype each."""
  relevant = free_embedding.subsets(n, k)
  total = len(relevant)
  rows = np.resize(relevant, (-(-total // block), block, k))  # the first ones again at the end

  @jax.jit
  def scored(rows: Array) -> list[Array]:
    angles = cyclic_polytope.angles(n, jnp.float64)
    x = cyclic_polytope.documents(angles, k)

    def one(ids: Array) -> list[Array]:
      q = cyclic_polytope.queries(angles[ids])
      is_relevant = (ids[..., None] == jnp.arange(n, dtype=ids.dtype)).any(axis=-2)
      labels = jnp.where(is_relevant, 1, -1)
      return [free_embedding.gap(_scores(q, x, dtype), labels) for dtype in DTYPES]

    return jax.lax.map(one, rows)

  return [np.asarray(gaps).ravel()[:total] for gaps in scored(rows)]


def _scores(q: Array, x: Array, dtype: str) -> Array:
  """Scores of vectors stored in a dtype."""
  wide = "float32" if dtype == "bfloat16" else dtype
  q, x = (v.astype(dtype).astype(wide) for v in (q, x))
  return numerics.dots(q, x)


def _draw(config: Config, least: list[float], metrics: dict[str, float], stem: str) -> None:
  """Least gap, and share of right queries, against n."""
  fig = figure.Figure(figsize=(8, 3.4), dpi=150, layout="constrained")
  left, right = fig.subplots(1, 2)
  left.loglog(config.sizes, least, "o-", label="float64")
  scale = least[0] * config.sizes[0] ** (2 * config.k)
  slope = [scale / n ** (2 * config.k) for n in config.sizes]
  left.loglog(config.sizes, slope, color="0.5", ls="--", label=f"n^−{2 * config.k}")
  left.axhline(2**-24, color="0.7", lw=0.8, label="half an ulp of 1 in float32")
  left.set(xlabel="n, documents", ylabel="least gap of scores")
  left.legend(frameon=False)
  for dtype in DTYPES:
    shares = [metrics[f"right_{dtype}_n{n}"] for n in config.sizes]
    right.semilogx(config.sizes, shares, "o-", label=dtype)
  right.set(xlabel="n, documents", ylabel="share of queries ranked rightly", ylim=(0, 1.05))
  right.legend(frameon=False)
  fig.suptitle(f"{2 * config.k} numbers for all {config.k}-subsets")
  for kind in ("png", "svg"):
    fig.savefig(f"{stem}.{kind}")
