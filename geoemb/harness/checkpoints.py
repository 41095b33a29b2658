"""Orbax checkpoints with checksums: what is restored is what was saved, or an older one.

checkpoints/<step>/state is Orbax's; checkpoints/<step>/meta.json holds the size and CRC-32 of each
of its files, which are compared before Orbax reads any. The folder is written under another name
and renamed when complete.
"""

import contextlib
import errno
import functools
import json
import os
import shutil
import sys
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from geoemb.harness import errors, workdirs
from geoemb.typing import PyTree

_MARGIN = 1 << 16  # bytes a checkpoint needs beside its arrays


class Restored(NamedTuple):
  """A checkpoint that was read and verified."""

  step: int
  tree: PyTree
  meta: dict[str, Any]


def _is_key(x: Any) -> bool:
  return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _data(x: Any) -> Any:
  return jax.random.key_data(x) if _is_key(x) else x


def _named(tree: PyTree) -> dict[str, Any]:
  """Leaves under readable names that sort in the tree's order; Orbax takes no empty ones."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
  return {f"{i:03d}.{name(path)}": x for i, (path, x) in enumerate(leaves) if x.size}


def _like(tree: PyTree, leaves: dict[str, np.ndarray]) -> PyTree:
  """`leaves` on the devices, in the tree and under the types of `tree`."""
  names = iter(_named(tree))

  def new(x):
    if not x.size:
      return x
    leaf = leaves[next(names)]
    if _is_key(x):
      return jax.random.wrap_key_data(jax.numpy.asarray(leaf), impl=jax.random.key_impl(x))
    return jax.device_put(leaf, x.sharding)

  return jax.tree.map(new, tree)


def _checksums(folder: str) -> dict[str, list[int]]:
  """[size, CRC-32] of every file below a folder, by relative path."""
  found = {}
  for base, _, files in os.walk(folder):
    for name in files:
      path, size, crc = os.path.join(base, name), 0, 0
      with open(path, "rb") as f:
        while part := f.read(1 << 20):
          size, crc = size + len(part), zlib.crc32(part, crc)
      found[os.path.relpath(path, folder).replace(os.sep, "/")] = [size, crc]
  return found


def _seal(meta: dict[str, Any]) -> int:
  return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


class Checkpoints:
  """The folder workdir/checkpoints: the last `keep` steps that were saved."""

  def __init__(self, workdir: str, keep: int = 3):
    self._folder = os.path.join(os.path.abspath(workdir), "checkpoints")
    self._tmp = os.path.join(self._folder, "tmp")
    self._keep = keep
    self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())
    self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable

  def steps(self) -> list[int]:
    """Steps that have a checkpoint, ascending; whether it is whole is not known yet."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
      return sorted(int(name) for name in os.listdir(self._folder) if name.isdecimal())
    return []

  def save(self, step: int, tree: PyTree, meta: dict[str, Any]) -> None:
    """Writes a checkpoint and drops the oldest; on failure the previous ones are as before.

    Raises:
      Abort: if it cannot be written (disk full, no permission).
    """
    leaves = {k: np.asarray(_data(x)) for k, x in _named(tree).items()}
    state, final = os.path.join(self._tmp, "state"), os.path.join(self._folder, str(step))
    try:
      shutil.rmtree(self._tmp, ignore_errors=True)  # of a killed run
      os.makedirs(self._tmp)
      if shutil.disk_usage(self._tmp).free < sum(x.nbytes for x in leaves.values()) + _MARGIN:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # before Orbax's threads find out
      self._orbax.save(state, args=ocp.args.StandardSave(leaves))
      meta = meta | {"step": step, "files": _checksums(state)}
      workdirs.write_json(os.path.join(self._tmp, "meta.json"), meta | {"seal": _seal(meta)})
      shutil.rmtree(final, ignore_errors=True)
      os.rename(self._tmp, final)
    except Exception as e:  # tensorstore, orbax and the OS each have their own
      shutil.rmtree(self._tmp, ignore_errors=True)
      kept = [s for s in self.steps() if s != step]
      kept = f"the one of step {kept[-1]} is kept" if kept else "there is no earlier one"
      doing = f"cannot save the checkpoint of step {step} in {self._folder} ({kept})"
      raise errors.Abort(errors.os_error(e, doing)) from e
    for old in self.steps()[: -self._keep]:
      shutil.rmtree(os.path.join(self._folder, str(old)), ignore_errors=True)

  def restore(self, tree: PyTree) -> Restored | None:
    """The newest checkpoint that is whole, in the form of `tree`; None if there is none at all.

    A damaged one is moved aside with a warning.

    Raises:
      Abort: if there are checkpoints and none can be read, or if they are of another state.
    """
    steps = self.steps()
    damaged = []
    for step in reversed(steps):
      try:
        leaves, meta = self._read(step)
      except Exception as e:  # whatever reading damaged files may raise
        damaged.append((step, (str(e).strip().splitlines() or [type(e).__name__])[0][:200]))
        continue
      for bad, reason in damaged:
        logging.warning(
          "checkpoint of step %d is damaged, going back to that of step %d: %s", bad, step, reason
        )
        self._set_aside(bad)
      want = {k: jax.eval_shape(_data, x) for k, x in _named(tree).items()}
      want = {k: f"{x.dtype}{list(x.shape)}" for k, x in want.items()}
      have = {k: f"{x.dtype}{list(x.shape)}" for k, x in leaves.items()}
      if want != have:
        name = next(k for k in sorted(want.keys() | have.keys()) if want.get(k) != have.get(k))
        raise errors.Abort(
          f"{self._folder} holds another state than this code makes: {name} is "
          f"{have.get(name, 'absent')} there and {want.get(name, 'absent')} here; "
          "use another --workdir",
          errors.USAGE,
        )
      return Restored(step, _like(tree, leaves), meta)
    if steps:
      raise errors.Abort(
        f"no checkpoint in {self._folder} can be read (steps {', '.join(map(str, steps))}; "
        f"{damaged[0][1]}); delete that folder to start again from step 0"
      )
    return None

  def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    folder = os.path.join(self._folder, str(step))
    with open(os.path.join(folder, "meta.json")) as f:
      meta = json.load(f)
    if meta.pop("seal") != _seal(meta) or meta["step"] != step:
      raise ValueError("meta.json is not as it was written")
    state = os.path.join(folder, "state")
    want, have = meta["files"], _checksums(state)
    for name in sorted(want.keys() | have.keys()):
      if want.get(name) != have.get(name):
        raise ValueError(f"state/{name} is not as it was written")
    leaves = self._orbax.restore(state, args=ocp.args.StandardRestore())
    return {k: np.asarray(x) for k, x in leaves.items()}, meta

  def _set_aside(self, step: int) -> None:
    """Moves a damaged checkpoint to checkpoints.damaged/, so that its step can be saved again."""
    aside = self._folder + ".damaged"
    try:
      os.makedirs(aside, exist_ok=True)
      shutil.rmtree(os.path.join(aside, str(step)), ignore_errors=True)
      os.rename(os.path.join(self._folder, str(step)), os.path.join(aside, str(step)))
    except OSError as e:
      raise errors.Abort(errors.os_error(e, f"cannot move {step} of {self._folder} aside")) from e

  def close(self) -> None:
    """Ends Orbax's threads."""
    self._orbax.close()
    sys.unraisablehook = self._hook

  def _unraisable(self, what: Any) -> None:
    """Ignores what tensorstore cannot deliver to Orbax after a failure that was raised anyway."""
    if "Event loop is closed" not in str(what.exc_value):
      self._hook(what)
