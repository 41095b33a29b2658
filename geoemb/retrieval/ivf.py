"""IVF-Flat with attributes: vectors in lists by nearest centroid, of which a few are searched.

    index = ivf.build(vectors, lists=256, columns={"section": section, "tags": tags})
    found = ivf.search(index, queries, 10, probes=8, where=filters.Equal("section", 3))
    ivf.save(index, "packages.ivf")
    index = ivf.load("packages.ivf")     # memory-mapped
    ivf.verify("packages.ivf")           # reads all of it

A row is a vector, a packed record of attributes and an id. A query meets the rows of the lists
whose centroids are nearest, and of these only the ones whose attributes pass: they are tested
first, so that a selective condition saves distances. Lists and attributes lie apart, and a search
reads no vector that it does not score. The design is that of [emanuilov2025billion].

Distances are cosines, or those of a manifold of vectors, whose centroids are then Fréchet means.
An index is not changed: `add` and `delete` return another one that shares its rows; `save` and
`compact` make one segment of all.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from geoemb import manifolds
from geoemb.manifolds import base
from geoemb.retrieval import exact, filters
from geoemb.tables import sections
from geoemb.typing import ArrayLike

_PAIRS = 1 << 13  # distances of a manifold in one call, always as many: it is compiled once
_SCORES = 1 << 22  # cosines of centroids at a time


class Found(NamedTuple):
  """The best rows for each of b queries, best first, and what finding them took."""

  scores: np.ndarray  # [b, k]; larger is better: a distance is negated. −inf where there is no row
  ids: np.ndarray  # [b, k] int64; −1 where there is no row
  evaluations: np.ndarray  # [b] int64 distances computed, those of centroids included


class Segment(NamedTuple):
  """Rows in the order of their lists; list i is start[i] : start[i + 1]."""

  start: np.ndarray  # [lists + 1] int64
  ids: np.ndarray  # [n] int64
  attributes: np.ndarray  # [n] records
  vectors: np.ndarray  # [n, d]; of length 1 for cosines


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
  """Centroids, and rows in lists."""

  by: str | base.Manifold  # "cosine" or a manifold
  centroids: np.ndarray  # [lists, d]
  segments: tuple[Segment, ...]
  alive: tuple[np.ndarray, ...]  # [n] bool for each segment: what was not deleted

  def __len__(self) -> int:
    return sum(int(alive.sum()) for alive in self.alive)

  @property
  def ids(self) -> np.ndarray:
    """Of all rows, [len] int64, in no order."""
    return np.concatenate([s.ids[a] for s, a in zip(self.segments, self.alive)])


def build(
  vectors: ArrayLike,
  *,
  lists: int,
  by: str | base.Manifold = "cosine",
  columns: Mapping[str, ArrayLike] | None = None,
  ids: ArrayLike | None = None,
  rounds: int = 10,
  seed: int = 0,
) -> Index:
  """An index of n vectors.

  Args:
    vectors: [n, d]; float16 and bfloat16 ones are kept so.
    lists: how many; about √n.
    by: "cosine", or a manifold of vectors.
    columns: attributes, [n] numbers or [n, w] uint64 each.
    ids: [n] different integers, not negative; 0 … n − 1 by default.
    rounds: of k-means.
    seed: of its first centroids.

  Raises:
    ValueError: sizes do not agree, a vector is not finite or has no cosine, ids are negative or
      stand twice, or there are fewer vectors than lists.
  """
  _check_space(by)
  vectors = _checked(vectors, by)
  if not 1 <= lists <= len(vectors):
    raise ValueError(f"lists must be between 1 and {len(vectors)}, the vectors, got {lists}")
  centroids = kmeans(vectors, lists, by=by, rounds=rounds, seed=seed)
  empty = Index(by, centroids, (), ())
  return _added(empty, vectors, columns or {}, ids, np.arange(len(vectors)))


def kmeans(
  vectors: ArrayLike, k: int, *, by: str | base.Manifold = "cosine", rounds: int = 10, seed: int = 0
) -> np.ndarray:
  """The k centroids of vectors [n, d], [k, d]: Lloyd's algorithm [lloyd1982quantization].

  For cosines the centroid is the mean scaled to length 1 [dhillon2001concept]. On a manifold it
  takes a step of Karcher's flow to the Fréchet mean in each round, short enough to descend, so that
  rounds stand still at Fréchet means only. A centroid that no vector is nearest to moves to the
  vector farthest from its own.

  Args:
    vectors: of length 1 for cosines, or points.
    k: how many.
    by: "cosine" or a manifold.
    rounds: how many.
    seed: of the vectors that are the first centroids.
  """
  vectors = np.asarray(vectors)
  wide = np.float32 if by == "cosine" else np.float64
  first = np.random.default_rng(seed).choice(len(vectors), k, replace=False)
  centroids = vectors[np.sort(first)].astype(wide)
  for _ in range(rounds):
    nearest, cost = _nearest(vectors, centroids, by)
    size = np.bincount(nearest, minlength=k)
    empty = np.flatnonzero(size == 0)
    if by == "cosine":
      order = np.argsort(nearest, kind="stable")
      held = np.flatnonzero(size)
      start = np.cumsum(size)[held] - size[held]
      total = np.add.reduceat(vectors[order].astype(np.float64), start, axis=0)
      length = np.linalg.norm(total, axis=1, keepdims=True)  # 0 if they cancel: it stays
      centroids[held] = np.where(length, total / np.where(length, length, 1), centroids[held])
    else:
      with jax.enable_x64(True):
        moved = _flow(_wide(by), centroids, vectors.astype(np.float64), nearest)
        centroids = np.array(moved)
    centroids[empty] = vectors[np.argsort(-cost, kind="stable")[: len(empty)]]
  return centroids


def search(
  index: Index,
  queries: ArrayLike,
  k: int,
  *,
  probes: int,
  least: int = 0,
  where: filters.Filter | None = None,
  allow: ArrayLike | None = None,
) -> Found:
  """The k best of the rows that pass, in the lists nearest to each query.

  Args:
    index: what to search.
    queries: [b, d].
    k: how many.
    probes: lists to search.
    least: search further lists while fewer than so many rows have passed: with a condition that few
      rows meet, `probes` lists may hold none of them.
    where: a condition on attributes.
    allow: [m] bool by id, for ids below m.

  Raises:
    ValueError: shapes do not agree, a query is not finite or has no cosine, or a count is not
      positive.
  """
  queries = _checked(queries, index.by, "query")
  if queries.shape[1:] != index.centroids.shape[1:]:
    raise ValueError(f"queries must be points {index.centroids.shape[1:]}, got {queries.shape[1:]}")
  if min(k, probes) < 1 or least < 0:
    raise ValueError(f"k and probes must be positive and least ≥ 0, got {k}, {probes}, {least}")
  passing = [_passing(s, a, where, allow) for s, a in zip(index.segments, index.alive)]
  lists = len(index.centroids)
  size = np.zeros(lists, np.int64)
  for segment, rows in zip(index.segments, passing):
    size += np.bincount(np.searchsorted(segment.start, rows, "right") - 1, minlength=lists)
  order = _order(index, queries)
  reached = np.cumsum(size[order], axis=1)
  wanted = np.maximum(min(probes, lists), 1 + (reached < least).sum(axis=1))
  wanted = np.minimum(wanted, lists)
  evaluations = lists + np.take_along_axis(reached, wanted[:, None] - 1, 1)[:, 0]
  query, place = np.nonzero(np.arange(lists) < wanted[:, None])
  probed = order[query, place]
  best = exact.Best(len(queries), k, np.float32 if index.by == "cosine" else np.float64)
  by_list = np.argsort(probed, kind="stable")
  edge = np.searchsorted(probed[by_list], np.arange(lists + 1))
  for i in np.flatnonzero((np.diff(edge) > 0) & (size > 0)):
    some = query[by_list[edge[i] : edge[i + 1]]]
    for segment, rows in zip(index.segments, passing):
      mine = rows[slice(*np.searchsorted(rows, segment.start[i : i + 2]))]
      if len(mine):
        _score(index.by, queries, some, segment, mine, best)
  return Found(*best.hits(k), evaluations)


def add(
  index: Index,
  vectors: ArrayLike,
  *,
  columns: Mapping[str, ArrayLike] | None = None,
  ids: ArrayLike | None = None,
) -> Index:
  """An index with more rows; centroids stay.

  Args:
    index: what to add to.
    vectors: [n, d].
    columns: the attributes that the index has.
    ids: as for `build`; by default those that follow the largest.

  Raises:
    ValueError: as for `build`; an id is there already, or attributes are others than the index's.
  """
  vectors = _checked(vectors, index.by)
  first = 1 + max((int(s.ids.max()) for s in index.segments if len(s.ids)), default=-1)
  return _added(index, vectors, columns or {}, ids, first + np.arange(len(vectors)))


def delete(index: Index, ids: ArrayLike) -> Index:
  """An index without some rows.

  Raises:
    ValueError: an id stands twice or is not there, or is no integer.
  """
  ids = np.asarray(ids)
  if ids.ndim != 1 or len(ids) and not np.issubdtype(ids.dtype, np.integer):
    raise ValueError(f"ids must be a row of integers, got {ids.dtype} {ids.shape}")
  ids = ids.astype(np.int64)
  _check_ids(ids)
  unknown = np.setdiff1d(ids, index.ids)
  if len(unknown):
    raise ValueError(f"ids must be those of rows, got {len(unknown)} others, one is {unknown[0]}")
  alive = tuple(a & ~np.isin(s.ids, ids) for s, a in zip(index.segments, index.alive))
  return dataclasses.replace(index, alive=alive)


def compact(index: Index) -> Index:
  """The same rows in one segment, without the deleted ones; equal lists by id."""
  lists = len(index.centroids)
  of = lambda s: np.repeat(np.arange(lists), np.diff(s.start))
  held = list(zip(index.segments, index.alive))
  where = np.concatenate([of(s)[a] for s, a in held])
  parts = [np.concatenate([s[j][a] for s, a in held]) for j in (1, 2, 3)]
  return dataclasses.replace(
    index, segments=(_segment(where, lists, *parts),), alive=(np.ones(len(where), bool),)
  )


def save(index: Index, path: str | os.PathLike) -> None:
  """Writes the index to a file, see `sections`, which is replaced in full or not at all.

  Rows are copied to memory first if the index has several segments or deleted rows.
  """
  if len(index.segments) != 1 or not index.alive[0].all():
    index = compact(index)
  (segment,) = index.segments
  cosine = isinstance(index.by, str)
  fields = segment.attributes.dtype.descr if segment.attributes.dtype.names else []
  with sections.Writer(path) as out:
    records = np.frombuffer(segment.attributes.tobytes(), np.uint8)
    for name, array in segment._replace(attributes=records)._asdict().items():
      out.begin(name, array.dtype)
      out.add(array)
    out.begin("centroids", index.centroids.dtype)
    out.add(index.centroids)
    out.describe({
      "by": index.by if cosine else index.by.name,
      "c": None if cosine else float(index.by.c),
      "attributes": fields,
      "dim": index.centroids.shape[1],
    })  # fmt: skip


def load(path: str | os.PathLike) -> Index:
  """The index of a file, memory-mapped: vectors are read when they are scored.

  Checksums of rows, ids and attributes are compared by `verify` alone, which reads all of them.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is not an index, is cut short, or its description, centroids or lists are
      damaged.
  """
  file = _open(path)
  path, arrays, about = file.path, file.arrays, file.about
  try:
    by = about["by"] if about["by"] == "cosine" else manifolds.make(about["by"], about["c"])
    fields = [(name, code, *map(tuple, shape)) for name, code, *shape in about["attributes"]]
    centroids = np.array(arrays["centroids"].reshape(-1, about["dim"]))
    vectors = arrays["vectors"].reshape(-1, about["dim"])
    records = arrays["attributes"].view(fields) if fields else np.zeros(len(vectors), [])
    segment = Segment(arrays["start"], arrays["ids"], records, vectors)
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path} is no index of lists: {error}") from None
  file.verify("centroids", "start")
  start, n = segment.start, len(segment.ids)
  sound = start.shape == (len(centroids) + 1,) and start[0] == 0 and start[-1] == n
  if not sound or (np.diff(start) < 0).any() or {len(vectors), len(records)} != {n}:
    raise ValueError(f"{path} is damaged: its lists do not hold its {n} rows")
  return Index(by, centroids, (segment,), (np.ones(n, bool),))


def verify(path: str | os.PathLike) -> None:
  """Reads an index's file once and compares checksums.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged.
  """
  _open(path).verify()


def _open(path: str | os.PathLike) -> sections.Reader:
  if not os.path.isfile(path):
    raise FileNotFoundError(f"{os.fspath(path)} not found: ivf.save writes it")
  return sections.Reader(path, "index of lists")


def _check_space(by: str | base.Manifold) -> None:
  vectors = not isinstance(by, str) and by.name in manifolds.NAMES and np.ndim(by.c) == 0
  if by != "cosine" and not vectors:
    known = ", ".join(manifolds.NAMES)
    raise ValueError(f'by must be "cosine" or one of the manifolds {known}, got {by!r:.60}')


def _checked(x: ArrayLike, by: str | base.Manifold, what: str = "vector") -> np.ndarray:
  """Finite vectors; of length 1 for cosines."""
  x = np.asarray(x)
  if x.ndim != 2 or not len(x):
    raise ValueError(f"expected rows of {what}s, got {x.shape}")
  wide = x.astype(np.float64)
  bad = np.flatnonzero(~np.isfinite(wide).all(axis=1))
  if len(bad):
    raise ValueError(f"{what}s must be finite, got {len(bad)} bad ones, the first is row {bad[0]}")
  if by != "cosine":
    return x
  half = x.dtype in (np.float16, ml_dtypes.bfloat16)
  return exact.unit(wide, what).astype(x.dtype if half else np.float32)


def _check_ids(ids: np.ndarray) -> None:
  if len(np.unique(ids)) != len(ids):
    raise ValueError(f"ids must differ, got {len(ids) - len(np.unique(ids))} repetitions")
  if len(ids) and ids.min() < 0:
    raise ValueError(f"ids must not be negative, got {ids.min()}")


def _added(index, vectors, columns, ids, default):
  ids = default if ids is None else np.asarray(ids)
  if ids.shape != (len(vectors),) or not np.issubdtype(ids.dtype, np.integer):
    raise ValueError(f"ids must be [{len(vectors)}] integers, got {ids.dtype} {ids.shape}")
  ids = ids.astype(np.int64)
  _check_ids(ids)
  if vectors.shape[1:] != index.centroids.shape[1:]:
    want = index.centroids.shape[1:]
    raise ValueError(f"vectors must be points {want}, got {vectors.shape[1:]}")
  records = _records(columns, len(vectors))
  if index.segments:
    known = index.segments[0]
    if records.dtype != known.attributes.dtype:
      raise ValueError(f"attributes must be {known.attributes.dtype}, got {records.dtype}")
    there = np.intersect1d(ids, index.ids)
    if len(there):
      raise ValueError(f"{len(there)} ids are there already, one is {there[0]}")
    vectors = vectors.astype(known.vectors.dtype)
  nearest, _ = _nearest(vectors, index.centroids, index.by)
  segment = _segment(nearest, len(index.centroids), ids, records, vectors)
  return dataclasses.replace(
    index,
    segments=(*index.segments, segment),
    alive=(*index.alive, np.ones(len(ids), bool)),
  )


def _records(columns: Mapping[str, ArrayLike], n: int) -> np.ndarray:
  """Attributes side by side, [n] records."""
  arrays = {name: np.asarray(column) for name, column in columns.items()}
  for name, array in arrays.items():
    if array.ndim not in (1, 2) or len(array) != n or array.dtype.kind not in "biuf":
      raise ValueError(
        f"the column {name!r} must be [{n}] numbers or [{n}, w] words, got {array.dtype} "
        f"{array.shape}"
      )
    if array.dtype.kind == "f" and np.isnan(array).any():
      raise ValueError(f"the column {name!r} must not have NaN")
  records = np.zeros(n, [(name, a.dtype, a.shape[1:]) for name, a in arrays.items()])
  for name, array in arrays.items():
    records[name] = array
  return records


def _segment(nearest, lists, ids, records, vectors) -> Segment:
  order = np.lexsort((ids, nearest))
  start = np.searchsorted(nearest[order], np.arange(lists + 1))
  return Segment(start.astype(np.int64), ids[order], records[order], vectors[order])


def _passing(segment, alive, where, allow) -> np.ndarray:
  """Rows that count, ascending; no vector is read."""
  passes = alive
  if where is not None:
    names = segment.attributes.dtype.names or ()
    passes = passes & filters.mask(where, {name: segment.attributes[name] for name in names})
  if allow is not None:
    allow = np.asarray(allow)
    if allow.dtype != bool or allow.ndim != 1:
      raise ValueError(f"allow must be [m] bool, got {allow.dtype} {allow.shape}")
    known = segment.ids < len(allow)
    passes = passes & known
    passes[known] &= allow[segment.ids[known]]
  return np.flatnonzero(passes)


def _order(index: Index, queries: np.ndarray) -> np.ndarray:
  """Lists by the distance of their centroids, [b, lists]."""
  if index.by == "cosine":
    return np.argsort(-queries.astype(np.float32) @ index.centroids.T, axis=1, kind="stable")
  b, lists = len(queries), len(index.centroids)
  u, v = np.divmod(np.arange(b * lists), lists)
  d = _distances(index.by, queries, index.centroids, u, v).reshape(b, lists)
  return np.argsort(d, axis=1, kind="stable")


def _nearest(vectors, centroids, by):
  """The nearest centroid of each vector, [n], and their distance or −cosine, [n]."""
  nearest, cost = np.empty(len(vectors), np.int64), np.empty(len(vectors))
  rows = max(1, min(len(vectors), _SCORES // len(centroids)))
  for first in range(0, len(vectors), rows):
    some = slice(first, first + rows)
    if by == "cosine":
      d = -vectors[some].astype(np.float32) @ centroids.T
    else:
      part = vectors[some].astype(np.float64)
      n = len(part)
      part = np.concatenate([part, np.repeat(part[:1], rows - n, axis=0)])
      with jax.enable_x64(True):
        d = np.asarray(_pairwise(_wide(by), part, centroids))[:n]
    nearest[some] = d.argmin(axis=1)
    cost[some] = d.min(axis=1)
  return nearest, cost


def _score(by, queries, some, segment, rows, best):
  """Merges the scores of rows of a list for some queries."""
  vectors = segment.vectors[rows]
  if by == "cosine":
    scores = queries[some].astype(np.float32) @ vectors.astype(np.float32).T
  else:
    u, v = np.divmod(np.arange(len(some) * len(rows)), len(rows))
    scores = -_distances(by, queries[some], vectors, u, v).reshape(len(some), len(rows))
  query, row = np.nonzero(scores >= best.worst[some][:, None])  # equal scores go by id
  if len(query):
    best.add(some[query], scores[query, row], segment.ids[rows[row]])


def _distances(m, x, y, u: Sequence[int], v: Sequence[int]) -> np.ndarray:
  """Distances of x[u] and y[v], [p] float64."""
  out = np.empty(len(u))
  with jax.enable_x64(True):
    m = _wide(m)
    for first in range(0, len(u), _PAIRS):
      part = slice(first, first + _PAIRS)
      pad = (0, _PAIRS - len(u[part]))
      a, b = (z[np.pad(at[part], pad)].astype(np.float64) for z, at in ((x, u), (y, v)))
      out[part] = np.asarray(_dist(m, a, b))[: len(u[part])]
  return out


def _wide(m: base.Manifold) -> base.Manifold:
  return jax.tree.map(lambda c: jnp.asarray(c, jnp.float64), m)


_dist = jax.jit(lambda m, x, y: m.dist(x, y))
_pairwise = jax.jit(lambda m, x, y: m.pairwise(x, y))


@jax.jit
def _flow(m, centroids, points, nearest):
  """A step of each centroid to the Fréchet mean of its points, [k, d]."""
  k = len(centroids)
  sums = lambda a: jax.ops.segment_sum(a, nearest, k)
  size = jnp.maximum(sums(jnp.ones(len(points), points.dtype)), 1)
  at = centroids[nearest]
  pull = sums(m.log(at, points)) / size[:, None]
  # The Hessian of d²/2 is at most D coth D ≤ 1 + D, D the distance in curvature radii.
  stiff = 1 + jnp.sqrt(jnp.abs(m.c)) * sums(m.dist(at, points)) / size
  return m.proj(m.exp(centroids, pull / stiff[:, None]))
