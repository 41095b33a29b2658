"""Critical n of free embeddings [weller2025limit]: Table 6, and other geometries and losses.

Run:         python launch.py --config=experiments/retrieval/limit_free.py:table6
Cost:        a minute on two CPU cores up to d = 14 (small), 20 minutes up to d = 20 (table6). Each
             d runs on a device of its own, and a rerun takes up what was tried.
Departures:  d up to 20, where the paper goes to 45, and other random numbers. Ties count as wrong,
             and the ranking is looked at after steps 50, 100, …, not 1, 51, ….
             Rows other than Table 6's are ours: the paper has one geometry and one loss.
Unspecified: where the search for n starts; 2d + d²/5 for k = 2, which is near the paper's curve,
             else d + k.
"""

import concurrent.futures
import dataclasses
import functools
import math
import os
import queue
import threading
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from matplotlib import figure

from geoemb import harness, manifolds, numerics
from geoemb.harness import writer as metrics
from geoemb.retrieval import cyclic_polytope, free_embedding
from geoemb.typing import Array, Key

TABLE_6 = dict(zip(range(4, 21), (
  10, 14, 19, 24, 28, 32, 36, 42, 47, 54, 62, 70, 79, 89, 99, 109, 120
)))  # fmt: skip
CUBIC = (-10.5322, 4.0309, 0.0520, 0.0037)  # the paper's fit, of d⁰ … d³


@dataclasses.dataclass
class Config:
  """A geometry, a loss, and the dimensions that are tried."""

  dims: tuple[int, ...] = tuple(TABLE_6)  # d, numbers a document
  k: int = 2  # relevant documents a query
  geometry: str = "unit"  # or sphere, poincare, lorentz, box, maxsim
  objective: str = "infonce"  # or sigmoid, hinge
  temperature: float = 0.1  # of infonce and hinge
  lr: float = 0.01
  vectors: int = 2  # a document, of maxsim
  warm: bool = False  # start from the trigonometric curve, which ranks all rightly
  steps: int = 100_000  # at most
  patience: int = 1000  # steps without a loss lower by 1e-5
  most: int = 300  # largest n tried
  width: int = 4  # d is rounded up to a multiple of it, with zeros, for programs to be shared
  devices: int = 0  # on each of them a d of its own; 0 for all there are, on a CPU one a core
  seed: int = 0


_OURS = {
  "paper_loss": dict(),
  "infonce_t002": dict(temperature=0.02),
  "sigmoid": dict(objective="sigmoid"),
  "hinge": dict(objective="hinge"),
  "riemannian": dict(geometry="sphere"),
  "warm": dict(warm=True),
  "maxsim": dict(geometry="maxsim"),
  "poincare": dict(geometry="poincare"),
  "lorentz": dict(geometry="lorentz"),
  "box": dict(geometry="box"),
}
_DIMS = (4, 6, 8)  # even, for boxes and pairs of vectors
VARIANTS = {
  "table6": dict(),
  "small": dict(dims=tuple(range(4, 15))),
  "k3": dict(dims=tuple(range(6, 13)), k=3),
  # With distances the loss goes on falling for long after the ranking stands still.
  **{name: dict(fields, dims=_DIMS, steps=20_000) for name, fields in _OURS.items()},
  "smoke": dict(dims=tuple(TABLE_6), steps=50, most=3, width=20, devices=1),
}
TARGETS = (
  *(
    harness.Target("Table 6", variant, f"n_d{d}", n, tol=max(1, 0.05 * n))
    for variant, dims in (("table6", TABLE_6), ("small", range(4, 15)))
    for d, n in TABLE_6.items()
    if d in dims
  ),
  harness.Target("Table 6", "table6", "cubic_r2", 0.999, tol=0.001),
  *(harness.Target("Three relevant documents", "k3", f"n_d{d}") for d in range(6, 13)),
  *(
    harness.Target(
      f"Losses and geometries, d = {d}",
      variant,
      f"n_d{d}",
      TABLE_6[d] if variant == "paper_loss" else None,
      tol=max(1, 0.05 * TABLE_6[d]),
    )
    for d in _DIMS
    for variant in _OURS
  ),
)


def get_config(variant: str = "small") -> Config:
  """A row of Table 6, or of the tables of ours."""
  return Config(**VARIANTS[variant])


def cpu_threads(config: Config) -> int | None:
  """One: the devices are what runs at the same time."""
  return 1


