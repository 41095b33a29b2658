"""Files of arrays: whole or refused, old or new."""

import os
import signal
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest

from geoemb.tables import sections

ARRAYS = {
  "a": np.arange(1000, dtype=np.float32),
  "b": np.array([1, 2**63], np.uint64),
  "c": np.array([0.5, -2], ml_dtypes.bfloat16),
  "d": np.zeros(0, np.uint8),
}


def write(path, arrays=ARRAYS):
  with sections.Writer(path) as out:
    for name, array in arrays.items():
      out.begin(name, array.dtype)
      for part in np.array_split(array, 3):
        out.add(part)
    out.describe({"what": "test"})


def test_gives_back_what_was_written(tmp_path):
  write(tmp_path / "x")
  found = sections.Reader(tmp_path / "x")
  found.verify()
  assert found.about == {"what": "test"}
  assert list(found.arrays) == list(ARRAYS)
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(found.arrays[name], array, strict=True)
    assert not found.arrays[name].flags.writeable


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
  write(tmp_path / "x")
  whole = (tmp_path / "x").read_bytes()
  for size in [*range(70), *range(70, len(whole), 97), len(whole) - 1]:
    (tmp_path / "y").write_bytes(whole[:size])
    with pytest.raises(ValueError, match="no store|damaged|cut short") as caught:
      sections.Reader(tmp_path / "y")
    assert "\n" not in str(caught.value)


def test_a_changed_byte_is_seen_by_opening_or_by_verifying(tmp_path):
  write(tmp_path / "x")
  whole = (tmp_path / "x").read_bytes()
  description = whole.index(b'{"about"')
  used = [*range(32), *range(64, 64 + 4000, 111), *range(description, len(whole), 5)]
  for at in used:
    damaged = bytearray(whole)
    damaged[at] ^= 4
    (tmp_path / "y").write_bytes(damaged)
    if 64 <= at < description:
      reader = sections.Reader(tmp_path / "y")  # opening does not read the arrays
      for names in ((), ("a",), ("b", "a")):
        with pytest.raises(ValueError, match="checksum of its a is wrong"):
          reader.verify(*names)
      reader.verify("b", "c", "d")
    else:
      with pytest.raises(ValueError, match="no store|damaged|cut short"):
        sections.Reader(tmp_path / "y")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
  write(tmp_path / "x")
  before = (tmp_path / "x").read_bytes()
  with pytest.raises(error), sections.Writer(tmp_path / "x") as out:
    out.begin("a", np.float32)
    out.add(np.zeros(10, np.float32))
    raise error
  assert (tmp_path / "x").read_bytes() == before
  assert os.listdir(tmp_path) == ["x"]


def test_a_killed_writer_leaves_the_old_file(tmp_path, root):
  write(tmp_path / "x")
  before = (tmp_path / "x").read_bytes()
  program = (
    "import sys, numpy as np; from geoemb.tables import sections\n"
    "with sections.Writer(sys.argv[1]) as out:\n"
    "  out.begin('a', np.float32)\n"
    "  while True: out.add(np.zeros(1 << 16, np.float32))\n"
  )
  command = [sys.executable, "-c", program, str(tmp_path / "x")]
  process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(root)})
  try:
    end = time.monotonic() + 60
    while sum(f.stat().st_size for f in tmp_path.iterdir()) < len(before) + (1 << 20):
      assert process.poll() is None and time.monotonic() < end
      time.sleep(0.01)
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
  assert (tmp_path / "x").read_bytes() == before
  sections.Reader(tmp_path / "x").verify()


def test_readers_keep_the_file_they_opened(tmp_path):
  write(tmp_path / "x")
  old = sections.Reader(tmp_path / "x")
  write(tmp_path / "x", {"a": np.ones(5, np.float32)})
  np.testing.assert_array_equal(old.arrays["a"], ARRAYS["a"])
  np.testing.assert_array_equal(sections.Reader(tmp_path / "x").arrays["a"], np.ones(5))


def test_refuses_what_it_cannot_hold(tmp_path):
  with pytest.raises(FileNotFoundError):
    sections.Reader(tmp_path / "x")
  with pytest.raises(ValueError, match="complex64"), sections.Writer(tmp_path / "x") as out:
    out.begin("a", np.complex64)
  assert not os.listdir(tmp_path)
