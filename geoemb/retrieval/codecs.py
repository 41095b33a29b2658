"""How vectors are stored: number formats and quantisers, packed to the byte.

A codec turns vectors [n, d] float32 into rows of bytes [n, nbytes] uint8 and back. All run on the
host, in numpy or faiss. Formats as in [huerga2025storage]; product quantisation is [jegou2011pq],
RaBitQ is [gao2024rabitq], both of faiss.

Formats of 8 bits and fewer have a smallest number: the entries of unit vectors in d dimensions are
about 1/√d, where float8_e4m3 is subnormal and float4_e2m1 rounds to 0. "scaled_" in a name
multiplies by √d first, which decoding undoes.
"""

import difflib
import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np

from geoemb.typing import ArrayLike

_FLOATS = {
  "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
  "float8_e4m3": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
  "float4_e2m1": ml_dtypes.float4_e2m1fn,
}  # fmt: skip
NAMES = (
  *_FLOATS, *(f"scaled_{name}" for name in _FLOATS if "_" in name),
  "int8", "int8_codes", "int8_wrapped", "binary", "binary01", "pq", "rabitq",
)  # fmt: skip
_NUMBERED = re.compile(r"(pq)(\d+)")
# faiss squares distances in float32. Vectors of this length are at most twice as far apart, and
# their square is a quarter of the largest float32.
_LONGEST = float(np.finfo(np.float32).max) ** 0.5 / 4


class Codec(NamedTuple):
  """A way of storing vectors."""

  encode: Callable[[ArrayLike], np.ndarray]  # [n, d] → [n, nbytes] uint8
  decode: Callable[[ArrayLike], np.ndarray]  # [n, nbytes] uint8 → [n, d] float32
  nbytes: int  # of a vector
  shared: int = 0  # bytes that all vectors have in common: ranges, codebooks, rotations


def make(name: str, calibration: ArrayLike, *, seed: int = 0) -> Codec:
  """The codec of a name, for vectors like the calibration's.

  Args:
    name: one of NAMES. "pq8" has 8 bytes a vector.
    calibration: [n, d] vectors to take ranges and codebooks from; of formats only d matters.
    seed: of codebooks and rotations.

  Raises:
    ValueError: an unknown name, or a calibration that does not serve it.
  """
  x = _vectors(calibration)
  numbered = _NUMBERED.fullmatch(name)
  kind, number = numbered.groups() if numbered else (name, "")
  bare = kind.removeprefix("scaled_")
  if bare in _FLOATS and kind in NAMES:
    return floating(x.shape[1], bare, scaled=bare != kind)
  if kind in ("int8", "int8_codes", "int8_wrapped"):
    return int8(x, codes=kind != "int8", wrap=kind == "int8_wrapped")
  if kind in ("binary", "binary01"):
    return binary(x.shape[1], signs=kind == "binary")
  if kind == "pq" and number:
    return product(x, int(number), seed=seed)
  if kind == "rabitq":
    return rabitq(x, seed=seed)
  near = difflib.get_close_matches(name, NAMES, n=1)
  hint = f"; did you mean {near[0]}?" if near else ""
  raise ValueError(f"codec must be one of {', '.join(NAMES)} (pq with bytes), got {name!r}{hint}")