def cpu_devices(config: Config) -> int:
  """One a core, for as many d as there are."""
  return config.devices or min(len(config.dims), os.cpu_count() or 1)


def run(config: Config, workdir: str) -> dict[str, float]:
  """Seeks the critical n of every d, draws n against d, and returns n_d… and the fit's r²."""
  _check(config)
  os.makedirs(workdir, exist_ok=True)
  program, trials = _program(config), _Trials(workdir)
  devices: queue.SimpleQueue = queue.SimpleQueue()
  for device in jax.local_devices()[: config.devices or None]:
    devices.put(device)

  def search(d: int) -> free_embedding.Critical:
    device = devices.get()
    try:
      solves = lambda n: trials.share(d, n, lambda: _trial(config, program, device, d, n)) == 1
      start = round(2 * d + d * d / 5) if config.k == 2 else d + config.k
      found = free_embedding.critical(solves, start, least=config.k + 1, most=config.most)
    finally:
      devices.put(device)
    logging.info("d = %d: %s solved, %s not", d, found.solved, found.failed)
    return found

  with concurrent.futures.ThreadPoolExecutor(devices.qsize()) as pool:
    order = sorted(config.dims, reverse=True)  # the longest first
    found = dict(zip(order, pool.map(search, order)))
  trials.close()
  d = np.array(sorted(found))
  n = np.array([found[i].solved or config.k for i in d])  # k documents are all relevant
  fit = np.polynomial.Polynomial.fit(d, n, min(3, len(d) - 1))
  _draw(config, d, n, fit, os.path.join(workdir, "critical_n"))
  rest = np.sum((n - fit(d)) ** 2) / max(np.sum((n - n.mean()) ** 2), 1e-9)
  logging.info("n = %s", " + ".join(f"{a:.4g} d^{i}" for i, a in enumerate(fit.convert().coef)))
  return {**{f"n_d{i}": float(x) for i, x in zip(d, n)}, "cubic_r2": float(1 - rest)}


def _check(config: Config) -> None:
  geometries = ("unit", "sphere", "poincare", "lorentz", "box", "maxsim")
  if config.geometry not in geometries:
    raise ValueError(f"geometry must be one of {', '.join(geometries)}, got {config.geometry!r}")
  if config.objective not in ("infonce", "sigmoid", "hinge"):
    raise ValueError(f"objective must be infonce, sigmoid or hinge, got {config.objective!r}")
  if not config.dims or min(config.dims) < 2 or config.k < 1:
    raise ValueError(f"dims must be 2 or more and k positive, got {config.dims} and {config.k}")
  if not config.temperature > 0 or not config.lr > 0 or config.steps < 1:
    raise ValueError(
      f"temperature, lr and steps must be positive, got {config.temperature}, {config.lr} and "
      f"{config.steps}"
    )
  if config.most <= config.k:
    raise ValueError(f"most must exceed k = {config.k}, got {config.most}")
  if config.warm and (config.geometry != "unit" or min(config.dims) < 2 * config.k):
    raise ValueError(f"the curve is of unit vectors of at least 2k = {2 * config.k} numbers")


def _model(config: Config, d: int, count: Array) -> free_embedding.Model:
  """The model of d numbers; `count` documents are on the curve that it may start from."""
  lr = config.lr
  if config.geometry == "box":
    return free_embedding.boxes_of(d, lr, temperature=0.1)
  if config.geometry == "maxsim":
    return free_embedding.unit(d, lr, vectors=config.vectors)
  if config.geometry == "sphere":
    return free_embedding.on_manifold(manifolds.make("sphere"), d - 1, lr, score=numerics.dots)
  if config.geometry != "unit":
    return free_embedding.on_manifold(manifolds.make(config.geometry), d, lr, scale=d**-0.5)
  model = free_embedding.unit(d, lr)
  return model._replace(init=_on_curve(config, model, d, count)) if config.warm else model


def _on_curve(config: Config, model: free_embedding.Model, d: int, count: Array) -> Callable:
  """A start from the cyclic polytope, a little off it: the other coordinates would stay 0."""

  def init(key: Key, m: int, n: int) -> tuple[Array, Array]:
    t = jnp.arange(n, dtype=jnp.float32) * (2 * math.pi / count)
    relevant = free_embedding.subsets(n, config.k)
    start = cyclic_polytope.queries(t[relevant]), cyclic_polytope.documents(t, config.k)
    pad = lambda x: jnp.pad(x, ((0, 0), (0, d - x.shape[-1])))
    noise = model.init(key, m, n)
    return model.project(jax.tree.map(lambda x, e: pad(x) + 1e-3 * e, start, noise))

  return init


