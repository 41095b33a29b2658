import os
import pathlib
import subprocess
import sys

import pytest

from geoemb.harness import cpu

SCRIPT = """
import os, pathlib, sys
from geoemb.harness import cpu
kept = cpu.limit_threads(int(sys.argv[1]))
import jax, jax.numpy as jnp

def threads():
  jnp.ones(3).sum().block_until_ready()
  tasks = pathlib.Path("/proc/self/task").glob("*/comm")
  return sum(comm.read_text() == "tf_XLAEigen\\n" for comm in tasks)

before = threads()
freed = cpu.free_threads()
print(kept, before, freed, "PJRT_NPROC" in os.environ, float(jnp.arange(5.).sum()))
"""


@pytest.mark.parametrize(
  "n, env, expected",
  [
    (1, {}, ["None", "1", "True", "False", "10.0"]),
    (3, {}, ["None", "3", "True", "False", "10.0"]),
    (1, {"NPROC": "2"}, ["NPROC", "2", "False", "False", "10.0"]),
    (1, {"PJRT_NPROC": "2"}, ["PJRT_NPROC", "2", "False", "True", "10.0"]),
  ],
)
def test_limits_what_xla_has_unless_the_user_did(root, n, env, expected):
  if not pathlib.Path("/proc/self/task").is_dir():
    pytest.skip("threads are counted in /proc")
  clean = {k: v for k, v in os.environ.items() if k not in ("NPROC", "PJRT_NPROC")}
  clean |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root), **env}
  command = [sys.executable, "-W", "error", "-c", SCRIPT, str(n)]
  done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == expected


def test_no_wish_changes_nothing(monkeypatch):
  for name in ("NPROC", "PJRT_NPROC"):
    monkeypatch.delenv(name, raising=False)
  assert cpu.limit_threads(None) is None
  assert "PJRT_NPROC" not in os.environ
  assert not cpu.free_threads()
