"""STS Benchmark: pairs of sentences with human scores of their similarity [cer2017stsb].

The files are not shipped: put sts-train.csv, sts-dev.csv and sts-test.csv into stsb/ of the data
folder, see `paths.root`.
"""

import os
from typing import NamedTuple

import numpy as np

from geoemb.data import paths

SIZES = {"train": 5749, "dev": 1500, "test": 1379}


class Pairs(NamedTuple):
  """Pairs of sentences."""

  first: list[str]
  second: list[str]
  scores: np.ndarray  # [n] float64, 0 to 5


def load(split: str = "test", *, root: str | os.PathLike | None = None) -> Pairs:
  """The pairs of a split: 5,749 of "train", 1,500 of "dev", or 1,379 of "test".

  Args:
    split: which.
    root: folder of data sets.

  Raises:
    ValueError: no such split, or a file that is not what its name says.
    FileNotFoundError: the file is missing.
  """
  if split not in SIZES:
    raise ValueError(f"split must be one of {', '.join(SIZES)}, got {split!r}")
  path = os.path.join(paths.root(root), "stsb", f"sts-{split}.csv")
  if not os.path.exists(path):
    raise paths.missing(path, "STS Benchmark's files", "stsb")
  try:
    with open(path, encoding="utf-8", newline="\n") as file:
      # Tabs, no quoting: genre, file, year, id, score, two sentences, and at times their sources.
      rows = [line.rstrip("\n").split("\t") for line in file]
    scores = np.array([float(row[4]) for row in rows])
    first, second = ([row[i].strip() for row in rows] for i in (5, 6))
  except (IndexError, ValueError) as error:
    raise ValueError(f"{path} is not as STS Benchmark is: {error}") from None
  if len(rows) != SIZES[split]:
    raise ValueError(f"{path} must have {SIZES[split]} lines, got {len(rows)}")
  return Pairs(first, second, scores)
