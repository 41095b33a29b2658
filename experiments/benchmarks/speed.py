"""Speed of training and evaluation, beside gensim and beside this machine's own limits.

Run:         python launch.py --config=experiments/benchmarks/speed.py:paper --workdir=runs/speed
Cost:        minutes a variant; the machine should have no other work meanwhile.
Departures:  those who are compared work in turns, each in a process of its own that is started,
             compiled and warm before the first turn; figures are medians over the turns. gensim's
             PoincareModel, the faster of batches of 10 and of 50, gets 10 negatives in every
             comparison: it starts a draw again on any known positive, and with 50 seldom ends one.
             It draws negatives by frequency, in float64, which is its default, and moves by the
             retraction. We draw them uniformly, leave known positives out of the loss instead of
             drawing them again, and move by the exponential map.
             It runs on one core and has no way to use more; rows named replicas have two of ours.
             gensim is the extra "peers"; where it is missing, so are the ratios to it.
Unspecified: the table's state, which changes no branch of ours; training starts near the origin,
             and the evaluation ranks a first table that knows the graph (or a run's `embedding`).
"""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

import geoemb
from geoemb import harness, manifolds
from geoemb.data import tree, wordnet
from geoemb.data.hierarchy import Hierarchy
from geoemb.graphs import sampling
from geoemb.harness import cpu, loop, machine, replicas, writer
from geoemb.models import ranked
from geoemb.optim import rsgd
from geoemb.retrieval import ranks
from geoemb.tables import embedding
from geoemb.typing import Array


@dataclasses.dataclass
class Config:
  """One comparison."""

  jobs: str = "train"  # what is timed, by commas: train, evaluate, command
  against: str = "gensim"  # train: whom to divide by, gensim with 10 negatives, or float32
  repeats: int = 5  # turns of each, whose median counts
  seconds: float = 4.0  # train: length of a turn
  data: str = "noun"  # WordNet subset, or tree
  manifold: str = "lorentz"  # or any other of the ranked models
  dim: int = 10  # coordinates
  dtype: str = "float32"  # or float64
  batch_size: int = 50  # edges a step
  negatives: int = 50  # per group of edges
  negatives_shared: int = 1  # edges that share negatives; 1 is the paper's protocol
  hard_negatives: int = 0  # remembered per source, and in the loss
  replicas: int = 1  # devices that train side by side
  local_steps: int = 1024  # of each of them, before they agree
  threads: int = 1  # of XLA's on a CPU, 0 for all; see geoemb/harness/cpu.py
  embedding: str = ""  # evaluate: a run's folder or embedding.npz
  command: str = ""  # command: the experiment that launch.py runs, FILE:variant
  mean_rank: float = 1.3  # command: the quality whose seconds of training count
  map: float = 0.92  # command: see mean_rank
  seed: int = 0


_MAMMALS = dict(
  jobs="command", command="experiments/hierarchies/poincare_wordnet.py:mammals", repeats=3
)
_ONE_CORE = {
  "same_work": dict(manifold="poincare", negatives=10),
  "paper": dict(),
  "paper_poincare": dict(manifold="poincare"),
  "shared": dict(negatives_shared=50),
  "shared_poincare": dict(manifold="poincare", negatives_shared=50),
}
VARIANTS = {
  **_ONE_CORE,
  # Both cores of a small machine; quality_gate.py measures what it costs.
  **{f"{name}_replicas": dict(fields, replicas=2) for name, fields in _ONE_CORE.items()},
  "as_trained": dict(manifold="poincare", dtype="float64", negatives_shared=50, hard_negatives=8),
  "float64": dict(against="float32", dtype="float64"),
  "float64_shared": dict(against="float32", dtype="float64", negatives_shared=50),
  "evaluate": dict(jobs="evaluate", dtype="float64", repeats=3),
  "mammals": dict(_MAMMALS),
  "mammals_independent": dict(_MAMMALS, command=f"{_MAMMALS['command']}_independent"),
  "smoke": dict(jobs="train,evaluate,command", against="float32", dtype="float64", data="tree")
  | dict(repeats=1, seconds=0.05, dim=2, batch_size=10, negatives=5, mean_rank=1e9, map=0.0)
  | dict(command="experiments/hierarchies/poincare_wordnet.py:smoke"),
}

