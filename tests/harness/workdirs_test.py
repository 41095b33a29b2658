import json
import os
import subprocess
import sys

import pytest

from geoemb.harness import errors, workdirs


def test_nested_locks_of_one_process_are_one(tmp_path):
  with workdirs.locked(str(tmp_path)), workdirs.locked(str(tmp_path)):
    assert (tmp_path / "lock").read_text() == str(os.getpid())
  with workdirs.locked(str(tmp_path)):
    pass


def test_another_process_is_named(tmp_path):
  script = (
    "import sys; from geoemb.harness import workdirs\n"
    "with workdirs.locked(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  )
  try:
    assert process.stdout.readline() == b"held\n"
    with (
      pytest.raises(errors.Abort, match=f"in use by process {process.pid}"),
      workdirs.locked(str(tmp_path)),
    ):
      pass
    # As of a process in another container, where pids are counted anew.
    (tmp_path / "lock").write_text(str(os.getpid()))
    with pytest.raises(errors.Abort, match="in use"), workdirs.locked(str(tmp_path)):
      pass
  finally:
    process.kill()  # the kernel frees the lock, whatever the end
    process.communicate()
  with workdirs.locked(str(tmp_path)):
    pass


def test_a_changed_config_is_shown(tmp_path):
  config = {"lr": 0.3, "dims": (1, 2), "edges": None}
  workdirs.claim(str(tmp_path), "experiments/a.py", config | {"lr": 9})  # it failed at once
  workdirs.claim(str(tmp_path), "experiments/a.py", config)
  (tmp_path / "checkpoints").mkdir()
  workdirs.claim(str(tmp_path), "experiments/a.py", config)
  with pytest.raises(errors.Abort, match=r"lr: 0.3 -> 0.1, edges: null -> \"x\", k: absent -> 1"):
    workdirs.claim(str(tmp_path), "experiments/a.py", config | {"lr": 0.1, "edges": "x", "k": 1})
  with pytest.raises(errors.Abort, match='experiment: "experiments/a.py" -> "experiments/b.py"'):
    workdirs.claim(str(tmp_path), "experiments/b.py", config)


def test_half_a_config_file_is_written_anew(tmp_path):
  (tmp_path / "config.json").write_text('{"config": {"l')
  workdirs.claim(str(tmp_path), "a.py", {"lr": 1})
  assert json.loads((tmp_path / "config.json").read_text())["config"] == {"lr": 1}


@pytest.mark.parametrize("text", [None, '{"config": {"l', "[]"])
@pytest.mark.parametrize("fit", [".", "part"])
def test_checkpoints_without_a_config_are_nobodys(tmp_path, text, fit):
  (tmp_path / fit / "checkpoints").mkdir(parents=True)
  if text:
    (tmp_path / "config.json").write_text(text)
  with pytest.raises(errors.Abort, match="has checkpoints, and no config.json") as e:
    workdirs.claim(str(tmp_path), "a.py", {"lr": 1})
  assert e.value.code == errors.USAGE
  if text:
    assert (tmp_path / "config.json").read_text() == text


def test_runs_below_a_workdir_are_not_its_own(tmp_path):
  (tmp_path / "other" / "checkpoints").mkdir(parents=True)
  (tmp_path / "other" / "config.json").write_text("{}")
  workdirs.claim(str(tmp_path), "a.py", {"lr": 1})


def test_json_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / "x.json"
  workdirs.write_json(str(path), {"a": 1})
  with pytest.raises(TypeError):
    workdirs.write_json(str(path), {"a": object()})
  assert json.loads(path.read_text()) == {"a": 1}
  assert os.listdir(tmp_path) == ["x.json"]
