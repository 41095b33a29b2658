import numpy as np
import pytest

from geoemb.harness import errors, writer


def write(workdir, step, steps):
  lines = writer.Writer(str(workdir), step)
  for s in steps:
    lines.write(s, loss=np.float32(s))
  lines.close()


def steps(workdir):
  return [row["step"] for row in writer.read(str(workdir / "metrics.jsonl"))]


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path):
  write(tmp_path, 0, [10, 20, 30])
  write(tmp_path, 20, [30, 40])
  assert steps(tmp_path) == [10, 20, 30, 40]
  write(tmp_path, 0, [5])
  assert steps(tmp_path) == [5]


@pytest.mark.parametrize("end", [b'{"step": 3', b'{"step": 30}', b"\x00\x00\n", b"[1]\n"])
def test_a_half_written_last_line_is_dropped(tmp_path, end):
  write(tmp_path, 0, [10, 20])
  with open(tmp_path / "metrics.jsonl", "ab") as f:
    f.write(end)
  assert steps(tmp_path) == [10, 20]
  write(tmp_path, 20, [30])
  assert steps(tmp_path) == [10, 20, 30]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  with pytest.raises(errors.Abort, match="cannot write"):
    writer.Writer(str(tmp_path / "none"))
