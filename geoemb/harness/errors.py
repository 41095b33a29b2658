"""Ways a run ends early that are no fault of the code: one line for the user and an exit code."""

import errno
import re

FAILED = 1  # the run could not go on
USAGE = 2  # the command line or the workdir asks for something that cannot be


class Abort(Exception):  # noqa: N818 (it is not always an error)
  """Ends the run with one line and an exit code; launch.py prints no traceback for it.

  Attributes:
    code: exit code of the process. A run that a signal stopped has 128 + the signal's number, as
      shells report it, so that a scheduler never takes an unfinished run for a finished one.
  """

  def __init__(self, message: str, code: int = FAILED):
    super().__init__(message)
    self.code = code


_REASONS = (  # errno, what libraries say that carry no errno, what we say
  (errno.ENOSPC, r"no space left|\d+ requested and \d+ written", "the disk is full"),
  (errno.EDQUOT, r"quota exceeded", "the disk quota is used up"),
  (errno.EROFS, r"read-only file system", "the file system is read-only"),
  (errno.EACCES, r"permission denied", "permission denied"),
  (errno.EPERM, r"operation not permitted", "permission denied"),
)


def disk(error: BaseException) -> str | None:
  """Why a write failed, in plain words, if it is for want of space or permission; else None."""
  for number, words, reason in _REASONS:
    if getattr(error, "errno", None) == number or re.search(words, str(error), re.IGNORECASE):
      return reason
  return None


def os_error(error: BaseException, doing: str) -> str:
  """One line for a failed write: what was being done, and why it failed."""
  text = (str(error).strip() or type(error).__name__).splitlines()[0]
  return f"{doing}: {disk(error) or getattr(error, 'strerror', None) or text}"
