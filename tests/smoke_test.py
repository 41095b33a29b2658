"""Every experiment's smoke variant runs and returns the metrics that its targets name."""

import dataclasses
import math
import pathlib
import time

import pytest

from geoemb.harness import catalogue

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATHS = catalogue.paths(str(ROOT))


def name_of(path):
  return pathlib.Path(path).stem


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_smoke(path, tmp_path):
  experiment = catalogue.read(path)
  module = experiment.load()
  begin = time.process_time()
  metrics = module.run(module.get_config("smoke"), str(tmp_path))
  seconds = time.process_time() - begin
  missing = {t.metric for t in experiment.targets} - metrics.keys()
  assert not missing
  for name, value in metrics.items():
    assert isinstance(float(value), float), name
    assert math.isfinite(value), name
  assert seconds < 40, "a smoke variant takes some seconds, compilation included"


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
