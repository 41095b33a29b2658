"""How many threads and devices XLA computes with on a CPU, and what adds up rows."""

import functools
import os
from importlib import metadata

_VARIABLES = ("PJRT_NPROC", "NPROC")  # in XLA's order
_DEVICES = "--xla_force_host_platform_device_count"
LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
_KNOWN = (0, 10), (0, 13)  # versions of jaxlib that know it; another may end the process for a flag
_OURS = "GEOEMB_LIMITED_THREADS"  # the process that set the first of them, so no child mistakes it


def limit_threads(n: int | None) -> str | None:
  """Has XLA's CPU client use n threads; returns the variable that the user had set instead, if any.

  A step of a few hundred embedding rows is many operations of microseconds each. With one thread
  XLA runs them inline; with a pool it hands each of them to another thread and waits, which makes
  such steps 1.3 to 2.3 times slower however many cores there are. From about a thousand pairs a
  step on the pool is as good or better.

  It works only before jax creates its first array, for the client reads the variable when it is
  made. NPROC or PJRT_NPROC in the environment wins over the experiment's wish.

  Two Python threads do not get around it either: they share the one thread.

  Args:
    n: threads; None leaves it to XLA (one a core).
  """
  for name in _VARIABLES:
    if os.environ.get(name):
      return name
  if n is not None:
    os.environ[_VARIABLES[0]] = str(n)  # not NPROC: other programs read that one too
    os.environ[_OURS] = str(os.getpid())
  return None


def free_threads() -> bool:
  """Ends the limit that limit_threads set, for work in large blocks; returns whether there was one.

  jax's backends are dropped and made anew at their next use: every array and every compiled
  function made before is gone, so keep what is needed as numpy first.
  """
  if os.environ.get(_OURS) != str(os.getpid()):
    return False
  import jax.extend  # the limit is set before jax is needed

  del os.environ[_VARIABLES[0]], os.environ[_OURS]
  jax.extend.backend.clear_backends()
  return True


def make_devices(n: int) -> None:
  """Has XLA's CPU client offer n devices, each of which computes on a core of its own.

  It works only before jax creates its first array. A number in XLA_FLAGS wins.
  """
  flags = os.environ.get("XLA_FLAGS", "")
  if n > 1 and _DEVICES not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} {_DEVICES}={n}".strip()


def compile_sums() -> None:
  """Has XLA's CPU client compile every sum in this process, as `compiler_options` has them.

  It works only before jax creates its first array. A choice in XLA_FLAGS wins.
  """
  flags = os.environ.get("XLA_FLAGS", "")
  version = tuple(map(int, metadata.version("jaxlib").split(".")[:2]))
  if LIBRARY not in flags and _KNOWN[0] <= version < _KNOWN[1]:
    os.environ["XLA_FLAGS"] = f"{flags} --{LIBRARY}=".strip()


@functools.cache
def compiler_options() -> dict[str, str]:
  """Options of jax.jit for steps on small rows: XLA compiles sums itself, on a CPU.

  By default it calls a library, YNNPACK, for every sum and product. For sums of a few numbers the
  call takes longer than what it does, and what stands before and after cannot be fused with it:
  experiments/benchmarks/geometry_speed.py:step_poincare_library has the ratio.
  """
  import jax  # the number of threads is set before jax is needed

  if jax.default_backend() != "cpu":
    return {}
  options = {LIBRARY: ""}
  try:
    jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:  # a jaxlib without that option
    return {}
  return options
