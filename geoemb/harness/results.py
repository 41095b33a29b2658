"""result.json of a run, and the committed records that --record makes of them."""

import glob
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from geoemb.harness import catalogue, errors, machine, workdirs, writer

_FILE = "result.json"


def finished(workdir: str) -> dict[str, Any] | None:
  """The result of a finished run; None if it has not finished."""
  result = workdirs.read_json(os.path.join(workdir, _FILE))
  return result if isinstance(result, dict) and "metrics" in result else None


def _training_seconds(workdir: str) -> float | None:
  """Over all resumptions, summed over the fits of the run (one metrics.jsonl each)."""
  files = glob.glob(os.path.join(glob.escape(workdir), "**", "metrics.jsonl"), recursive=True)
  last = [[row["seconds"] for row in writer.read(f) if "seconds" in row][-1:] for f in files]
  seconds = [s for rows in last for s in rows]
  return round(sum(seconds), 3) if seconds else None


def write(
  workdir: str,
  *,
  experiment: str,
  variant: str,
  config: dict[str, Any],
  metrics: Mapping[str, float],
  root: str,
  started: float,
  resumed: bool,
) -> dict[str, Any]:
  """Writes result.json and returns its content.

  Args:
    workdir: the run's folder.
    experiment: its address.
    variant: its variant.
    config: its config, as JSON has it.
    metrics: what `run` returned.
    root: the checkout, whose commit is noted.
    started: time.time() when this process began.
    resumed: whether an earlier process did a part, whose time total_seconds lacks.

  Raises:
    Abort: if the file cannot be written.
  """
  result = {
    "experiment": experiment,
    "variant": variant,
    "metrics": {k: float(v) for k, v in metrics.items()},
    "config": config,
    "versions": machine.versions(),
    "commit": machine.commit(root),
    "device": machine.device(),
    "cpus": machine.cpus(),
    "training_seconds": _training_seconds(workdir),
    "total_seconds": round(time.time() - started, 3),
    "resumed": resumed,
    "peak_bytes": machine.peak_bytes(),
  }
  path = os.path.join(workdir, _FILE)
  try:
    workdirs.write_json(path, result)
  except OSError as e:
    raise errors.Abort(errors.os_error(e, f"cannot write {path}")) from e
  return result


def path(experiment: catalogue.Experiment) -> str:
  """The file of an experiment's records."""
  return os.path.join(os.path.dirname(experiment.path), "results", f"{experiment.name}.json")


def records(experiment: catalogue.Experiment) -> list[dict[str, Any]]:
  """Recorded runs of an experiment, sorted by variant and seed.

  Raises:
    ValueError: if the file is damaged.
  """
  if not os.path.exists(path(experiment)):
    return []
  with open(path(experiment), encoding="utf-8") as f:
    try:
      return json.load(f)["runs"]
    except (ValueError, KeyError, TypeError) as e:
      raise ValueError(f"{path(experiment)} is not a file of records: {e}") from e


def record(experiment: catalogue.Experiment, variant: str, workdir: str, root: str) -> str:
  """Merges a finished run into the experiment's records, one entry a variant and seed.

  Raises:
    Abort: if the run has not finished, or its config is not the variant's of today.
  """
  result = finished(workdir)
  if result is None:
    raise errors.Abort(f"nothing to record: {workdir} has no {_FILE}; let the run finish first")
  here = catalogue.address(experiment.path, root)
  if result["experiment"] != here:
    raise errors.Abort(f"{workdir} is a run of {result['experiment']}, not of {here}", errors.USAGE)
  today = catalogue.plain(experiment.config(variant))
  if changed := workdirs.difference(*experiment.same(today, result["config"])):
    raise errors.Abort(
      f"{workdir} is not a run of {variant!r} as it is today ({changed}); not recorded",
      errors.USAGE,
    )
  entry = {"variant": variant, "seed": result["config"].get("seed", 0)}
  entry |= {k: v for k, v in result.items() if k not in ("experiment", "variant")}
  if variant in experiment.partial:
    entry["partial"] = experiment.partial[variant]
  same = lambda r: (r["variant"], r["seed"]) == (entry["variant"], entry["seed"])
  file = path(experiment)
  with workdirs.alone(os.path.dirname(file)):
    runs = [r for r in records(experiment) if not same(r)] + [entry]
    runs.sort(key=lambda r: (r["variant"], r["seed"]))
    try:
      workdirs.write_json(file, {"experiment": here, "runs": runs})
    except OSError as e:
      raise errors.Abort(errors.os_error(e, f"cannot write {file}")) from e
  return f"recorded {variant}, seed {entry['seed']}, in {os.path.relpath(file)}"


def split_stale(
  experiment: catalogue.Experiment, variant: str, runs: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
  """The variant's runs that have today's config, and those that have another."""
  mine = [r for r in runs if r["variant"] == variant]
  if not mine:
    return [], []
  today = catalogue.plain(experiment.config(variant))
  fresh = [r for r in mine if not workdirs.difference(*experiment.same(today, r["config"]))]
  return fresh, [r for r in mine if r not in fresh]
