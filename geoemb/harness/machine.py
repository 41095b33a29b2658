"""What a run ran on."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from typing import Any

import geoemb

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str | None]:
  """Of python, geoemb and the packages that numbers depend on."""
  found: dict[str, str | None] = {
    "python": platform.python_version(),
    "geoemb": geoemb.__version__,
  }
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = None
  return found


def commit(root: str) -> str | None:
  """The git commit of the checkout at `root`, "-dirty" if changed since; None without git."""
  command = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip() or None


def _cpu() -> str:
  try:
    with open("/proc/cpuinfo") as f:
      for line in f:
        if line.startswith("model name"):
          return line.split(":", 1)[1].strip()
  except OSError:
    pass
  return platform.processor() or platform.machine()


def cpus() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device() -> dict[str, Any]:
  """Platform, kind and number of jax's devices."""
  import jax  # only runs get here; --help and --report stay free of it

  devices = jax.devices()
  kind = devices[0].device_kind
  if devices[0].platform == "cpu":
    kind = _cpu()
  return {"platform": devices[0].platform, "kind": kind, "count": len(devices)}


def peak_bytes() -> int:
  """Peak resident memory of this process."""
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