def floating(d: int, name: str, *, scaled: bool = False) -> Codec:
  """Entries rounded to a floating-point format; what is too large for it becomes its largest.

  Args:
    d: coordinates.
    name: float32, float16, bfloat16, float8_e4m3, float8_e5m2, or float4_e2m1, of which two fit
      in a byte.
    scaled: multiply by √d first.
  """
  dtype, scale = np.dtype(_FLOATS[name]), np.float32(np.sqrt(d) if scaled else 1)
  top = np.float32(ml_dtypes.finfo(dtype).max)
  half = name == "float4_e2m1"

  def encode(x):
    x = np.clip(_vectors(x, d) * scale, -top, top).astype(dtype)
    if not half:
      return np.ascontiguousarray(x).view(np.uint8)
    nibbles = np.zeros((len(x), d + d % 2), np.uint8)
    nibbles[:, :d] = x.view(np.uint8) & 15
    return nibbles[:, ::2] | nibbles[:, 1::2] << 4

  def decode(codes):
    if half:
      codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), -1)[:, :d]
    return np.ascontiguousarray(codes).view(dtype).astype(np.float32) / scale

  return _codec(encode, decode, -(-d // 2) if half else d * dtype.itemsize)


def int8(calibration: ArrayLike, *, codes: bool = False, wrap: bool = False) -> Codec:
  """A byte a coordinate: 255 equal steps from its least to its greatest value in the calibration.

  A coordinate that is constant there decodes to that constant.

  Args:
    calibration: [n, d]; after the reducer, if there is one.
    codes: decode to the steps 0 … 255 themselves, which have lost each coordinate's offset and
      scale; [huerga2025storage] compares these.
    wrap: let what is outside the range overflow modulo 256, as its code does, instead of ending at
      the range's ends.
  """
  x = _vectors(calibration)
  ends = np.stack([x.min(axis=0), x.max(axis=0)])
  low, high = ends.astype(np.float64)  # float32 has neither all ranges nor all of their 255th parts
  step = np.where(high > low, (high - low) / 255, 1)

  def encode(x):
    steps = np.rint((_vectors(x, len(low)) - low) / step)
    return (np.mod(steps, 256) if wrap else np.clip(steps, 0, 255)).astype(np.uint8)

  def decode(rows):
    return (rows if codes else rows * step + low).astype(np.float32)

  return _codec(encode, decode, len(low), ends.nbytes)


def binary(d: int, *, signs: bool = True) -> Codec:
  """A bit a coordinate: whether it is positive.

  Args:
    d: coordinates.
    signs: decode to ±1; else to 0 and 1, as [huerga2025storage] does.
  """

  def encode(x):
    return np.packbits(_vectors(x, d) > 0, axis=1)

  def decode(codes):
    bits = np.unpackbits(codes, axis=1, count=d).astype(np.float32)
    return 2 * bits - 1 if signs else bits

  return _codec(encode, decode, -(-d // 8))


def product(calibration: ArrayLike, nbytes: int, *, seed: int = 0) -> Codec:
  """Product quantisation [jegou2011pq]: a byte names one of 256 centroids of d/nbytes coordinates.

  Raises:
    ValueError: nbytes does not divide d, or the calibration has fewer than 256 vectors, or one that
      is longer than 4.6e18.
  """
  x = _vectors(calibration, longest=_LONGEST)
  n, d = x.shape
  if not 1 <= nbytes <= d or d % nbytes:
    raise ValueError(f"the bytes of product quantisation must divide {d} coordinates, got {nbytes}")
  if n < 256:
    raise ValueError(f"product quantisation needs 256 vectors to calibrate it, got {n}")
  pq = _faiss().ProductQuantizer(d, nbytes, 8)
  pq.cp.seed = seed
  pq.cp.min_points_per_centroid = 1  # fewer than 39 make faiss warn
  pq.train(x)
  encode = lambda x: pq.compute_codes(_vectors(x, d, longest=_LONGEST))
  return _codec(encode, lambda codes: pq.decode(np.ascontiguousarray(codes)), nbytes, 256 * d * 4)


def rabitq(calibration: ArrayLike, *, seed: int = 0) -> Codec:
  """RaBitQ [gao2024rabitq]: signs of a randomly rotated residual, and two float32 to correct them.

  Inner products with what is decoded estimate those with the vectors.

  Args:
    calibration: [n, d]; its mean is what residuals are taken from.
    seed: of the rotation.

  Raises:
    ValueError: a vector is longer than 4.6e18.
  """
  x = _vectors(calibration, longest=_LONGEST)
  d = x.shape[1]
  faiss = _faiss()
  rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
  rotation = rotation.astype(np.float32)
  index = faiss.IndexRaBitQ(d, faiss.METRIC_INNER_PRODUCT)
  index.train(np.ascontiguousarray(x @ rotation))
  return _codec(
    lambda x: index.sa_encode(np.ascontiguousarray(_vectors(x, d, longest=_LONGEST) @ rotation)),
    lambda codes: index.sa_decode(np.ascontiguousarray(codes)) @ rotation.T,
    index.sa_code_size(),
    rotation.nbytes + 4 * d,
  )


@functools.cache
def _faiss():
  try:
    import faiss
  except ImportError as error:
    raise ImportError(f"this codec needs pip install 'geoemb[search]': {error}") from error
  return faiss


def _codec(encode, decode, nbytes, shared=0) -> Codec:
  """With a decoder that looks at the shape of what it gets."""

  def checked(codes):
    codes = np.asarray(codes)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != nbytes:
      raise ValueError(f"codes must be [n, {nbytes}] uint8, got {codes.dtype} {list(codes.shape)}")
    return decode(codes)

  return Codec(encode, checked, nbytes, shared)


def _vectors(x: ArrayLike, d: int | None = None, longest: float = np.inf) -> np.ndarray:
  """The vectors as contiguous float32 [n, d], checked."""
  x = np.ascontiguousarray(x, np.float32)
  if x.ndim != 2 or not x.size or (d is not None and x.shape[1] != d):
    raise ValueError(f"vectors must be [n, {d or 'd'}], got {list(x.shape)}")
  if not np.isfinite(x).all():
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    raise ValueError(f"vectors must be finite, got {len(bad)} that are not, first {bad[0]}")
  if longest < np.inf:
    length = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
    if length.max() > longest:
      raise ValueError(
        f"vectors must be no longer than {longest:.2g}, as float32 has to hold squared distances, "
        f"got length {length.max():.2g} at {length.argmax()}"
      )
  return x
