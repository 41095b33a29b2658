import json
import os
import pathlib
import shutil
import time
from concurrent import futures

import pytest

from geoemb.harness import catalogue, errors, report, results, workdirs

EXPERIMENT = '''"""A toy of tables [toy].

More about it.
"""

import dataclasses

import jax.does_not_exist
from geoemb import harness
from geoemb.manifolds import nothing_of_the_kind


@dataclasses.dataclass
class Config:
  lr: float = 0.1  # step size
  dim: int = 5
  every: int = 10
  seed: int = 0


VARIANTS = {f"dim{d}": dict(dim=d) for d in (5, 10)} | {"less": dict(lr=0.2), "smoke": dict(dim=1)}
TARGETS = (
    harness.Target("Table 1", variant="dim5", metric="map", paper=0.823, tol=0.01),
    harness.Target("Table 1", variant="dim10", metric="map", paper=0.851, tol=0.01, note="theirs"),
    harness.Target("Ours", variant="less", metric="rank", better="low"),
    harness.Target("Goals", variant="dim5", metric="rank", paper=0.5, better="low", goal=True),
)
PARTIAL = {"less": "one pass of ten"}
INCIDENTAL = ("every",)


def get_config(variant: str = "dim10") -> Config:
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, jax.Array]:
  return {}
'''


@pytest.fixture
def clone(tmp_path):
  folder = tmp_path / "experiments" / "family"
  folder.mkdir(parents=True)
  (folder / "toy.py").write_text(EXPERIMENT)
  (folder / "helper.py").write_text("x = 1\n")
  return tmp_path


@pytest.fixture
def toy(clone):
  return catalogue.read(str(clone / "experiments" / "family" / "toy.py"))


def run(clone, toy, name="run", seed=0, variant="dim5", value=0.82, **changes):
  workdir = clone / name
  workdir.mkdir()
  result = {
    "experiment": "experiments/family/toy.py",
    "variant": variant,
    "metrics": {} if value is None else {"map": value, "rank": value},
    "config": catalogue.plain(toy.config(variant)) | {"seed": seed} | changes,
    "device": {"platform": "gpu", "kind": "A GPU", "count": 1},
    "cpus": 4,
    "training_seconds": 90.0 + seed,
  }
  (workdir / "result.json").write_text(json.dumps(result))
  return str(workdir)


def test_declarations_need_no_imports(clone, toy):
  assert toy.title == "A toy of tables [toy]."
  assert toy.variants == ["dim5", "dim10", "less", "smoke"]
  assert toy.default == "dim10"
  assert [(f.name, f.type, f.default, f.comment) for f in toy.fields][:2] == [
    ("lr", "float", 0.1, "step size"),
    ("dim", "int", 5, ""),
  ]
  names = lambda: [p.rsplit("/", 1)[1] for p in catalogue.paths(str(clone))]
  assert names() == ["toy.py"]
  toy = clone / "experiments" / "family" / "toy.py"
  toy.write_text(toy.read_text().replace("VARIANTS = {", "VARIANTS: dict[str, dict] = {"))
  assert names() == ["toy.py"]


def test_addresses(clone):
  root = str(clone)
  _, variant = catalogue.find("experiments/family/toy.py", root)
  assert variant == "dim10"
  _, variant = catalogue.find("experiments/family/toy.py:less", root)
  assert variant == "less"
  for wrong, hint in {
    "experiments/family/toys.py": "did you mean experiments/family/toy.py",
    "toy.py": "did you mean experiments/family/toy.py",
    "experiments/family/toy.py:dim6": "did you mean dim5",
    "experiments/family/toy.py:zzz": "there is dim5, dim10, less, smoke",
    "experiments/family/helper.py": "not an experiment",
    "experiments/family": "no experiment",
  }.items():
    with pytest.raises(errors.Abort, match=hint) as e:
      catalogue.find(wrong, root)
    assert e.value.code == errors.USAGE


def test_records_are_merged_by_variant_and_seed(clone, toy):
  root = str(clone)
  for name, seed, value in (("a", 1, 0.82), ("b", 0, 0.83), ("c", 1, 0.81)):
    results.record(toy, "dim5", run(clone, toy, name, seed, value=value, every=3), root)
  results.record(toy, "less", run(clone, toy, "d", variant="less", value=2.0), root)
  found = [(r["variant"], r["seed"], r["metrics"]["map"]) for r in results.records(toy)]
  assert found == [("dim5", 0, 0.83), ("dim5", 1, 0.81), ("less", 0, 2.0)]


def test_records_that_are_made_at_once_are_all_kept(clone, toy, monkeypatch):
  runs = [run(clone, toy, f"s{seed}", seed) for seed in range(4)]
  records = results.records

  def slow(experiment):
    found = records(experiment)
    time.sleep(0.05)
    return found

  monkeypatch.setattr(results, "records", slow)
  with futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda folder: results.record(toy, "dim5", folder, str(clone)), runs))
  assert [r["seed"] for r in records(toy)] == [0, 1, 2, 3]
  assert os.listdir(os.path.dirname(results.path(toy))) == ["toy.json"]


def test_reports_wait_for_each_other(clone):
  with futures.ThreadPoolExecutor(1) as pool:
    with workdirs.alone(str(clone / "experiments")):
      report_ = pool.submit(report.write, str(clone))
      assert not futures.wait([report_], timeout=0.1).done
    assert len(report_.result(timeout=60)) == 2


def test_only_todays_variant_is_recorded(clone, toy):
  with pytest.raises(errors.Abort, match=r"not a run of 'dim5' .*\(lr: 0.1 -> 0.3\)"):
    results.record(toy, "dim5", run(clone, toy, lr=0.3), str(clone))
  with pytest.raises(errors.Abort, match="let the run finish"):
    results.record(toy, "dim5", str(clone / "nowhere"), str(clone))


