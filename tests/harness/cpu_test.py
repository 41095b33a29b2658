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


SUMS = """
import os, sys
from geoemb.harness import cpu
cpu.compile_sums()
import jax, jax.numpy as jnp

def calls(options):
  f = jax.jit(lambda x: jnp.tanh(jnp.sum(x * x, axis=-1)), compiler_options=options or None)
  return "__ynn_fusion" in f.lower(jnp.ones((2600, 10))).compile().as_text()

print(calls({}), calls(cpu.compiler_options()))
"""


@pytest.mark.parametrize(
  "flags, expected",
  [
    ("", "False False"),
    ("--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE", "True False"),
  ],
)
def test_sums_are_compiled_unless_the_user_wants_the_library(root, flags, expected):
  env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root), "XLA_FLAGS": flags}
  command = [sys.executable, "-W", "error", "-c", SUMS]
  done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == expected


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
  monkeypatch.setattr(cpu, "LIBRARY", "xla_no_such_option")
  monkeypatch.setattr(cpu.metadata, "version", lambda name: "99.1")
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  assert cpu.compiler_options.__wrapped__() == {}
  cpu.compile_sums()
  assert "XLA_FLAGS" not in os.environ
