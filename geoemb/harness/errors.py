"""Ways a run ends early that are no fault of the code: one line for the user and an exit code."""

import errno

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


def os_error(error: BaseException, doing: str) -> str:
  """One line for a failed write: what was being done, and why it failed in plain words."""
  text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
  number = getattr(error, "errno", None)
  if number == errno.ENOSPC or "no space left" in str(error).lower():
    text = "the disk is full"
  elif number == errno.EDQUOT or "quota exceeded" in str(error).lower():
    text = "the disk quota is used up"
  elif number == errno.EROFS or "read-only file system" in str(error).lower():
    text = "the file system is read-only"
  elif number in (errno.EACCES, errno.EPERM):
    text = "permission denied"
  return f"{doing}: {text}"
