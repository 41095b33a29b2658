"""Poincaré embeddings of WordNet [nickel2017poincare]: Table 1 and its Euclidean baselines.

Run:         python launch.py --config=experiments/hierarchies/poincare_wordnet.py:nouns_d10
Your own:    the same with :own and --config.edges=FILE
Cost:        seconds (mammals) to minutes (nouns) on two CPU cores; the tables show each run's.
Departures:  synchronous batches, where the paper's code runs lock-free threads. A rejected negative
             is left out, not drawn again, and the negatives of an edge may repeat. Batches share
             their negatives (negatives_shared); mammals_independent draws them for each edge. Nouns
             and verbs start from a table that knows the graph (init), remember hard negatives
             (hard_*), follow geodesics, and use curvature −c > −1; mammals do not.
Unspecified: the held-out edges of link prediction: ours are in geoemb/data/splits.py.
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
  manifold: str = "poincare"  # poincare, lorentz, euclidean (squared distance) or translational
  c: float = 1 / 9  # curvature −c of the hyperbolic space
  dim: int = 10  # coordinates
  dtype: str = "float64"  # or float32: faster, but far points blur sooner
  epochs: float = 100  # passes over the edges
  batch_size: int = 50  # edges a step
  lr: float = 18.0  # learning rate for lr_batch edges; grows with batch_size
  lr_batch: int = 50  # see lr
  lr_end: float = 0.02  # share of lr at the end, reached linearly after the burn-in
  max_grad: float | None = None  # longest Riemannian gradient, in chart coordinates
  max_step: float | None = 3.0  # longest step, in the metric
  exact: bool = True  # follow geodesics; otherwise x + v, projected, as the paper does
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


_MAMMALS = dict(  # the authors' train-mammals.sh, with negatives shared in batches of 50
  data="mammal", dim=5, c=1.0, lr=0.3, lr_batch=10, lr_end=1.0, epochs=300, burn_in=20,
  max_grad=5.0, max_step=None, exact=False, init="uniform", init_scale=1e-4,
  hard_negatives=0, hard_weight=0.0, hard_from=0,
)  # fmt: skip
# Few dimensions need more curvature, and a start in which subtrees are apart already.
_LOW = dict(c=0.25, lr=40.0, max_step=2.0, init="caps", init_scale=1.0, hard_from=1)
_EUCLIDEAN = dict(manifold="euclidean")
_FLAT_NOUNS = dict(  # of a sweep over 10 passes; others trade mean rank for a little MAP
  lr=1.0, max_step=None, init="caps", init_scale=0.15, hard_weight=0.3, hard_from=1
)  # fmt: skip
_DIMS = (5, 10, 20, 50, 100, 200)

_SMOKE = dict(
  _MAMMALS, data="tree", dim=2, epochs=3, burn_in=1, batch_size=10, negatives=5, negatives_shared=10
)
VARIANTS = {
  "mammals": dict(_MAMMALS),
  "mammals_d2": dict(_MAMMALS, dim=2, epochs=1000),
  "mammals_independent": dict(_MAMMALS, batch_size=10, negatives_shared=1),
  "mammals_euclidean": dict(_MAMMALS, **_EUCLIDEAN),
  "mammals_euclidean_d2": dict(_MAMMALS, **_EUCLIDEAN, dim=2, epochs=1000),
  **{f"nouns_d{d}": dict(_LOW if d == 5 else {}, dim=d) for d in _DIMS},
  "nouns_d5_start": dict(_LOW, dim=5, epochs=0),  # the first table, for what training adds to it
  **{f"nouns_euclidean_d{d}": dict(_EUCLIDEAN, **_FLAT_NOUNS, dim=d) for d in _DIMS},
  **{
    f"nouns_translational_d{d}": dict(_FLAT_NOUNS, manifold="translational", dim=d) for d in _DIMS
  },
  **{f"link_d{d}": dict(_LOW if d == 5 else {}, dim=d, predict=True) for d in _DIMS},
  "verbs_d10": dict(data="verb"),
  "own": dict(),
  "smoke": dict(_SMOKE),
  "smoke_links": dict(_SMOKE, predict=True),
}

# Table 1, reconstruction: dims 5 10 20 50 100 200.
_RECONSTRUCTION = {
  "nouns_euclidean": ((3542.3, 2286.9, 1685.9, 1281.7, 1187.3, 1157.3),
                      (0.024, 0.059, 0.087, 0.140, 0.162, 0.168)),
  "nouns_translational": ((205.9, 179.4, 95.3, 92.8, 92.7, 91.0),
                          (0.517, 0.503, 0.563, 0.566, 0.562, 0.565)),
  "nouns": ((4.9, 4.02, 3.84, 3.98, 3.9, 3.83), (0.823, 0.851, 0.855, 0.86, 0.857, 0.87)),
}  # fmt: skip
# Link prediction; the paper's held-out edges are not published.
_LINKS = ((5.7, 4.3, 4.9, 4.6, 4.6, 4.6), (0.825, 0.852, 0.861, 0.863, 0.856, 0.855))
_MAMMALS_NOTE = "the authors' 300-epoch script, as reported to their repository"

TARGETS = (
  harness.Target("Mammals", "mammals", "mean_rank", 1.26, better="low", note=_MAMMALS_NOTE),
  harness.Target("Mammals", "mammals", "map", 0.927, note=_MAMMALS_NOTE),
  *(
    harness.Target("Mammals", variant, metric, better=better)
    for variant in ("mammals_euclidean", "mammals_d2", "mammals_euclidean_d2")
    for metric, better in (("mean_rank", "low"), ("map", "high"))
  ),
  *(
    target
    for row, (ranks, maps) in _RECONSTRUCTION.items()
    for d, rank, ap in zip(_DIMS, ranks, maps)
    for target in (
      harness.Target("Table 1, reconstruction", f"{row}_d{d}", "mean_rank", rank, better="low"),
      harness.Target("Table 1, reconstruction", f"{row}_d{d}", "map", ap),
    )
  ),
  *(
    harness.Target("Untrained", "nouns_d5_start", metric, better=better)
    for metric, better in (("mean_rank", "low"), ("map", "high"))
  ),
  *(
    target
    for d, rank, ap in zip(_DIMS, *_LINKS)
    for target in (
      harness.Target(
        "Table 1, link prediction", f"link_d{d}", "link_mean_rank", rank, better="low"
      ),
      harness.Target("Table 1, link prediction", f"link_d{d}", "link_map", ap),
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
      return rsgd.rsgd(
        schedule, m, max_grad=config.max_grad, max_grad_norm="chart", max_step=config.max_step,
        move="exp" if config.exact else "retract",
      )  # fmt: skip

    return hierarchy.run(config, workdir, m=m, score=score, optimizer=optimizer)
