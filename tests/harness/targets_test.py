import math

import pytest

from geoemb import harness

T = harness.Target("Table 1", variant="a", metric="map", paper=0.8, tol=0.01)
GOAL = harness.Target("Goals", variant="a", metric="ratio", paper=9.0, goal=True)
LOW = harness.Target("Table 1", variant="a", metric="rank", paper=4.0, tol=0.1, better="low")


@pytest.mark.parametrize(
  "target, values, status",
  [
    (T, [], "not run"),
    (T, [0.795], "reproduced"),
    (T, [0.95], "reproduced"),  # better than the paper
    (T, [0.78], "off"),
    (T, [0.78, 0.81], "reproduced"),  # the mean counts
    (T, [math.nan], "off"),
    (GOAL, [], "not run"),
    (GOAL, [9.0], "met"),
    (GOAL, [8.9], "missed"),
    (LOW, [4.05], "reproduced"),
    (LOW, [1.0], "reproduced"),
    (LOW, [4.2], "off"),
    (harness.Target("Ours", variant="a", metric="map"), [0.1], "recorded"),
  ],
)
def test_status(target, values, status):
  assert target.status(values) == status


def test_better_is_checked():
  with pytest.raises(ValueError, match="better"):
    harness.Target("Table 1", variant="a", metric="map", better="higher")
