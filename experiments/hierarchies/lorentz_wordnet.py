"""Lorentz embeddings of WordNet [nickel2018lorentz]: the rows of its reconstruction table.

Run:         python launch.py --config=experiments/hierarchies/lorentz_wordnet.py:nouns_d10
Your own:    the same with :own and --config.edges=FILE
Cost:        seconds (mammals) to minutes (nouns) on two CPU cores; the tables show each run's.
Departures:  points are kept by their spatial coordinates, so no step leaves the sheet. Synchronous
             batches, where the authors' code runs lock-free threads. A rejected negative is left
             out, not drawn again, and the negatives of an edge may repeat. Nouns and verbs share
             negatives within a batch (negatives_shared), start from a table that knows the graph
             (init), remember hard negatives (hard_*) and, but in the plane, use curvature
             −c > −1; mammals use none of the last three.
Unspecified: mammals are not in the paper; their row has the settings of the Poincaré paper's
             script. EuroVoc, ACM and MeSH, the table's other rows, are not WordNet and not covered.
"""

import dataclasses

import jax
import optax

from geoemb import harness
from geoemb.models import hierarchy, ranked
from geoemb.optim import rsgd


@dataclasses.dataclass
class Config:
  data: str = "noun"  # WordNet subset: noun, verb or mammal; or a generated tree
  edges: str = ""  # a hierarchy of your own instead: a file of "child parent [weight]" lines
  closure: bool = True  # close your own edges transitively
  predict: bool = False  # hold out a tenth of the edges, and rank those
  manifold: str = "lorentz"  # lorentz, poincare, euclidean (squared distance) or translational
  c: float = 1 / 9  # curvature −c of the hyperbolic space
  dim: int = 10  # coordinates
  dtype: str = "float64"  # or float32: faster, but far points blur sooner
  epochs: float = 100  # passes over the edges
  batch_size: int = 50  # edges a step
  lr: float = 18.0  # learning rate for lr_batch edges; grows with batch_size
  lr_batch: int = 50  # see lr
  lr_end: float = 0.02  # share of lr at the end, reached linearly after the burn-in
  max_step: float | None = 3.0  # longest step, in the metric
  negatives: int = 50  # per group of edges
  negatives_shared: int = 50  # edges that share negatives; 1 draws them for each edge
  burn_in: float = 0  # passes at the start with a smaller learning rate and frequent negatives
  burn_in_lr: float = 0.01  # share of lr during the burn-in
  burn_in_negatives: float = 1.0  # share of the negatives during the burn-in
  dampening: float = 0.75  # burn-in negatives are drawn ∝ frequency^dampening
  init: str = "ancestral"  # first table: uniform, ancestral (near who shares ancestors) or caps
  init_scale: float = 2.6  # of it: ± per coordinate, root mean square radius, or × the caps' radii
  hard_negatives: int = 8  # remembered per source; 0 for none
  hard_weight: float = 1.0  # of a remembered negative in the loss
  hard_from: float = 8  # passes before they count
  replicas: int = 1  # devices, or cores of a CPU, that train side by side
  local_steps: int = 1024  # of each replica before they agree, at most half a pass of all
  word2vec: bool = False  # write embedding.w2v.txt too
  seed: int = 0


_MAMMALS = dict(
  data="mammal", dim=5, c=1.0, lr=0.3, lr_batch=10, lr_end=1.0, epochs=300, burn_in=20,
  max_step=1.0, init="uniform", init_scale=1e-5,
  hard_negatives=0, hard_weight=0.0, hard_from=0,
)  # fmt: skip
_PROTOCOL = dict(  # the authors' train-nouns.sh
  c=1.0, lr=0.5, lr_end=1.0, epochs=1500, burn_in=20, burn_in_negatives=0.1, dampening=1.0,
  negatives_shared=1, max_step=1.0, init="uniform", init_scale=1e-5,
  hard_negatives=0, hard_weight=0.0, hard_from=0,
)  # fmt: skip

# Few dimensions need more curvature, and a start in which subtrees are apart already.
_LOW = dict(c=0.25, lr=40.0, max_step=2.0, init="caps", init_scale=1.0, hard_from=1)
_PLANE = dict(c=1.0, lr=5.0, max_step=1.0, init="caps", init_scale=1.0, hard_from=1)
_SMOKE = dict(
  _MAMMALS, data="tree", dim=2, epochs=3, burn_in=1, batch_size=10, negatives=5, negatives_shared=10
)
VARIANTS = {
  "mammals": dict(_MAMMALS),
  "mammals_d2": dict(_MAMMALS, dim=2, epochs=1000),
  "nouns_d2": dict(_PLANE, dim=2),
  "nouns_d5": dict(_LOW, dim=5),
  "nouns_d10": dict(dim=10, epochs=200),
  "verbs_d2": dict(_PLANE, data="verb", dim=2),
  "verbs_d5": dict(_LOW, data="verb", dim=5),
  "verbs_d10": dict(data="verb", dim=10),
  "nouns_protocol": dict(_PROTOCOL),
  "own": dict(),
  "own_d2": dict(_PLANE, dim=2),  # for the picture
  "smoke": dict(_SMOKE),
  "smoke_caps": dict(_SMOKE, init="caps", init_scale=1.0),
}

# The reconstruction table: dims 2 5 10.
_TABLE = {
  "nouns": ((22.8, 3.18, 2.95), (0.305, 0.923, 0.928)),
  "verbs": ((3.64, 1.26, 1.23), (0.576, 0.935, 0.933)),
}

TARGETS = (
  *(
    harness.Target("Mammals", variant, metric, better=better)
    for variant in ("mammals", "mammals_d2")
    for metric, better in (("mean_rank", "low"), ("map", "high"))
  ),
  *(
    target
    for row, (ranks, maps) in _TABLE.items()
    for d, rank, ap in zip((2, 5, 10), ranks, maps)
    for target in (
      harness.Target("Reconstruction", f"{row}_d{d}", "mean_rank", rank, better="low"),
      harness.Target("Reconstruction", f"{row}_d{d}", "map", ap),
    )
  ),
)


def get_config(variant: str = "mammals") -> Config:
  """The config of a row, or the user's own starting point."""
  return Config(**VARIANTS[variant])


def cpu_threads(config: Config) -> int | None:
  """One for small batches; see geoemb/harness/cpu.py."""
  return hierarchy.cpu_threads(config)


def cpu_devices(config: Config) -> int:
  """One a replica; see geoemb/harness/replicas.py."""
  return hierarchy.cpu_devices(config)


def run(config: Config, workdir: str) -> dict[str, float]:
  """Trains, evaluates, writes the embedding, and returns the metrics that TARGETS names."""
  with jax.enable_x64(config.dtype == "float64"):
    m, score = ranked.model(config.manifold, config.c)

    def optimizer(schedule: optax.Schedule) -> optax.GradientTransformation:
      return rsgd.rsgd(schedule, m, max_step=config.max_step)

    return hierarchy.run(config, workdir, m=m, score=score, optimizer=optimizer)
