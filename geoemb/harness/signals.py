"""SIGTERM and SIGINT ask a run to stop; the second of them stops it at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request:
  """What was asked for so far."""

  signum: int | None = None  # the signal that arrived, or None

  def __bool__(self) -> bool:
    return self.signum is not None

  @property
  def name(self) -> str:
    """SIGTERM or SIGINT."""
    return signal.Signals(self.signum).name

  @property
  def code(self) -> int:
    """The exit code by which shells and schedulers know a signal: 128 + its number."""
    return 128 + self.signum


@contextlib.contextmanager
def caught() -> Iterator[Request]:
  """Yields the Request that a signal sets; outside the main thread it stays empty.

  Python runs its own handlers between bytecodes, which is too late here: a compilation or a device
  call holds the main thread for seconds. The C-level handler writes the signal's number to a
  socket at once, and a thread reads it.
  """
  request = Request()
  if threading.current_thread() is not threading.main_thread():
    yield request
    return

  def watch():
    while data := reader.recv(1):
      if data[0] not in _SIGNALS:
        continue
      if request:
        os._exit(128 + data[0])  # what is being saved is renamed into place only when complete
      request.signum = data[0]
      sys.stderr.write("\nfinishing these steps, then saving; once more to exit at once\n")
      sys.stderr.flush()

  reader, writer = socket.socketpair()
  writer.setblocking(False)
  before = {s: signal.signal(s, lambda *_: None) for s in _SIGNALS}
  wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
  thread = threading.Thread(target=watch, name="signals", daemon=True)
  thread.start()
  try:
    yield request
  finally:
    signal.set_wakeup_fd(wakeup)
    for s, handler in before.items():
      signal.signal(s, handler)
    writer.close()
    thread.join()
    reader.close()
