"""Where data that we may not ship is looked for, and where what takes long to compute is kept."""

import os

VARIABLE = "GEOEMB_DATA"
CACHE = "GEOEMB_CACHE"


def root(argument: str | os.PathLike | None = None) -> str:
  """The folder of data sets: the argument, else $GEOEMB_DATA, else ./data."""
  return os.fspath(argument or os.environ.get(VARIABLE) or "data")


def missing(path: str, what: str, folder: str) -> FileNotFoundError:
  """The error for a path of the data folder that is not there: what belongs into `folder` of it."""
  return FileNotFoundError(
    f"{path} not found: put {what} there, or name the folder that has {folder}/ in {VARIABLE}"
  )


def cache() -> str:
  """The folder of results that may be deleted: $GEOEMB_CACHE, else the user's own cache."""
  user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
  return os.environ.get(CACHE) or os.path.join(user, "geoemb")
