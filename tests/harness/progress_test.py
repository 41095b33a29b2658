import sys

import pytest
from absl import logging

from geoemb.harness import progress


@pytest.fixture
def clock(monkeypatch):
  now = [1000.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  return now


def test_a_line_a_minute_without_a_terminal(monkeypatch, caplog, clock):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
  logging.set_verbosity(logging.INFO)
  bar = progress.Progress(0, 1000, "pairs")
  for second in range(200):
    clock[0] += 1
    bar.update(second, 5.0, 12_345.0, 0.25)
  bar.update(1000, 5.0, 1.2e7, None)
  bar.close()
  lines = [r.getMessage() for r in caplog.records]
  assert [line.split(",")[0] for line in lines] == [
      "step 2/1000", "step 62/1000", "step 122/1000", "step 182/1000", "step 1000/1000"
  ]  # fmt: skip
  assert lines[0] == "step 2/1000, 12.3k pairs/s, loss 0.25, 3:20 left"
  assert lines[-1] == "step 1000/1000, 12M pairs/s, 0:00 left"


def test_a_bar_on_a_terminal(monkeypatch, capsys):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  bar = progress.Progress(250, 1000, "pairs")
  bar.update(500, 100.0, 1.5e6, 0.125)
  bar.close()
  shown = capsys.readouterr().err.split("\r")[-1]
  for part in ("50%", "500/1000 steps", "1.5M pairs/s", "loss 0.125"):
    assert part in shown