_goal = functools.partial(harness.Target, "Goals", goal=True)
TARGETS = (
  *(
    _goal(f"{variant}{cores}", "ratio", goal, note=f"× gensim's pairs/s{what}")
    for cores in ("", "_replicas")
    for variant, goal, what in (
      ("same_work", 40, ", the same work"),
      *((v, 9, " with 10 negatives") for v in ("paper", "paper_poincare")),
      *((v, 50, " with 10 negatives") for v in ("shared", "shared_poincare")),
    )
  ),
  _goal("as_trained", "ratio", note="× gensim's pairs/s with 10 negatives"),
  _goal("float64", "ratio", 0.6, note="× float32's pairs/s"),
  _goal("float64_shared", "ratio", 0.6, note="× float32's pairs/s"),
  _goal("evaluate", "evaluation_seconds", 60, better="low", note="all nouns"),
  _goal("evaluate", "gigabytes", 1, better="low", note="peak of the process"),
  *(
    _goal(variant, metric, goal, better="low", note=note)
    for variant, limit in (("mammals", 5), ("mammals_independent", 10))
    for metric, goal, note in (
      ("seconds_to_quality", limit, "of training, to mean rank 1.3 and MAP 0.92"),
      ("command_seconds", 60, "of launch.py, start to end"),
    )
  ),
)  # fmt: skip


def get_config(variant: str = "paper") -> Config:
  """One comparison."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Times the jobs; logs every figure with its spread, and returns the medians."""
  del workdir  # nothing is left but the result
  jobs = {"train": _train, "evaluate": _evaluate, "command": _command}
  if unknown := [job for job in config.jobs.split(",") if job not in jobs]:
    raise ValueError(f"jobs must be of {', '.join(jobs)}, got {unknown[0]!r}")
  if config.against not in ("gensim", "float32"):
    raise ValueError(f"against must be gensim or float32, got {config.against!r}")
  metrics = {}
  for job in config.jobs.split(","):
    metrics |= jobs[job](config)
  return metrics


# What the parent does: ask the workers in turn.


def _train(config: Config) -> dict[str, float]:
  """Pairs a second, ours and the peer's in turns, and ours as a share of the machine's limits."""
  ours = dict(dataclasses.asdict(config), worker="ours")
  contestants = {"ours": ours}
  if config.against == "float32":
    contestants["float32"] = dict(ours, dtype="float32")
  elif importlib.util.find_spec("gensim"):
    contestants["gensim"] = dict(ours, worker="gensim")
  else:
    logging.warning("gensim is not installed (the extra 'peers'): nothing to compare with")

  with _workers(contestants.values()) as takes:
    turns = dict(zip(contestants, takes))
    about = {name: take() for name, take in turns.items()}
    rounds = [
      {name: take()["pairs_per_second"] for name, take in turns.items()}
      for _ in range(config.repeats)
    ]
  rates = {name: [r[name] for r in rounds] for name in turns}
  median = {name: statistics.median(values) for name, values in rates.items()}
  for name, values in rates.items():
    logging.info("%s: %s pairs/s", about[name]["about"], _spread([v / 1e3 for v in values], "k"))

  metrics = {}
  for peer in median.keys() - {"ours"}:  # one at most
    ratios = [r["ours"] / r[peer] for r in rounds]
    logging.info("ratio of the turns: %s", _spread(ratios, "×"))
    metrics = {"ratio": statistics.median(ratios), "peer_pairs_per_second": median[peer]}
  limits = about["ours"]["limits"]
  rows = _rows_per_pair(config)
  n_flops, n_bytes = _flops_per_pair(config), _bytes_per_pair(config)
  gather = median["ours"] * rows / limits["rows_per_second"]
  gemm = median["ours"] * n_flops / limits["flops_per_second"]
  logging.info(
    "a pair: %.3g rows, %.0f bytes, %.0f flops; limits here: %.3g M rows/s read and written "
    "(%.3g GB/s), %.3g GFLOP/s; reached: %.1f %% and %.1f %% of them",
    rows, n_bytes, n_flops, limits["rows_per_second"] / 1e6,
    limits["rows_per_second"] * n_bytes / rows / 1e9, limits["flops_per_second"] / 1e9,
    100 * gather, 100 * gemm,
  )  # fmt: skip
  return metrics | {
    "pairs_per_second": median["ours"],
    "bytes_per_pair": n_bytes,
    "flops_per_pair": n_flops,
    "share_of_gather_limit": gather,
    "share_of_gemm_limit": gemm,
  }


