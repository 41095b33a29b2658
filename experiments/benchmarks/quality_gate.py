"""What a shortcut costs in quality, such as shared negatives: the same training without it.

Run:         python launch.py --config=experiments/benchmarks/quality_gate.py:mammals
Cost:        six trainings and evaluations; the table shows the device.
Departures:  none found; the two sides differ in the fields of `shortcut` and `reference` and in
             nothing else, so their passes, batches, learning rates and seeds are equal. Nouns
             follow geodesics, and so take one path in both charts, as tests/models/ranked_test.py
             shows.
Unspecified: none found.
"""

import dataclasses
import functools
import json
import os
import shutil
import statistics
from typing import Any

from absl import logging

import geoemb
from geoemb import harness
from geoemb.harness import catalogue, workdirs


@dataclasses.dataclass
class Config:
  """Two sides of a comparison; fields are those of the experiment's own Config, as JSON."""

  experiment: str = "experiments/hierarchies/poincare_wordnet.py:mammals"  # FILE:variant
  both: str = "{}"  # fields that both sides change
  shortcut: str = "{}"  # fields that the measured side changes
  reference: str = '{"negatives_shared": 1}'  # fields that the reference changes
  seeds: int = 3  # from `seed` on
  seed: int = 0


_WORDNET = "experiments/hierarchies/{}_wordnet.py:{}".format
_NOUNS = dict(experiment=_WORDNET("poincare", "nouns_d10"), both='{"epochs": 30}')
VARIANTS = {
  "mammals": dict(),
  "mammals_lorentz": dict(experiment=_WORDNET("lorentz", "mammals")),
  "mammals_paper": dict(reference='{"negatives_shared": 1, "batch_size": 10}'),
  "nouns": dict(_NOUNS),
  # Two devices that agree now and then, against one with negatives of its own for each edge.
  "mammals_replicas": dict(shortcut='{"replicas": 2}'),
  "nouns_replicas": dict(_NOUNS, shortcut='{"replicas": 2}'),
  "smoke": dict(experiment=_WORDNET("poincare", "smoke"), both='{"epochs": 1}', seeds=1),
}

_goal = functools.partial(harness.Target, "Goals", goal=True)
TARGETS = tuple(
  _goal(variant, metric, goal, better="low", note=note)
  for variant in VARIANTS
  if variant != "smoke"
  for metric, goal, note in (
    ("map_lost", 0.01, "MAP of the reference − MAP with the shortcut"),
    ("mean_rank_excess", 0.05, "mean rank with the shortcut / of the reference − 1"),
  )
)


def get_config(variant: str = "mammals") -> Config:
  """One comparison."""
  return Config(**VARIANTS[variant])


def cpu_threads(config: Config) -> int | None:
  """As the experiment's reference wants it."""
  return _import(config)[0].cpu_threads(_config(config, "reference", seed=0))


def cpu_devices(config: Config) -> int:
  """As many as either side wants."""
  sides = [_config(config, side, seed=0) for side in ("shortcut", "reference")]
  return max(_import(config)[0].cpu_devices(side) for side in sides)


def run(config: Config, workdir: str) -> dict[str, float]:
  """Trains both sides with every seed; returns the differences of the means and the means.

  Each training is a run in the workdir, so that one that was stopped goes on where it was; once
  measured, two numbers are all that is kept of it.
  """
  found = {"shortcut": [], "reference": []}
  for seed in range(config.seed, config.seed + config.seeds):
    for side, results in found.items():  # in turns
      results.append(_measured(config, side, seed, os.path.join(workdir, f"{side}-{seed}")))

  mean = lambda side, metric: statistics.fmean(one[metric] for one in found[side])
  return {
    "map_lost": mean("reference", "map") - mean("shortcut", "map"),
    "mean_rank_excess": mean("shortcut", "mean_rank") / mean("reference", "mean_rank") - 1,
    **{f"{metric}_{side}": mean(side, metric) for metric in ("mean_rank", "map") for side in found},
  }


def _measured(config: Config, side: str, seed: int, folder: str) -> dict[str, float]:
  """The metrics of one training, from `folder`.json if it is there already."""
  if one := workdirs.read_json(f"{folder}.json"):
    return one
  os.makedirs(folder, exist_ok=True)
  one = _import(config)[0].run(_config(config, side, seed), folder)
  logging.info("%s, seed %d: mean rank %.4g, MAP %.4f", side, seed, one["mean_rank"], one["map"])
  workdirs.write_json(f"{folder}.json", one)
  shutil.rmtree(folder)
  return one


def _import(config: Config) -> tuple[Any, str]:
  """The experiment's module and variant."""
  root = os.path.dirname(os.path.dirname(geoemb.__file__))
  experiment, variant = catalogue.find(config.experiment, root)
  return experiment.load(), variant


def _config(config: Config, side: str, seed: int) -> Any:
  """The experiment's config for one side."""
  module, variant = _import(config)
  changed = json.loads(config.both) | json.loads(getattr(config, side))
  return dataclasses.replace(module.get_config(variant), **changed, seed=seed)
