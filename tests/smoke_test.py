"""Every experiment's smoke variant runs and returns the metrics that its targets name."""

import dataclasses
import math
import pathlib
import time

import pytest

from geoemb.harness import catalogue
from tests import compiling

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATHS = catalogue.paths(str(ROOT))


def name_of(path):
  return pathlib.Path(path).stem


def slow_if_benchmark(path):
  marks = [pytest.mark.slow] if pathlib.Path(path).parent.name == "benchmarks" else []
  return pytest.param(path, marks=marks, id=name_of(path))


@pytest.mark.parametrize("path", [slow_if_benchmark(path) for path in PATHS])
def test_smoke(path, tmp_path, monkeypatch):
  """All variants called smoke or smoke_…; together they return every metric of the targets."""
  monkeypatch.setenv("XLA_FLAGS", compiling.flags())  # of processes that an experiment starts
  experiment = catalogue.read(path)
  module = experiment.load()
  returned = set()
  for variant in (v for v in experiment.variants if v.split("_")[0] == "smoke"):
    begin = time.process_time()
    metrics = module.run(module.get_config(variant), str(tmp_path / variant))
    assert time.process_time() - begin < 40, "a smoke variant takes seconds, compilation included"
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    returned |= metrics.keys()
  assert not {t.metric for t in experiment.targets} - returned


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_declarations(path):
  experiment = catalogue.read(path)
  assert "smoke" in experiment.variants
  assert experiment.default in experiment.variants
  for part in ("Run:", "Cost:", "Departures:", "Unspecified:"):
    assert part in experiment.doc, f"the docstring lacks {part}"
  for target in experiment.targets:
    assert target.variant in experiment.variants
  for field in experiment.fields:
    assert isinstance(field.default, (int, float, str, bool, tuple, type(None))), field.name
  # What --help and --report execute apart from the imports is what runs.
  module = experiment.load()
  for variant in experiment.variants:
    mine, real = experiment.config(variant), module.get_config(variant)
    assert dataclasses.asdict(mine) == dataclasses.asdict(real)