def _rows_per_pair(config: Config) -> float:
  """Rows of the table that a pair reads and writes: its two, and its share of the negatives."""
  return 2 + config.negatives / config.negatives_shared + config.hard_negatives


def _bytes_per_pair(config: Config) -> float:
  """Of those rows, read once and written once; no ids, no tables of the sampler."""
  return 2 * _rows_per_pair(config) * config.dim * np.dtype(config.dtype).itemsize


def _flops_per_pair(config: Config) -> float:
  """Of the inner products u·v and u·n_j, and of their gradients to both sides."""
  return 6 * config.dim * (1 + config.negatives + config.hard_negatives)


def _evaluate(config: Config) -> dict[str, float]:
  """Seconds and memory of ranking every edge exactly, each repeat in a process of its own."""
  seconds, peaks = [], []
  for _ in range(config.repeats):
    with _workers([dict(dataclasses.asdict(config), worker="evaluation")]) as (take,):
      done = take()
      seconds.append(done["seconds"])
      peaks.append(done["bytes"] / 1e9)
  logging.info("evaluation of %d sources: %s", done["sources"], _spread(seconds, " s"))
  logging.info("peak memory of its process: %s", _spread(peaks, " GB"))
  return {"evaluation_seconds": statistics.median(seconds), "gigabytes": max(peaks)}


def _command(config: Config) -> dict[str, float]:
  """Seconds of training until the quality is reached, and of the whole command, start-up included.

  The curve that is read ranks a fixed sample of sources; the last line ranks all of them. A quality
  that is not reached takes infinitely long.
  """
  root = os.path.dirname(os.path.dirname(geoemb.__file__))
  # A cache of compiled programs would hide what a first run costs.
  env = {k: v for k, v in _environment().items() if k != "JAX_COMPILATION_CACHE_DIR"}
  seconds, totals, runs = [], [], []
  for i in range(config.repeats):
    with tempfile.TemporaryDirectory() as folder:
      command = [sys.executable, os.path.join(root, "launch.py"), f"--config={config.command}",
                 f"--config.seed={config.seed + i}", f"--workdir={folder}"]  # fmt: skip
      begin = time.perf_counter()
      done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
      totals.append(time.perf_counter() - begin)
      if done.returncode:
        raise harness.Abort(f"{config.command} failed: {done.stderr.strip().splitlines()[-1]}")
      seconds.append(_seconds_to(folder, config))
      with open(os.path.join(folder, "result.json"), encoding="utf-8") as f:
        runs.append(json.load(f))
  name = config.command.rpartition(":")[2]
  logging.info("%s: %s of training to the quality", name, _spread(seconds, " s"))
  logging.info("%s: %s from start to end", name, _spread(totals, " s"))
  return {
    "seconds_to_quality": statistics.median(seconds),
    "command_seconds": statistics.median(totals),
    "training_seconds": statistics.median(r["training_seconds"] for r in runs),
    "mean_rank": statistics.fmean(r["metrics"]["mean_rank"] for r in runs),
    "map": statistics.fmean(r["metrics"]["map"] for r in runs),
  }


def _seconds_to(folder: str, config: Config) -> float:
  """Seconds of training at the first evaluation that is good enough; between lines, by steps."""
  lines = writer.read(os.path.join(folder, "metrics.jsonl"))
  clock = [(0, 0.0)] + [(line["step"], line["seconds"]) for line in lines if "seconds" in line]
  for line in lines:
    found = line.get("eval") or {}
    if found and found["mean_rank"] <= config.mean_rank and found["map"] >= config.map:
      return float(np.interp(line["step"], *zip(*clock)))
  return float("inf")


def _spread(values: list[float], unit: str) -> str:
  """Median and range."""
  low, high = min(values), max(values)
  return f"{statistics.median(values):.4g}{unit} ({low:.4g}–{high:.4g}, n = {len(values)})"


def _environment() -> dict[str, str]:
  """Ours, with the package importable from wherever it is here."""
  root = os.path.dirname(os.path.dirname(geoemb.__file__))
  path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
  return {**os.environ, "PYTHONPATH": path}


