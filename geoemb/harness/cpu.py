"""How many threads and devices XLA computes with on a CPU."""

import os

_VARIABLES = ("PJRT_NPROC", "NPROC")  # in XLA's order
_DEVICES = "--xla_force_host_platform_device_count"
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
