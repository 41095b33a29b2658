"""The command line as a user has it: every case is a process of its own."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest

from geoemb.harness import writer

TIMES = ("seconds", "pairs_per_second")
LONG = ("--config.steps=1_000_000", "--config.save_every=25_000")  # seconds, and 40 saves


@pytest.fixture(scope="session")
def toy(root):
  """The flag that names the toy experiment."""
  return f"--config={root / 'tests' / 'harness' / 'toy_experiment.py'}"


def lines(workdir):
  rows = writer.read(str(workdir / "metrics.jsonl"))
  return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def assert_one_line(done, code, *parts):
  assert done.returncode == code, done.stderr
  assert done.stdout == ""
  last = done.stderr.strip().splitlines()[-1]
  assert last.startswith("launch.py: ")
  assert "Traceback" not in done.stderr
  for part in parts:
    assert part in last, last


def wait_for(condition, process, seconds=60):
  end = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None, process.stderr.read()
    assert time.monotonic() < end
    time.sleep(0.01)


def test_a_run_leaves_its_result_and_a_second_shows_it(command_line, toy):
  done = command_line(f"{toy}:small")
  assert done.returncode == 0, done.stderr
  workdir = command_line.cwd / "runs" / "toy_experiment-small"
  result = json.loads((workdir / "result.json").read_text())
  assert result["config"]["rows"] == 20
  assert result["metrics"]["turns"] == 300
  assert result["versions"]["jax"]
  assert result["training_seconds"] > 0
  assert result["total_seconds"] > result["training_seconds"]
  assert result["peak_bytes"] > 1e7
  assert result["device"]["platform"] == "cpu"
  assert json.loads((workdir / "config.json").read_text())["config"] == result["config"]
  table = done.stdout.splitlines()
  assert table[1].split() == ["metric", "ours", "paper", "status"]
  assert table[2].split()[0] == "error"
  assert "0.5 (Table 1)" in table[2]
  assert table[2].endswith("reproduced")
  assert "loss" in done.stderr  # one line of progress at least

  written = os.stat(workdir / "result.json").st_mtime_ns
  again = command_line(f"{toy}:small")
  assert again.returncode == 0
  assert again.stdout.startswith("complete")
  assert again.stdout.splitlines()[1:] == table[1:]
  assert os.stat(workdir / "result.json").st_mtime_ns == written

  other = command_line(f"{toy}:small", "--config.lr=0.2", "--config.name=x", f"--workdir={workdir}")
  assert_one_line(other, 2, "lr: 0.1 -> 0.2", 'name: "toy" -> "x"', "another --workdir")


def test_fields_are_read_by_their_types(command_line, toy):
  done = command_line(
      f"{toy}:large", "--config.rows", "10", "--config.lr=2e-1", "--config.save_every=100",
      "--config.name=a b/c", "--config.data=none", "--config.flag", "--config.shape=(3,4,5)",
      "--workdir=here",
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  config = json.loads((command_line.cwd / "here" / "config.json").read_text())["config"]
  assert config == {
      "rows": 10, "lr": 0.2, "steps": 300, "block": 8, "save_every": 100, "name": "a b/c",
      "data": None, "flag": True, "shape": [3, 4, 5], "nan_at": -1, "seed": 0,
  }  # fmt: skip
  assert "rows, lr, save_every, name, flag, shape differ from 'large'" in done.stdout


MISTAKES = {
  "variant": ([":smal"], "did you mean small?"),
  "field": (["", "--config.stepz=3"], "did you mean steps?"),
  "field_as_flag": (["", "--steps=3"], "did you mean --config.steps?"),
  "flag": (["", "--wrkdir=x"], "--workdir"),
  "int": (["", "--config.rows=1.5"], "takes int, got '1.5'"),
  "float": (["", "--config.lr=fast"], "takes float"),
  "bool": (["", "--config.flag=perhaps"], "takes bool"),
  "optional": (["", "--config.save_every=often"], "takes int | None"),
  "no_value": (["", "--config.lr"], "needs a value"),
  "switch": (["", "--record=yes"], "--record is true or false, got 'yes'"),
  "argument": (["", "small"], "unexpected argument 'small'"),
  "not_an_experiment": (["/../loop_test.py"], "no experiment"),
  "record": (["", "--record"], "let the run finish"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(command_line, toy, mistake):
  (suffix, *args), part = MISTAKES[mistake]
  code = 1 if mistake == "record" else 2
  assert_one_line(command_line(toy + suffix, *args), code, part)


def test_an_unknown_experiment_names_the_nearest(command_line):
  done = command_line("--config=experiments/hierarchies/poincare_wordnets.py")
  assert_one_line(done, 2, "did you mean experiments/hierarchies/poincare_wordnet.py")


def test_missing_data_is_one_line(command_line, toy):
  assert_one_line(command_line(toy, "--config.data=/no/such/file"), 1, "/no/such/file not found")


@pytest.mark.parametrize(
  "words, part",
  [
    (["--config.init=cap"], "init must be uniform or ancestral or caps, got 'cap'"),
    (["--config.init=caps", "--config.dim=1"], "caps need at least 2 dimensions, got 1"),
    (["--config.replicas=0"], "replicas must be at least 1, got 0"),
    (["--config.replicas=2", "--config.local_steps=0"], "local_steps must be at least 1, got 0"),
  ],
)
def test_a_setting_that_makes_no_sense_is_one_line(command_line, words, part):
  smoke = "--config=experiments/hierarchies/lorentz_wordnet.py:smoke"
  assert_one_line(command_line(smoke, *words), 1, part)


def test_help_and_list_name_what_there_is(command_line, toy):
  done = command_line(toy, "--help")
  assert done.returncode == 0
  for part in ("--workdir", "small, large, twin", "batches drawn at once", "300"):
    assert part in done.stdout
  done = command_line("--list")
  assert done.returncode == 0
  assert ":mammals" in done.stdout


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_equals_uninterrupted(command_line, toy):
  whole = command_line(toy, *LONG, "--workdir=whole")
  assert whole.returncode == 0, whole.stderr
  rng, workdir = random.Random(0), command_line.cwd / "cut"
  reached = lambda step: any(row["step"] >= step for row in lines(workdir)[-1:])
  for i in range(5):
    process = command_line.start(toy, *LONG, "--workdir=cut")
    until = 150_000 * (i + rng.random())
    wait_for(lambda until=until: reached(until), process)
    time.sleep(rng.uniform(0, 0.05))
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
  last = command_line(toy, *LONG, "--workdir=cut")
  assert last.returncode == 0, last.stderr
  assert "resuming from the checkpoint of step" in last.stderr
  same = [np.load(command_line.cwd / name / "table.npy") for name in ("whole", "cut")]
  np.testing.assert_array_equal(*same)
  assert lines(command_line.cwd / "whole") == lines(workdir)
  assert json.loads((workdir / "result.json").read_text())["resumed"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_resumes(command_line, toy, signum):
  workdir = command_line.cwd / "cut"
  process = command_line.start(toy, *LONG, "--workdir=cut")
  wait_for(lambda: len(lines(workdir)) > 3 if workdir.exists() else False, process)

  second = command_line(toy, *LONG, "--workdir=cut")
  assert_one_line(second, 1, f"in use by process {process.pid}")

  process.send_signal(signum)
  out, err = process.communicate(timeout=60)
  assert process.returncode == 128 + signum, err
  assert "Traceback" not in err
  last = err.strip().splitlines()[-1]
  assert f"stopped by {signum.name} at step" in last
  step = int(last.split("at step ")[1].split()[0])
  assert (workdir / "checkpoints" / str(step)).exists()
  assert not (workdir / "result.json").exists()


def test_a_second_interrupt_exits_at_once(command_line, toy):
  workdir = command_line.cwd / "cut"
  process = command_line.start(toy, "--config.steps=1_000_000_000", "--workdir=cut")
  wait_for((workdir / "metrics.jsonl").exists, process)
  process.send_signal(signal.SIGINT)
  while "once more to exit at once" not in (line := process.stderr.readline()):
    assert line, "it ended without a word"
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=60)
  assert process.returncode == 130


def test_a_loss_that_is_not_finite_is_one_line(command_line, toy):
  done = command_line(toy, "--config.nan_at=155", "--config.save_every=50", "--workdir=nan")
  assert_one_line(done, 1, "not finite at step 156 of 300; the checkpoint of step 150 is kept")
  assert (command_line.cwd / "nan" / "checkpoints" / "150").exists()


def test_damaged_checkpoints(command_line, toy):
  args = (toy, "--config.save_every=100", "--config.steps=300", "--workdir=hurt")
  workdir = command_line.cwd / "hurt"
  assert command_line(*args).returncode == 0
  table = np.load(workdir / "table.npy")

  def hurt(step):
    files = sorted(p for p in (workdir / "checkpoints" / step / "state").rglob("d/*"))
    data = bytearray(files[0].read_bytes())
    data[len(data) // 2] ^= 1
    files[0].write_bytes(data)
    (workdir / "result.json").unlink(missing_ok=True)

  hurt("300")
  done = command_line(*args)
  assert done.returncode == 0, done.stderr
  warnings = [row for row in done.stderr.splitlines() if "damaged" in row]
  assert len(warnings) == 1
  assert "step 300 is damaged, going back to that of step 200" in warnings[0]
  np.testing.assert_array_equal(np.load(workdir / "table.npy"), table)

  for path in (workdir / "checkpoints").iterdir():
    hurt(path.name)
  assert_one_line(command_line(*args), 1, "no checkpoint", "can be read", "delete that folder")


def test_a_workdir_that_cannot_be_written(command_line, toy):
  (command_line.cwd / "file").write_text("")
  assert_one_line(command_line(toy, "--workdir=file"), 1, "cannot write to workdir file")
  assert_one_line(command_line(toy, "--workdir=/proc/none"), 1, "cannot write to workdir")
  folder = command_line.cwd / "fixed"
  folder.mkdir()
  folder.chmod(0o555)
  if os.access(folder, os.W_OK):
    pytest.skip("root may write anywhere")
  assert_one_line(command_line(toy, "--workdir=fixed"), 1, "permission denied")


def test_an_interrupt_before_training_is_one_line(command_line, toy):
  process = command_line.start(toy, "--workdir=x")
  wait_for((command_line.cwd / "x" / "config.json").exists, process)
  process.send_signal(signal.SIGINT)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 130
  assert "Traceback" not in err


@pytest.mark.slow
def test_cores_that_train_side_by_side_resume(command_line):
  config = "--config=experiments/hierarchies/poincare_wordnet.py:smoke"
  words = (config, "--config.replicas=2", "--config.local_steps=4", "--config.epochs=800")
  whole, parts = (command_line.cwd / name for name in ("whole", "parts"))
  done = command_line(*words, f"--workdir={whole}")
  assert done.returncode == 0, done.stderr
  assert "2 replicas agree after 4 steps" in done.stderr
  process = command_line.start(*words, f"--workdir={parts}")
  wait_for((parts / "metrics.jsonl").exists, process)
  process.send_signal(signal.SIGTERM)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM, err
  done = command_line(*words, f"--workdir={parts}")
  assert done.returncode == 0, done.stderr
  tables = [np.load(folder / "embedding.npz")["table"] for folder in (whole, parts)]
  np.testing.assert_array_equal(*tables)
  assert lines(whole) == lines(parts)
