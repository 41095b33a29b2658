"""How far a run is: a bar on a terminal, one log line a minute elsewhere."""

import sys
import time

import tqdm
from absl import logging

_PERIOD = 60  # seconds between log lines
_FIRST = 3  # seconds to the first


def _short(x: float) -> str:
  """3 significant digits with a unit: 12.3k, 1.05M."""
  for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
    if abs(x) >= limit:
      return f"{x / limit:.3g}{unit}"
  return f"{x:.3g}"


def _clock(seconds: float) -> str:
  """h:mm:ss, or m:ss under an hour."""
  m, s = divmod(int(seconds + 0.5), 60)
  h, m = divmod(m, 60)
  return f"{h}:{m:02d}:{s:02d}" if h else f"{m}:{s:02d}"


class Progress:
  """Shows step, items a second, loss and the time left."""

  def __init__(self, step: int, steps: int, items: str):
    self._steps, self._items = steps, items
    self._last = time.monotonic() - _PERIOD + _FIRST
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        total=steps,
        initial=step,
        unit="step",
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix} "
        "[{elapsed}<{remaining}]",
      )

  def update(self, step: int, steps_per_second: float, items_per_second: float, loss: float | None):
    """Called between device calls; draws or logs only as often as a reader wants."""
    rate = f"{_short(items_per_second)} {self._items}/s"
    text = rate if loss is None else f"{rate}, loss {loss:.4g}"
    if self._bar is not None:
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(step - self._bar.n)
    elif time.monotonic() - self._last >= _PERIOD or step == self._steps:
      self._last = time.monotonic()
      left = _clock((self._steps - step) / steps_per_second)
      logging.info("step %d/%d, %s, %s left", step, self._steps, text, left)

  def close(self) -> None:
    """Leaves the last state of the bar on the screen."""
    if self._bar is not None:
      self._bar.close()
