"""How tests compile: nearly all their time goes there, and unoptimised code takes half of it."""

import functools
import os

import jax

_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
_FULL = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
if jax.__version_info__ < (0, 11):  # XLA of 0.12 knows no such flag, and ends the process
  _QUICK["xla_cpu_use_fusion_emitters"] = False
  _FULL["xla_cpu_use_fusion_emitters"] = True


def flags(**options: object) -> str:
  """What XLA_FLAGS has to be for a process in which programs compile quickly."""
  mine = (f"--{name}={str(value).lower()}" for name, value in (_QUICK | options).items())
  return " ".join((os.environ.get("XLA_FLAGS", ""), *mine))


quick_jit = functools.partial(jax.jit, compiler_options=_QUICK)

# As users have it, for tests of accuracy and of what may overflow.
full_jit = functools.partial(jax.jit, compiler_options=_FULL)
