"""MNIST's 70,000 handwritten digits, read from the original IDX files, plain or gzip.

The files are not shipped: put the four of them into mnist/ of the data folder, see `paths.root`.
"""

import gzip
import os
from typing import NamedTuple

import numpy as np

from geoemb.data import files, paths

_FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}


class Digits(NamedTuple):
  """Images with their labels."""

  images: np.ndarray  # [n, 28, 28] uint8, 0 for the background
  labels: np.ndarray  # [n] int32, 0 to 9


def load(split: str = "train", *, root: str | os.PathLike | None = None) -> Digits:
  """The 60,000 digits of "train" or the 10,000 of "test".

  Args:
    split: which.
    root: folder of data sets.

  Raises:
    ValueError: no such split, or a file that is not what its name says.
    FileNotFoundError: a file is missing.
  """
  if split not in _FILES:
    raise ValueError(f"split must be {' or '.join(_FILES)}, got {split!r}")
  prefix, n = _FILES[split]
  folder = os.path.join(paths.root(root), "mnist")
  images = _read(folder, f"{prefix}-images-idx3-ubyte", (n, 28, 28))
  labels = _read(folder, f"{prefix}-labels-idx1-ubyte", (n,))
  return Digits(images, labels.astype(np.int32))


def _read(folder: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
  """An IDX file of unsigned bytes."""
  path = os.path.join(folder, name)
  for candidate, opener in ((path, open), (f"{path}.gz", gzip.open)):
    if os.path.exists(candidate):
      try:
        with opener(candidate, "rb") as f:
          raw = f.read()
      except (OSError, *files.DAMAGED_GZIP) as e:
        raise ValueError(f"{candidate} cannot be read: {e}") from e
      break
  else:
    raise paths.missing(f"{path}.gz", "MNIST's four IDX files", "mnist")
  # 0, 0, the type (8: unsigned byte), the number of axes, and their lengths, big-endian
  header = bytes([0, 0, 8, len(shape)]) + np.asarray(shape, ">i4").tobytes()
  if raw[: len(header)] != header or len(raw) != len(header) + np.prod(shape):
    raise ValueError(f"{candidate} is no IDX file of {' × '.join(map(str, shape))} bytes")
  return np.frombuffer(raw, np.uint8, offset=len(header)).reshape(shape)


def twin(n: int, *, seed: int = 0) -> Digits:
  """Generated images that need no file: a noisy bar whose angle is the label, for tests."""
  rng = np.random.default_rng(seed)
  labels = np.arange(n, dtype=np.int32) % 10
  y, x = np.mgrid[:28, :28] - 13.5
  angle = np.pi * labels / 10
  across = np.sin(angle)[:, None, None] * x - np.cos(angle)[:, None, None] * y
  bar = 200.0 * (np.abs(across) < 2.5) * (np.hypot(x, y) < 11)
  images = np.clip(bar + 25 * rng.standard_normal(bar.shape), 0, 255).astype(np.uint8)
  return Digits(images, labels)
