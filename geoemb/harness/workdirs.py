"""A run's folder: one process at a time, one config for life."""

import contextlib
import fcntl
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from geoemb.harness import errors

_held: dict[tuple[int, int], int] = {}  # device and inode of locks that are held, process


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
  with contextlib.ExitStack() as stack:
    stack.callback(os.close, f)
    which = os.fstat(f).st_dev, os.fstat(f).st_ino
    # A fork has a copy of the table and not the lock; processes of two containers may share a pid.
    if _held.get(which) != os.getpid():
      try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(f, 0)
        os.write(f, str(os.getpid()).encode())
      except BlockingIOError as e:
        owner = os.read(f, 32).decode() or "unknown"
        raise errors.Abort(
          f"workdir {workdir} is in use by process {owner}; wait for it, stop it, or use another "
          "--workdir"
        ) from e
      except OSError as e:
        raise errors.Abort(errors.os_error(e, f"cannot write to workdir {workdir}")) from e
      _held[which] = os.getpid()
      stack.callback(_held.pop, which)
    yield


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
  """Makes the folder and waits until no one else is in here: around reading, merging and writing.

  The folder itself is locked, so that no file is left in it.

  Raises:
    Abort: if it cannot be made or locked.
  """
  try:
    os.makedirs(folder, exist_ok=True)
    f = os.open(folder, os.O_RDONLY)
  except OSError as e:
    raise errors.Abort(errors.os_error(e, f"cannot write to {folder}")) from e
  with contextlib.ExitStack() as stack:
    stack.callback(os.close, f)
    try:
      fcntl.flock(f, fcntl.LOCK_EX)
    except OSError as e:
      raise errors.Abort(errors.os_error(e, f"cannot lock {folder}")) from e
    yield


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
  """What changed, as "lr: 0.3 -> 0.1, dim: 5 -> 10"; empty if nothing did."""
  absent = object()
  show = lambda x: "absent" if x is absent else json.dumps(x, ensure_ascii=False)
  changed = [k for k in old | new if old.get(k, absent) != new.get(k, absent)]
  return ", ".join(
    f"{k}: {show(old.get(k, absent))} -> {show(new.get(k, absent))}" for k in changed
  )


def _has_checkpoints(workdir: str) -> bool:
  """Whether a fit in the folder, or in one below it that is no run's own, has saved anything."""
  if os.path.exists(os.path.join(workdir, "checkpoints")):
    return True
  below = glob.glob(os.path.join(glob.escape(workdir), "*", "checkpoints"))
  return any(not os.path.exists(os.path.join(path, "..", "config.json")) for path in below)


def claim(workdir: str, experiment: str, config: dict[str, Any]) -> None:
  """Writes config.json, or checks that the one there says the same.

  A run that left neither a checkpoint nor a file of its own (its data were missing) has no claim.

  Raises:
    Abort: if the folder belongs to another experiment or config, and says what differs; or if that
      cannot be told, as there are checkpoints and no config.json that can be read.
  """
  path = os.path.join(workdir, "config.json")
  new = {"experiment": experiment, "config": json.loads(json.dumps(config))}
  old = read_json(path)
  if not isinstance(old, dict) or not isinstance(old.get("config"), dict):
    old = None
  if old is None and _has_checkpoints(workdir):
    raise errors.Abort(
      f"workdir {workdir} has checkpoints, and no config.json that tells whose they are; "
      "use another --workdir, or delete it to start over",
      errors.USAGE,
    )
  if old is None or set(os.listdir(workdir)) <= {"config.json", "lock", "metrics.jsonl"}:
    try:
      write_json(path, new)
    except OSError as e:
      raise errors.Abort(errors.os_error(e, f"cannot write {path}")) from e
    return
  changed = difference(
    {"experiment": old.get("experiment")} | old["config"],
    {"experiment": experiment} | new["config"],
  )
  if changed:
    raise errors.Abort(
      f"workdir {workdir} was started with another config ({changed}); "
      "use another --workdir, or delete it to start over",
      errors.USAGE,
    )
