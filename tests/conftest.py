"""What all tests share: strict dtype promotion, a compilation cache, the command line."""

import os
import pathlib
import subprocess
import sys
from unittest import mock

import jax
import pytest

from tests import compiling

ROOT = pathlib.Path(__file__).resolve().parent.parent

os.environ.setdefault("MPLBACKEND", "Agg")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 8)  # for tests of replicas; all others use the first
# Compiling is most of the time of the suite; tests.compiling has what asks for more.
with mock.patch.dict(os.environ, {"XLA_FLAGS": compiling.flags()}):
  jax.devices()  # reads the flags
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # used if it has a folder


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
  """The clone."""
  return ROOT


@pytest.fixture(scope="session")
def data_root() -> str:
  """The folder of data sets that are not shipped; a test that needs it is skipped without it."""
  folder = os.environ.get("GEOEMB_DATA", "")
  if not os.path.isdir(folder):
    pytest.skip("GEOEMB_DATA names no folder")
  return folder


class CommandLine:
  """launch.py in a process of its own, as a user has it."""

  def __init__(self, cwd: pathlib.Path, cache: pathlib.Path):
    self.cwd = cwd
    self.env = {**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    self.env.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    self.env.setdefault("JAX_PLATFORMS", "cpu")
    self.env["XLA_FLAGS"] = compiling.flags()

  def start(self, *args: str, **kwargs) -> subprocess.Popen:
    """The running process; its output is text in pipes."""
    command = [sys.executable, str(ROOT / "launch.py"), *map(str, args)]
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    return subprocess.Popen(command, cwd=self.cwd, env=self.env, text=True, **kwargs)

  def __call__(self, *args: str, timeout: float = 120) -> subprocess.CompletedProcess:
    """Runs to the end."""
    process = self.start(*args)
    try:
      out, err = process.communicate(timeout=timeout)
    finally:
      process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory) -> pathlib.Path:
  """A folder for XLA's results, shared by the processes of a test session."""
  return tmp_path_factory.mktemp("xla")


@pytest.fixture
def command_line(tmp_path, compilation_cache) -> CommandLine:
  """launch.py, started from an empty folder."""
  return CommandLine(tmp_path, compilation_cache)