@contextlib.contextmanager
def _workers(jobs: Iterable[Mapping[str, Any]]) -> Iterator[list[Callable[[], dict[str, Any]]]]:
  """Starts a process a job, all at once, and waits until they are ready.

  Each of the functions has one of them do a turn, and returns what it says. Between its turns a
  process waits and takes no processor time.
  """
  pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

  def answer(job: Mapping[str, Any], process: subprocess.Popen) -> dict[str, Any]:
    if line := process.stdout.readline():
      return json.loads(line)
    raise harness.Abort(f"the process {job['worker']!r} ended early; its error is above")

  def take(job: Mapping[str, Any], process: subprocess.Popen) -> dict[str, Any]:
    with contextlib.suppress(BrokenPipeError):  # there is no answer then
      process.stdin.write("\n")
      process.stdin.flush()
    return answer(job, process)

  with contextlib.ExitStack() as stack:
    started = []
    for job in jobs:
      command = [sys.executable, "-P", os.path.abspath(__file__), json.dumps(job)]
      process = stack.enter_context(subprocess.Popen(command, env=_environment(), **pipes))
      stack.callback(process.kill)
      started.append((job, process))
    for one in started:
      answer(*one)
    yield [functools.partial(take, *one) for one in started]


# What the workers do: first they make ready, then they do a turn whenever they are asked. The first
# turn of those that train warms up and is not counted.


