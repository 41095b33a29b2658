"""A trained table with its names: questions to ask it, and the files a run leaves.

    embedding = Embedding.load("runs/poincare_wordnet-mammals")
    embedding.nearest("dog.n.01", 5)       # [("wolf.n.01", 0.41), ...]
    embedding.dist("dog.n.01", "cat.n.01")
    embedding.ancestors("dog.n.01", 5)     # the nearest that lie closer to the origin

Coordinates are those of the manifold's chart (spatial ones for "lorentz"); distances are float64.
"""

import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Iterator
from typing import IO

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from geoemb import manifolds
from geoemb.data import files

_MAX_NAMES = 1 << 28  # bytes of names as a numpy array of strings; more are saved as one text


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
  """Named points; row i of `table` embeds names[i]."""

  names: tuple[str, ...]
  table: np.ndarray  # [n, point], float32 or float64
  manifold: str  # a name for `manifolds.make`
  c: float = 1.0  # curvature, |K|

  def __post_init__(self):
    if len(self.names) != len(self.table):
      raise ValueError(f"every row needs a name, got {len(self.table)} and {len(self.names)}")
    manifolds.make(self.manifold, self.c)

  @classmethod
  def load(cls, path: str | os.PathLike) -> "Embedding":
    """From an embedding.npz, or from the folder of a run that has one."""
    file = os.path.join(path, "embedding.npz") if os.path.isdir(path) else os.fspath(path)
    if not os.path.exists(file):
      raise FileNotFoundError(f"{file} not found: a run writes it when it is complete")
    try:
      with open(file, "rb") as raw, np.load(raw, allow_pickle=False) as arrays:
        names = arrays["names"]
        if names.dtype == np.uint8:
          names = np.array(names.tobytes().decode().split("\n"), object)
        return cls(
          tuple(names.tolist()), arrays["table"], str(arrays["manifold"]), float(arrays["c"])
        )
    except (KeyError, TypeError, ValueError, OSError, *files.DAMAGED_ZIP) as error:
      raise ValueError(f"{file} is not an embedding: {error}") from error

  def save(self, workdir: str | os.PathLike, *, word2vec: bool = False) -> None:
    """Writes embedding.npz and embedding.tsv, and embedding.w2v.txt on request.

    Each file replaces an older one at once and in full, or not at all.

    Args:
      workdir: an existing folder.
      word2vec: also write the text format of word2vec, which gensim reads:
        KeyedVectors.load_word2vec_format(path). It has no room for spaces in names: they become
        "_". Its similarity is the cosine of coordinates, which is not the manifold's distance.
    """
    files.replace(os.path.join(workdir, "embedding.npz"), self._write_npz)
    files.replace(os.path.join(workdir, "embedding.tsv"), self._write_tsv)
    if word2vec:
      files.replace(os.path.join(workdir, "embedding.w2v.txt"), self._write_word2vec)

  def nearest(self, name: str, k: int = 10) -> list[tuple[str, float]]:
    """The k other points nearest to a name's, with their distances, nearest first."""
    d = self._distances(name)
    d[self.index(name)] = np.inf
    return self._first(d, k)

  def ancestors(self, name: str, k: int = 10) -> list[tuple[str, float]]:
    """The k nearest points that lie closer to the origin, with their distances, nearest first.

    In a hyperbolic embedding of a hierarchy what is general lies near the origin; there may be
    fewer than k of them.
    """
    d = self._distances(name)
    depth = self.depth
    d[depth >= depth[self.index(name)]] = np.inf
    return self._first(d, k)

  def dist(self, a: str, b: str) -> float:
    """Distance between two names' points."""
    return float(self._distances(a)[self.index(b)])

  def index(self, name: str) -> int:
    """The row of a name.

    Raises:
      ValueError: there is no such name; the message suggests some.
    """
    if name not in self._ids:
      near = ", ".join(self._suggest(name)) or "none is similar"
      raise ValueError(f"no point is named {name!r}; nearest names: {near}")
    return self._ids[name]

  @functools.cached_property
  def depth(self) -> np.ndarray:
    """Distances from the origin, [n] float64."""
    m = manifolds.make(self.manifold, self.c)
    with jax.enable_x64(True):
      origin = m.origin_like(jnp.zeros(self.table.shape[-1], jnp.float64))
      return np.array(_dist(self.manifold, self.c, origin, self._points))

  @functools.cached_property
  def _ids(self) -> dict[str, int]:
    return {name: i for i, name in enumerate(self.names)}

  @functools.cached_property
  def _points(self) -> jax.Array:
    with jax.enable_x64(True):
      return jnp.asarray(self.table, jnp.float64)

  def _distances(self, name: str) -> np.ndarray:
    i = self.index(name)
    with jax.enable_x64(True):
      return np.array(_dist(self.manifold, self.c, self._points[i], self._points))

  def _first(self, d: np.ndarray, k: int) -> list[tuple[str, float]]:
    """The k smallest finite distances; equal ones by row."""
    if k < 0:
      raise ValueError(f"k must not be negative, got {k}")
    order = np.argsort(d, kind="stable")[:k]
    return [(self.names[i], float(d[i])) for i in order if d[i] < np.inf]

  def _suggest(self, name: str) -> list[str]:
    folded = {other.casefold(): other for other in reversed(self.names)}
    wanted = str(name).casefold()
    starts = (
      sorted((key for key in folded if key.startswith(wanted)), key=len)[:3] if wanted else []
    )
    close = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.6)
    return [folded[key] for key in dict.fromkeys([*starts, *close])][:3]

  def _write_npz(self, file: IO[bytes]) -> None:
    longest = max(map(len, self.names), default=1)
    if 4 * longest * len(self.names) <= _MAX_NAMES:
      names = np.array(self.names, dtype=f"U{max(1, longest)}")
    else:
      names = np.frombuffer("\n".join(self.names).encode(), np.uint8)
    np.savez_compressed(
      file, names=names, table=self.table, manifold=np.array(self.manifold), c=np.array(self.c)
    )

  def _write_tsv(self, file: IO[bytes]) -> None:
    dim = self.table.shape[-1]
    file.write("\t".join(["name", *(f"x{i}" for i in range(dim))]).encode() + b"\n")
    for name, row in zip(self.names, self._rows()):
      file.write("\t".join([re.sub(r"[\t\r\n]", " ", name), *row]).encode() + b"\n")

  def _write_word2vec(self, file: IO[bytes]) -> None:
    names = [re.sub(r"\s", "_", name) or "_" for name in self.names]
    if len(set(names)) < len(names):
      doubled = len(names) - len(set(names))
      logging.warning("word2vec text: %d names are equal once spaces are _", doubled)
    changed = sum(a != b for a, b in zip(names, self.names))
    if changed:
      logging.info("word2vec text: spaces became _ in %d names", changed)
    file.write(f"{len(names)} {self.table.shape[-1]}\n".encode())
    for name, row in zip(names, self._rows()):
      file.write(" ".join([name, *row]).encode() + b"\n")

  def _rows(self) -> Iterator[list[str]]:
    """Coordinates in the fewest digits that give them back exactly."""
    if self.table.dtype == np.float64:
      return ([repr(x) for x in row] for row in self.table.tolist())
    return ([str(x) for x in row] for row in self.table)


@functools.partial(jax.jit, static_argnums=(0,))
def _dist(name, c, x, y):
  return manifolds.make(name, c).dist(x, y)
