"""Vectors by key on disk, mapped into memory: opened at once, whatever their number.

    store.write("words.vectors", keys, table)           # or store.Writer, block by block
    words = store.Store("words.vectors")
    words.vector("dog"); words.lookup(["dog", "cat"])   # [d]; [2, d]

The idea is Magnitude's [patel2018magnitude]; the format is ours, see `sections`. A file has the
table, the keys one after another in the order of rows and an index of them, see `key_index`, the
lengths of the vectors, and, unless they are not wanted, the rows by n-gram that `oov` needs. It
carries the name and the curvature of the manifold that its points lie on.
"""

import bisect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import manifolds
from geoemb.manifolds.base import Manifold
from geoemb.tables import embedding, key_index, sections, text_hash

Curvature = float | tuple[float, ...]  # a tuple for a product

GRAMS = (3, 6)  # least and most characters of the n-grams that are indexed [patel2018magnitude]
_POSTINGS = 1 << 22  # n-grams that are sorted at a time, in about 150 MB
_KEYS = 1 << 14  # keys at a time


class Store:
  """A file of keyed vectors, open for reading; safe for any number of threads and processes.

  A file that is replaced meanwhile stays as it was for those who have it open.

  Attributes:
    path: the file.
    table: [n, point], read-only, in the file's dtype; row i is that of the i-th key.
    norms: [n] lengths of the vectors as the coordinates have them, float32 or float64.
    manifold: a name for `manifolds.make`.
    c: its curvature.
  """

  def __init__(self, path: str | os.PathLike):
    """Opens a file.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is no store, or damaged as far as can be seen without reading all of it.
    """
    self._file = sections.Reader(path)
    self.path = self._file.path
    arrays, about = self._file.arrays, self._file.about
    try:
      self.manifold: str = about["manifold"]
      self.c: Curvature = tuple(about["c"]) if isinstance(about["c"], list) else about["c"]
      self.table = arrays["table"].reshape(-1, *about["point"])
      self.norms, self._keys, self._bounds = arrays["norms"], arrays["keys"], arrays["bounds"]
      index = self._keys, self._bounds, arrays["starts"], arrays["rows"]
      self._index = key_index.KeyIndex(*index)
      if not len(self.table) == len(self.norms) == len(self._index):
        raise ValueError(f"{len(self.table)} vectors do not go with {len(self._index)} keys")
      manifolds.make(self.manifold, self.c)
    except KeyError as error:
      raise ValueError(
        f"{self.path} is no store of vectors that this version reads: it has no {error}"
      ) from error
    except (TypeError, ValueError) as error:
      raise ValueError(f"{self.path} is no store of vectors: {error}") from error

  def __len__(self) -> int:
    return len(self.table)

  def __contains__(self, key: str) -> bool:
    return self.row(key) >= 0

  @property
  def point(self) -> tuple[int, ...]:
    """The shape of a point."""
    return self.table.shape[1:]

  @property
  def geometry(self) -> Manifold:
    """The manifold at its curvature."""
    return manifolds.make(self.manifold, self.c)

  @property
  def grams(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The rows by n-gram: hashes in ascending order, bounds, and rows; None if not written.

    Rows bounds[i] to bounds[i + 1] are those of keys with the n-gram of hash i, ascending.
    """
    arrays = self._file.arrays
    names = ("gram_hashes", "gram_bounds", "gram_rows")
    return tuple(arrays[name] for name in names) if names[0] in arrays else None

  def row(self, key: str) -> int:
    """The row of a key, −1 if it has none."""
    return self._index.row(key)

  def rows(self, keys: Sequence[str]) -> np.ndarray:
    """The rows of keys, [b] int64, −1 for those that have none."""
    return self._index.rows(keys)

  def vector(self, key: str) -> np.ndarray:
    """A key's point, [point], read-only and not copied.

    Raises:
      ValueError: there is no such key.
    """
    row = self.row(key)
    if row < 0:
      raise ValueError(f"{self.path} has no key {key!r}")
    return self.table[row]

  def lookup(self, keys: Sequence[str]) -> np.ndarray:
    """Keys' points, [b, point], a copy.

    Raises:
      ValueError: there is no such key; `oov.lookup` makes up for those.
    """
    rows = self.rows(keys)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
      raise ValueError(f"{self.path} has no key {keys[missing[0]]!r}{_more(len(missing))}")
    return self.table[rows]

  def keys(self, rows: Sequence[int] | None = None) -> Iterator[str]:
    """The keys of rows, of all by default."""
    for row in range(len(self)) if rows is None else rows:
      yield str(self._keys[self._bounds[row] : self._bounds[row + 1]], "utf-8")

  def embedding(self) -> embedding.Embedding:
    """All of it in memory, as the table of a run."""
    dtype = np.float64 if self.table.dtype == np.float64 else np.float32
    return embedding.Embedding(tuple(self.keys()), self.table.astype(dtype), self.manifold, self.c)

  def verify(self) -> None:
    """Reads the file once and compares checksums.

    Raises:
      ValueError: it is damaged.
    """
    self._file.verify()


class Writer:
  """Writes a store block by block; what it keeps in memory are the keys, some 50 bytes for each.

  A context. When it ends the store replaces `path`, unless by an exception: then there is what was
  there before. A process that is killed may leave a file path.….tmp beside it, which nothing reads.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    manifold: str = "euclidean",
    c: Curvature = 1.0,
    *,
    dtype: np.dtype | str | None = None,
    grams: bool = True,
    where: Callable[[int], str] = "row {}".format,
  ):
    """Prepares a file.

    Args:
      path: the file.
      manifold: a name for `manifolds.make`.
      c: its curvature.
      dtype: float16, bfloat16, float32 or float64; by default that of the first block. Rounding to
        16 bits may move points of a ball to its edge: only what is added is checked.
      grams: whether to write the rows by n-gram that `oov` needs; about 250 bytes a key of English.
      where: how errors name a row.
    """
    self._geometry = manifolds.make(manifold, c)
    listed = list(c) if isinstance(c, tuple) else float(c)
    self._about: dict[str, Any] = {"manifold": manifold, "c": listed}
    self._dtype = None if dtype is None else sections.dtype_of(dtype)
    self._grams, self._where = grams, where
    self._file = sections.Writer(path)
    self._n, self._keys, self._lengths = 0, bytearray(), []
    self._norms: list[np.ndarray] = []

  def __enter__(self) -> "Writer":
    self._file.__enter__()
    return self

  def __exit__(self, kind, error, trace) -> None:
    try:
      if kind is None:
        self._finish()
    except BaseException as failed:
      self._file.__exit__(type(failed), failed, failed.__traceback__)
      raise
    self._file.__exit__(kind, error, trace)

  def add(self, keys: Sequence[str], points: np.ndarray) -> None:
    """Further rows.

    Args:
      keys: b of them.
      points: [b, point], all finite and on the manifold.

    Raises:
      ValueError: what is wrong, and in which row.
    """
    points = np.asarray(points)
    if len(keys) != len(points):
      raise ValueError(f"every vector needs a key, got {len(points)} and {len(keys)}")
    if not len(points):
      return
    if not self._n:
      self._start(points)
    if list(points.shape[1:]) != self._about["point"]:
      raise ValueError(
        f"{self._where(self._n)}: expected a point of shape {tuple(self._about['point'])}, "
        f"got {points.shape[1:]}"
      )
    data, bounds = self._encode(keys)
    self._check(points)
    with np.errstate(over="ignore"):
      narrow = points.astype(self._dtype)
    own = tuple(range(1, points.ndim))
    self._bad(~np.isfinite(narrow).all(axis=own), f"the vector overflows {self._dtype}")
    self._file.add(narrow)
    wide = narrow.astype(np.float64).reshape(len(narrow), -1)
    self._norms.append(np.sqrt(np.einsum("nd,nd->n", wide, wide)).astype(self._norm_dtype))
    self._keys += data.tobytes()
    self._lengths.append(np.diff(bounds))
    self._n += len(keys)

  def _start(self, points: np.ndarray) -> None:
    self._dtype = sections.dtype_of(points.dtype) if self._dtype is None else self._dtype
    if self._dtype.kind not in "fV" or self._dtype.itemsize > 8:
      raise ValueError(f"vectors must be floating-point numbers, got {self._dtype}")
    if points.ndim != 1 + self._geometry.point_ndim or not points[0].size:
      raise ValueError(
        f"points of {self._geometry.name} have {self._geometry.point_ndim} axes, none of them "
        f"empty, got the shape {points.shape[1:]}"
      )
    self._about["point"] = list(points.shape[1:])
    self._file.begin("table", self._dtype)

  @property
  def _norm_dtype(self) -> type:
    return np.float64 if self._dtype == np.float64 else np.float32

  def _encode(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    try:
      return text_hash.encode(keys)
    except ValueError:
      for i, key in enumerate(keys):
        try:
          text_hash.encode_one(key)
        except ValueError as error:
          raise ValueError(f"{self._where(self._n + i)}: {error}") from error
      raise

  def _check(self, points: np.ndarray) -> None:
    own = tuple(range(1, points.ndim))
    self._bad(~np.isfinite(points).all(axis=own), "the vector is not finite")
    if self._geometry.name == "euclidean":
      return
    with jax.enable_x64(points.dtype == np.float64):
      fault = lambda k: self._geometry.fault(jnp.asarray(points[: k + 1]))
      if fault(len(points) - 1):
        first = bisect.bisect_left(range(len(points)), True, key=lambda k: bool(fault(k)))
        raise ValueError(f"{self._where(self._n + first)}: {fault(first)}")

  def _bad(self, rows: np.ndarray, what: str) -> None:
    if rows.any():
      raise ValueError(f"{self._where(self._n + int(np.argmax(rows)))}: {what}")

  def _finish(self) -> None:
    if not self._n:
      raise ValueError("a store needs a vector, got none")
    if self._n >> 32:
      raise ValueError(f"a store holds fewer than 2³² vectors, got {self._n:,}")
    keys = np.frombuffer(self._keys, np.uint8)
    bounds = np.zeros(self._n + 1, np.int64)
    np.cumsum(np.concatenate(self._lengths), out=bounds[1:])
    starts, rows = key_index.build(keys, bounds)
    if again := key_index.KeyIndex(keys, bounds, starts, rows).duplicate():
      key = keys[slice(*bounds[again[0] : again[0] + 2])].tobytes().decode()
      first, second = map(self._where, again)
      raise ValueError(f"the key {key!r} is there twice: {first}, {second}")
    for name, array in (
      ("norms", np.concatenate(self._norms)), ("keys", keys), ("bounds", bounds),
      ("starts", starts), ("rows", rows),
    ):  # fmt: skip
      self._file.begin(name, array.dtype)
      self._file.add(array)
    if self._grams:
      self._write_grams(bounds)
    self._file.describe(self._about)

  def _write_grams(self, bounds: np.ndarray) -> None:
    """The rows by n-gram, in as many passes over the keys as it takes to sort few at a time."""

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
      for i in range(0, self._n, _KEYS):
        at = bounds[i : i + _KEYS + 1].tolist()
        some = [self._keys[a:b].decode().lower() for a, b in zip(at[:-1], at[1:])]
        x, owners = text_hash.ngrams(some, *GRAMS)
        yield x, owners + i

    top = np.uint64(54)  # passes are ranges of the hash's first 10 bits
    counts = sum(np.bincount((x >> top).astype(np.int64), minlength=1024) for x, _ in blocks())
    ranges = (np.cumsum(counts) - 1) // _POSTINGS
    hashes, sizes = [], []
    self._file.begin("gram_rows", np.uint32)
    for i in np.unique(ranges):
      first, after = np.searchsorted(ranges, [i, i + 1])
      parts = [
        (x[inside], owners[inside])
        for x, owners in blocks()
        for inside in [((x >> top) >= first) & ((x >> top) < after)]
      ]
      x, owners = (np.concatenate(part) for part in zip(*parts))
      order = np.argsort(x, kind="stable")  # rows ascend among equal hashes
      x, owners = x[order], owners[order]
      new = np.ones(len(x), bool)
      new[1:] = x[1:] != x[:-1]
      once = new.copy()
      once[1:] |= owners[1:] != owners[:-1]
      self._file.add(owners[once].astype(np.uint32))
      starts = np.flatnonzero(new[once])
      hashes.append(x[new])
      sizes.append(np.diff(starts, append=np.count_nonzero(once)))
    for name, array in (
      ("gram_hashes", np.concatenate(hashes)),
      ("gram_bounds", np.cumsum(np.concatenate([[0], *sizes]))),
    ):
      self._file.begin(name, array.dtype)
      self._file.add(array)


def write(
  path: str | os.PathLike,
  keys: Sequence[str],
  table: np.ndarray,
  manifold: str = "euclidean",
  c: Curvature = 1.0,
  *,
  block: int = 1 << 14,
  **options: Any,
) -> None:
  """Writes a store of a table [n, point]; see `Writer` for options and errors."""
  if len(keys) != len(table):
    raise ValueError(f"every vector needs a key, got {len(table)} and {len(keys)}")
  with Writer(path, manifold, c, **options) as out:
    for i in range(0, len(keys), block):
      out.add(keys[i : i + block], table[i : i + block])


def _more(count: int) -> str:
  return f" and {count - 1} more of those asked for" if count > 1 else ""