def test_statuses(clone, toy):
  root = str(clone)
  assert [row.status for row in report.rows(toy)] == ["not run"] * 4
  results.record(toy, "dim5", run(clone, toy, "a", 0, value=0.82), root)
  results.record(toy, "dim10", run(clone, toy, "b", 0, "dim10", value=0.7), root)
  results.record(toy, "less", run(clone, toy, "c", 0, "less", value=3.5), root)
  statuses = [row.status for row in report.rows(toy)]
  assert statuses == ["reproduced", "off", "partial: one pass of ten", "missed"]
  file = clone / "experiments" / "family" / "toy.py"
  file.write_text(EXPERIMENT.replace("lr: float = 0.1", "lr: float = 0.4"))
  changed = catalogue.read(str(file))
  assert [row.status for row in report.rows(changed)][:2] == ["stale", "stale"]
  listing = report.listing([changed], root)
  assert ":dim5   stale" in listing
  assert ":smoke  –" in listing


def test_pages_are_built_from_the_records_alone(clone, toy):
  root = str(clone)
  for seed, value in ((0, 0.82), (1, 0.83), (2, 0.81)):
    results.record(toy, "dim5", run(clone, toy, f"s{seed}", seed, value=value), root)
  assert len(report.write(root)) == 2
  assert report.write(root) == []
  page = (clone / "experiments" / "family" / "README.md").read_text()
  row = "| dim5 | map | 0.823 | 0.8200 ± 0.0100 (3 seeds) | −0.0030 | reproduced | 91 s, A GPU |  |"
  assert row in page
  assert "| dim10 | map | 0.851 | – | – | not run | – | theirs |" in page
  assert "| row | metric | goal | ours |" in page
  assert "| dim5 | rank | 0.5 | 0.820 ± 0.010 (3 runs) | +0.320 | missed | 91 s, A GPU |" in page
  index = (clone / "experiments" / "README.md").read_text()
  assert "[toy](family/toy.py)" in index
  assert "1 reproduced, 2 not run, 1 missed" in index


def test_runs_that_do_not_have_what_they_sought(clone, toy):
  root, status = str(clone), lambda: report.rows(toy)[0].status
  results.record(toy, "dim5", run(clone, toy, "a", 0, value=None), root)
  assert status() == "no value"
  for seed, value in ((1, 0.82), (2, 0.83)):
    results.record(toy, "dim5", run(clone, toy, f"b{seed}", seed, value=value), root)
  assert status() == "reproduced"
  report.write(root)
  page = (clone / "experiments" / "family" / "README.md").read_text()
  assert "| 0.8250 ± 0.0071 (2 of 3 seeds) |" in page


def test_rows_without_a_figure_stand_side_by_side(clone):
  file = clone / "experiments" / "family" / "toy.py"
  more = "".join(
    f"  harness.Target('Table 1', variant={v!r}, metric={m!r}),\n"
    for v in ("dim10", "less", "smoke") for m in ("rank", "ndcg")
  )  # fmt: skip
  more += "".join(
    f"  harness.Target('Table 2', 'less', {m!r}, place=({p!r}, {m!r})),\n"
    for m in ("map", "rank") for p in ("dog", "cat")
  )  # fmt: skip
  file.write_text(EXPERIMENT.replace("TARGETS = (\n", f"TARGETS = (\n{more}"))
  toy, root = catalogue.read(str(file)), str(clone)
  for seed, value in ((0, 3.0), (1, 5.0)):
    made = run(clone, toy, f"s{seed}", seed, "dim10", value=value)
    results.record(toy, "dim10", made, root)
  results.record(toy, "less", run(clone, toy, "less", variant="less", value=0.2), root)
  report.write(root)
  page = (clone / "experiments" / "family" / "README.md").read_text()
  assert page.count("| dim5 | map | 0.823 |") == 1  # what is held against a figure has its line
  for line in (
    "| row | rank | ndcg | status | seeds | training time, device |",
    "| dim10 | 4 ± 1.414 | – | recorded; no value | 2 | 90.5 s, A GPU |",
    "| less | 0.2 | – | partial: one pass of ten; no value | 1 | 90 s, A GPU |",
    "| smoke | – | – | not run | 0 | – |",
    "| row | map | rank | status | seeds | training time, device |",
    "| cat | 0.2 | 0.2 | partial: one pass of ten | 1 | 90 s, A GPU |",
  ):
    assert line in page


def test_prose_around_the_tables_is_kept(clone):
  report.write(str(clone))
  path = clone / "experiments" / "family" / "README.md"
  prose = path.read_text().replace("# Family\n", "# Trees\n\nWhat we learned.\n") + "\nThe end.\n"
  path.write_text(prose)
  assert report.write(str(clone)) == []
  assert path.read_text() == prose
  path.write_text("no marks")
  with pytest.raises(errors.Abort, match="once each"):
    report.write(str(clone))


def test_the_committed_pages_are_what_the_records_say(root):
  for path, text in report.pages(str(root)).items():
    page = pathlib.Path(path)
    assert page.exists() and page.read_text(encoding="utf-8") == text, (
      f"{path}: run `python launch.py --report`"
    )


def test_a_damaged_record_is_named(clone, toy):
  folder = clone / "experiments" / "family" / "results"
  folder.mkdir()
  (folder / "toy.json").write_text("{")
  with pytest.raises(ValueError, match="toy.json is not a file of records"):
    results.records(toy)
  shutil.rmtree(folder)
