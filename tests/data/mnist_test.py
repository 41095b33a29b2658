import gzip
import hashlib

import numpy as np
import pytest

from geoemb.data import mnist

# md5 of the unpacked files
SUMS = {
  "train": ("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
  "test": ("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
}


@pytest.mark.parametrize("split, n", [("train", 60_000), ("test", 10_000)])
def test_the_digits_are_those_of_the_original_files(split, n, data_root):
  digits = mnist.load(split, root=data_root)
  assert digits.images.shape == (n, 28, 28)
  assert digits.labels.shape == (n,)
  head = lambda kind, *shape: bytes([0, 0, 8, kind]) + np.asarray(shape, ">i4").tobytes()
  raw = (
    head(3, n, 28, 28) + digits.images.tobytes(),
    head(1, n) + digits.labels.astype(np.uint8).tobytes(),
  )
  assert tuple(hashlib.md5(part).hexdigest() for part in raw) == SUMS[split]


def test_the_twin_has_the_form_of_the_digits():
  twin = mnist.twin(30)
  assert twin.images.shape == (30, 28, 28)
  assert twin.images.dtype == np.uint8
  assert twin.labels.dtype == np.int32
  assert sorted(set(twin.labels.tolist())) == list(range(10))
  far = np.square(twin.images[:10].astype(float)[:, None] - twin.images[10:20]).mean((2, 3))
  np.testing.assert_array_equal(far.argmin(axis=1), range(10))


def test_mistakes_say_what_to_do(tmp_path):
  with pytest.raises(FileNotFoundError, match="put MNIST's four IDX files there"):
    mnist.load(root=tmp_path)
  with pytest.raises(ValueError, match="split must be train or test, got 'dev'"):
    mnist.load("dev")
  (tmp_path / "mnist").mkdir()
  file = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
  file.write_bytes(gzip.compress(bytes(100)))
  with pytest.raises(ValueError, match="no IDX file of 10000 × 28 × 28 bytes"):
    mnist.load("test", root=tmp_path)
  file.write_bytes(gzip.compress(bytes(100))[:20])
  with pytest.raises(ValueError, match="cannot be read"):
    mnist.load("test", root=tmp_path)
