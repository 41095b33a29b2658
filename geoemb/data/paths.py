"""Where data that we may not ship is looked for."""

import os

VARIABLE = "GEOEMB_DATA"


def root(argument: str | os.PathLike | None = None) -> str:
  """The folder of data sets: the argument, else $GEOEMB_DATA, else ./data."""
  return os.fspath(argument or os.environ.get(VARIABLE) or "data")
