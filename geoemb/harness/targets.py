"""What a paper reports, or we want, and how a run compares with it."""

import dataclasses
import statistics
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Target:
  """One number of a paper's table.

  Attributes:
    table: where it stands, "Table 1"; rows are grouped by it.
    variant: the variant that reproduces it.
    metric: name of the metric among those that `run` returns.
    paper: the published figure; None for a row of ours that no paper has.
    tol: by how much ours may be worse and still count as reproduced.
    better: "high" or "low".
    note: a remark for the table, such as who published the figure.
    goal: the figure in `paper` is a goal of ours, which no paper gives.
    place: row and column of a number that is shown beside others; else the variant and the metric.
  """

  table: str
  variant: str
  metric: str
  paper: float | None = None
  tol: float = 0.0
  better: str = "high"
  note: str = ""
  goal: bool = False
  place: tuple[str, str] | None = None

  def __post_init__(self):
    if self.better not in ("high", "low"):
      raise ValueError(f'better must be "high" or "low", got {self.better!r}')

  def status(self, values: Sequence[float]) -> str:
    """Of the mean over seeds: "reproduced" if it is worse than the paper by at most tol, or "off".

    For a goal "met" or "missed".
    """
    if not values:
      return "not run"
    if self.paper is None:
      return "recorded"
    gap = statistics.fmean(values) - self.paper
    worse = -gap if self.better == "high" else gap
    good, bad = ("met", "missed") if self.goal else ("reproduced", "off")
    return good if worse <= self.tol else bad  # nan is bad
