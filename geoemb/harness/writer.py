"""metrics.jsonl: one JSON object a line, appended; a resumed run repeats no line and loses none."""

import contextlib
import json
import math
import os
from typing import Any

from geoemb.harness import errors


def _plain(value: Any) -> Any:
  """Python numbers for JSON; null where JSON has no number (nan, inf)."""
  if isinstance(value, dict):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(v) for v in value]
  if isinstance(value, (str, bool, int)) or value is None:
    return value
  value = value.item() if hasattr(value, "item") else value
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def read(path: str) -> list[dict[str, Any]]:
  """The complete lines of a metrics file; a half-written last line is left out."""
  lines = []
  with contextlib.suppress(FileNotFoundError), open(path, "rb") as f:
    for line in f:
      try:
        row = json.loads(line)
      except ValueError:
        break
      if not line.endswith(b"\n") or not isinstance(row, dict):
        break
      lines.append(row)
  return lines


class Writer:
  """Appends to workdir/metrics.jsonl, each line flushed.

  Opening drops what a killed run wrote after the checkpoint that is resumed from, so the file is
  that of an uninterrupted run, times aside.
  """

  def __init__(self, workdir: str, step: int = 0):
    self._path = os.path.join(workdir, "metrics.jsonl")
    rows = [row for row in read(self._path) if row.get("step", 0) <= step and step > 0]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    try:
      with open(self._path + ".tmp", "w") as f:
        f.write(text)
      os.replace(self._path + ".tmp", self._path)
      self._file = open(self._path, "a")  # noqa: SIM115 (closed by close)
    except OSError as e:
      raise errors.Abort(errors.os_error(e, f"cannot write {self._path}")) from e

  def write(self, step: int, **fields: Any) -> None:
    """Appends one line: the step, then the fields in the order given."""
    try:
      self._file.write(json.dumps({"step": step} | _plain(fields)) + "\n")
      self._file.flush()
    except OSError as e:
      raise errors.Abort(errors.os_error(e, f"cannot write {self._path}")) from e

  def close(self) -> None:
    """Closes the file; a full disk is reported by write, not here."""
    with contextlib.suppress(OSError):
      self._file.close()