def _program(config: Config) -> Callable:
  """One trial, (key, width, d, n, m, labels) → what `fit` returns but for the parameters.

  Compiled once for a width, which is d rounded up, and a number of documents, rounded up too.
  """
  objective = {
    "infonce": functools.partial(free_embedding.infonce, config.temperature),
    "sigmoid": free_embedding.sigmoid,
    "hinge": functools.partial(free_embedding.hinge, config.temperature),
  }[config.objective]()
  # What XLA adds above level 1 takes longer to compile than it saves (measured on a CPU).
  options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}

  @functools.partial(jax.jit, static_argnums=1, compiler_options=options)
  def trial(key: Key, width: int, d: Array, n: Array, m: Array, labels: Array) -> tuple:
    model = _model(config, width, n.astype(jnp.float32))
    if config.geometry != "box":
      each = config.vectors if config.geometry == "maxsim" else 1
      model = free_embedding.narrowed(model, d // each)
    labels = free_embedding.subset_labels(labels, n, m)
    fit = free_embedding.fit(
      key, model, objective, labels, steps=config.steps, patience=config.patience
    )
    return fit.solved, fit.steps, fit.loss

  return trial


def _trial(config: Config, program: Callable, device: jax.Device, d: int, n: int) -> dict:
  """Fits all k-subsets of n documents in d numbers, on the device."""
  grain = 8 if config.k == 2 else 4
  grain *= 2 if n <= 4 * grain else 1  # where a trial takes less time than to compile it
  size = -(-n // grain) * grain
  labels = free_embedding.labels_of(free_embedding.subsets(size, config.k), size)
  width = d if config.geometry == "box" else -(-d // config.width) * config.width
  key = jax.random.key(config.seed)
  numbers = (np.int32(x) for x in (d, n, math.comb(n, config.k)))
  key, *arrays = jax.device_put((key, *numbers, labels), device)
  solved, steps, loss = jax.device_get(program(key, width, *arrays))
  return {"solved": float(solved), "steps": int(steps), "loss": float(loss)}


class _Trials:
  """The trials of a run, in metrics.jsonl: what an earlier process tried is not tried again."""

  def __init__(self, workdir: str):
    rows = metrics.read(os.path.join(workdir, "metrics.jsonl"))
    self._known = {(row["d"], row["n"]): row for row in rows}
    self._writer = harness.Writer(workdir, len(rows))
    self._spent = rows[-1]["seconds"] if rows else 0.0
    self._begin, self._lock = time.monotonic(), threading.Lock()

  def share(self, d: int, n: int, trial: Callable[[], dict]) -> float:
    """The largest share of queries that was right at once."""
    if (d, n) not in self._known:
      row = trial()
      with self._lock:
        self._known[d, n] = row
        seconds = self._spent + time.monotonic() - self._begin
        self._writer.write(len(self._known), d=d, n=n, **row, seconds=round(seconds, 3))
      logging.info("d = %d, n = %d: %.4f after %d steps", d, n, row["solved"], row["steps"])
    return self._known[d, n]["solved"]

  def close(self) -> None:
    self._writer.close()


def _draw(
  config: Config, d: np.ndarray, n: np.ndarray, fit: np.polynomial.Polynomial, stem: str
) -> None:
  """Critical n against d."""
  fig = figure.Figure(figsize=(6, 3.8), dpi=150, layout="constrained")
  ax = fig.subplots()
  fine = np.linspace(min(d), max(d), 200)
  ax.plot(d, n, "o", label="ours")
  ax.plot(fine, fit(fine), color="C0", lw=1, label="cubic fit to ours")
  if config.k == 2:
    shown = [i for i in d if i in TABLE_6]
    ax.plot(shown, [TABLE_6[i] for i in shown], "x", color="C1", label="Table 6")
    paper = np.polynomial.Polynomial(CUBIC)
    ax.plot(fine, paper(fine), color="C1", lw=1, ls="--", label="the paper's cubic")
  ax.set(xlabel="d, numbers a document", ylabel="critical n, documents")
  ax.set_title(f"all {config.k}-subsets, {config.geometry}, {config.objective}")
  ax.legend(frameon=False)
  for kind in ("png", "svg"):
    fig.savefig(f"{stem}.{kind}")
