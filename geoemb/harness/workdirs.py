"""A run's folder: one process at a time, one config for life."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from geoemb.harness import errors


def write_json(path: str, value: Any) -> None:
  """Writes indented JSON atomically: a reader finds the old file or the new one."""
  folder = os.path.dirname(path) or "."
  with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False) as f:
    try:
      f.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
      f.flush()
      os.fsync(f.fileno())
      os.chmod(f.name, 0o644)
      os.replace(f.name, path)
    except BaseException:
      with contextlib.suppress(OSError):
        os.unlink(f.name)
      raise


def read_json(path: str) -> Any:
  """The file's value; None if there is no such file, or no JSON in it."""
  try:
    with open(path) as f:
      return json.load(f)
  except (OSError, ValueError):
    return None


@contextlib.contextmanager
def locked(workdir: str) -> Iterator[None]:
  """Makes the folder and holds it for this process; within one process it may be nested.

  The lock is the kernel's, so it goes when the process does, however it ends.

  Raises:
    Abort: if another process holds it, or it cannot be written to.
  """
  path = os.path.join(workdir, "lock")
  try:
    os.makedirs(workdir, exist_ok=True)
    f = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
  except OSError as e:
    raise errors.Abort(errors.os_error(e, f"cannot write to workdir {workdir}")) from e
  try:
    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.ftruncate(f, 0)
    os.write(f, str(os.getpid()).encode())
  except BlockingIOError as e:
    owner = os.read(f, 32).decode()
    if owner != str(os.getpid()):
      os.close(f)
      raise errors.Abort(
        f"workdir {workdir} is in use by process {owner or 'unknown'}; wait for it, stop it, "
        "or use another --workdir"
      ) from e
  except OSError as e:
    os.close(f)
    raise errors.Abort(errors.os_error(e, f"cannot write to workdir {workdir}")) from e
  try:
    yield
  finally:
    os.close(f)


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
  """What changed, as "lr: 0.3 -> 0.1, dim: 5 -> 10"; empty if nothing did."""
  absent = object()
  show = lambda x: "absent" if x is absent else json.dumps(x, ensure_ascii=False)
  changed = [k for k in old | new if old.get(k, absent) != new.get(k, absent)]
  return ", ".join(
    f"{k}: {show(old.get(k, absent))} -> {show(new.get(k, absent))}" for k in changed
  )


def claim(workdir: str, experiment: str, config: dict[str, Any]) -> None:
  """Writes config.json, or checks that the one there says the same.

  A run that left neither a checkpoint nor a file of its own (its data were missing) has no claim.

  Raises:
    Abort: if the folder belongs to another experiment or config; says what differs.
  """
  path = os.path.join(workdir, "config.json")
  new = {"experiment": experiment, "config": json.loads(json.dumps(config))}
  old = read_json(path)
  if old is None or set(os.listdir(workdir)) <= {"config.json", "lock", "metrics.jsonl"}:
    try:
      write_json(path, new)
    except OSError as e:
      raise errors.Abort(errors.os_error(e, f"cannot write {path}")) from e
    return
  changed = difference(
    {"experiment": old.get("experiment")} | old.get("config", {}),
    {"experiment": experiment} | new["config"],
  )
  if changed:
    raise errors.Abort(
      f"workdir {workdir} was started with another config ({changed}); "
      "use another --workdir, or delete it to start over",
      errors.USAGE,
    )
