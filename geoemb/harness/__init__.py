"""Everything around an experiment that is not mathematics. jax is imported only when needed."""

import importlib
from typing import Any

_HOME = {
  "Abort": "errors",
  "Fit": "loop",
  "Target": "targets",
  "Writer": "writer",
  "fit": "loop",
}


def __getattr__(name: str) -> Any:
  """`harness.fit` without importing jax for those who only declare a `harness.Target`."""
  if name not in _HOME:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