def _serve(job: dict[str, Any]) -> None:
  """Writes a line of JSON when ready, and then one for each line that is read."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # libraries may print
  kinds = {"ours": _ours, "gensim": _gensim, "evaluation": _evaluation}
  turns = kinds[job["worker"]](Config(**{k: v for k, v in job.items() if k != "worker"}))
  for result in turns:
    out.write(json.dumps(result) + "\n")
    out.flush()
    if not sys.stdin.readline():
      return


def _graph(data: str) -> Hierarchy:
  return tree.balanced(3, 4) if data == "tree" else wordnet.load(data)


def _ours(config: Config) -> Iterator[dict[str, Any]]:
  """The step of the experiments in the loop of the harness."""
  cpu.limit_threads(config.threads or None)
  cpu.make_devices(config.replicas)
  with jax.enable_x64(config.dtype == "float64"):
    graph, dtype = _graph(config.data), jnp.dtype(config.dtype)
    n, b = len(graph.names), config.batch_size
    m, score = ranked.model(config.manifold, 1.0)
    tx = rsgd.rsgd(0.5, m, max_step=1.0)
    sample = sampling.ranked_edges(
      graph.edges, n, batch_size=b, negatives=config.negatives, shared=config.negatives_shared
    )
    step = ranked.step(tx, score, hard_weight=0.1 if config.hard_negatives else 0.0)
    key_table, key = jax.random.split(jax.random.key(config.seed))
    table = m.random(key_table, (n,), config.dim, scale=1e-3, dtype=dtype)
    state = ranked.init(tx, table, hard_negatives=config.hard_negatives)
    if config.replicas > 1:
      mesh, merge = replicas.mesh(config.replicas), ranked.merge(tx, m)
      step, sample = replicas.local_steps(step, sample, merge, mesh=mesh, steps=config.local_steps)
      state, b = replicas.place(state, mesh), b * config.replicas * config.local_steps
    carry = loop.init(step, sample, state, key, block=64)
    call, _ = loop.compile_run(step, sample, carry, key, block=64)

    done = 0

    def turn(steps: int) -> float:
      """Seconds of so many further steps."""
      nonlocal carry, done
      begin = time.perf_counter()
      carry = jax.block_until_ready(call(carry, done, steps))
      seconds = time.perf_counter() - begin
      done += steps
      if int(carry.bad) >= 0:
        raise harness.Abort(f"the loss is not finite at step {int(carry.bad) + 1}")
      return seconds

    yield {}
    steps = _fill(turn, 2 if config.replicas > 1 else 256, config.seconds)
    about = f"ours, {config.manifold}, {config.dtype}, {config.negatives} negatives for "
    about += f"{config.negatives_shared} edges, {config.replicas} replicas"
    yield {"about": about, "limits": _limits(config, table)}
    while True:
      yield {"pairs_per_second": b * steps / turn(steps)}


def _fill(turn: Callable[[int], float], size: int, seconds: float) -> int:
  """The size of a turn that takes about so many seconds."""
  while (took := turn(size)) < seconds / 4:
    size = int(size * min(8, max(2, seconds / 2 / took)))
  return max(1, int(size * seconds / took))


def _limits(config: Config, table: Array) -> dict[str, float]:
  """What this machine does at best with these rows and threads.

  Rows a second that are gathered from random places, changed and written back, as many at a time as
  a step has; and floating-point operations a second of large square matrix products.
  """
  r = max(1, round(config.batch_size * _rows_per_pair(config)))
  ids = jax.random.randint(jax.random.key(1), (64, r), 0, table.shape[0], jnp.int32)

  def touch(i: Array, table: Array) -> Array:
    row = ids[i % 64]
    x = table.at[row].get(mode="promise_in_bounds")
    return table.at[row].set(-x, mode="promise_in_bounds")

  rows = jax.jit(lambda table, k: jax.lax.fori_loop(0, k, touch, table), donate_argnums=0)
  a = jax.random.normal(jax.random.key(2), (1024, 1024), table.dtype) / 32
  precision = jax.lax.Precision.HIGHEST
  product = lambda i, x: jnp.matmul(a, x, precision=precision)
  gemm = jax.jit(lambda x, k: jax.lax.fori_loop(0, k, product, x))
  found = {}
  for name, f, x, work in (
    ("rows_per_second", rows, jnp.array(table), r),
    ("flops_per_second", gemm, a, 2 * a.shape[0] ** 3),
  ):

    def turn(k: int, f=f, keep=[x]) -> float:  # noqa: B006 (the table is donated and handed on)
      begin = time.perf_counter()
      keep[0] = jax.block_until_ready(f(keep[0], k))
      return time.perf_counter() - begin

    turn(1)
    k = _fill(turn, 1, config.seconds / 10)
    found[name] = work * k / statistics.median(turn(k) for _ in range(3))
  return found


def _gensim(config: Config) -> Iterator[dict[str, Any]]:
  """The PoincareModel of gensim: its own train, on a random part of the edges a turn."""
  from gensim.models import poincare  # the extra "peers"

  graph = _graph(config.data)
  pairs = [(graph.names[u], graph.names[v]) for u, v in graph.edges]
  model = poincare.PoincareModel(
    pairs, size=config.dim, negative=10, burn_in=0, seed=config.seed + 1
  )
  every, rng = list(model.all_relations), np.random.default_rng(config.seed)

  def turn(size: int, batch_size: int) -> float:
    """Seconds of a pass over so many random edges."""
    model.all_relations = [every[i] for i in rng.choice(len(every), min(size, len(every)), False)]
    begin = time.perf_counter()
    model.train(1, batch_size=batch_size, print_every=1 << 30)
    return time.perf_counter() - begin

  yield {}
  speed = {}
  for b in (10, 50):
    size = _fill(lambda size, b=b: turn(size, b), 20 * b, config.seconds)
    size = min(size, len(every))
    speed[b] = size / statistics.median(turn(size, b) for _ in range(2)), size
  best = max(speed, key=speed.get)
  size = speed[best][1]
  others = ", ".join(f"{b}: {rate / 1000:.3g}k" for b, (rate, _) in speed.items())
  yield {"about": f"gensim, 10 negatives, batches of {best} (warm-up {others})"}
  while True:
    yield {"pairs_per_second": size / turn(size, best)}


def _evaluation(config: Config) -> Iterator[dict[str, Any]]:
  """The evaluation at the end of a run: all edges, in float64."""
  cpu.limit_threads(config.threads or None)
  with jax.enable_x64(True):
    graph = _graph(config.data)
    m, _ = ranked.model(config.manifold, 1.0)
    if config.embedding:
      points = embedding.Embedding.load(config.embedding)
      if points.names != graph.names:
        raise harness.Abort(f"{config.embedding} is no embedding of the data {config.data!r}")
      m, table = manifolds.make(points.manifold, points.c), points.table
    else:
      key = jax.random.key(config.seed)
      table = ranked.ancestral(
        key, m, graph.edges, len(graph.names), config.dim, scale=2.0, dtype=jnp.float64
      )
    yield {}
    begin = time.perf_counter()
    found = ranks.reconstruction(m, table, graph.edges)
    seconds = time.perf_counter() - begin
  yield {"seconds": seconds, "bytes": machine.peak_bytes(), "sources": found.n_sources}


if __name__ == "__main__":
  _serve(json.loads(sys.argv[1]))
