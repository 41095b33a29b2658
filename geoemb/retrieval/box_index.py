"""Boxes in leaves: those that hold a query best, or that it holds, of which few are looked at.

    index = box_index.build(rows)
    up = box_index.search(index, queries, 10, log_side=log_hard_side)                # ancestors
    down = box_index.search(index, queries, 10, log_side=log_hard_side, holds="query")
    found = box_index.search(index, queries, 10, log_side=soft, leaves=50)           # approximate

A leaf is a few boxes that are alike, as points in ℝ²ᵈ, with the smallest box around them and their
least sides. These bound how well any of them can do, so that a search goes through leaves from the
best bound down, and stops where none can beat what it has: it is exact, and in many dimensions may
have to see most leaves. With `leaves` it ends earlier. The tree is that of [bentley1975kdtree],
boxes around boxes are those of [guttman1984rtree]; the bounds hold for volumes hard and smooth.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np

from geoemb.boxes import box as boxes
from geoemb.boxes import volume
from geoemb.boxes.box import Box
from geoemb.retrieval import exact
from geoemb.retrieval.ivf import Found
from geoemb.typing import Array, ArrayLike

_NUMBERS = 1 << 17  # coordinates of pairs in one call, or a 32nd: two shapes are compiled
_PAIRS = 1 << 22  # of queries and leaves, or boxes, in memory
_SLACK = 1e-9  # relative: bounds and scores are sums of as many numbers, rounded in float64


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
  """Boxes in the order of their leaves; leaf i is start[i] : start[i + 1]."""

  start: np.ndarray  # [leaves + 1] int64
  ids: np.ndarray  # [n] int64, places in what was given
  rows: Box  # [n, d]
  around: Box  # [leaves, d] the smallest boxes
  least: np.ndarray  # [leaves, d] the shortest sides

  def __len__(self) -> int:
    return len(self.ids)


def build(rows: Box, *, leaf: int = 128) -> Index:
  """An index of n boxes.

  Args:
    rows: [n, d]. Corners may be in the wrong order, as those of smooth boxes are at times.
    leaf: boxes in a leaf, at most. A search looks at every leaf's box, so few are slow, too.

  Raises:
    ValueError: corners are not finite or not [n, d], or leaf < 1.
  """
  rows = _checked(rows, "box")
  if leaf < 1:
    raise ValueError(f"leaf must be positive, got {leaf}")
  order, start = _leaves(np.concatenate(rows, axis=1), leaf)
  rows = Box(*(x[order] for x in rows))
  with np.errstate(over="ignore"):
    side = rows.upper.astype(np.float64) - rows.lower.astype(np.float64)
  return Index(
    start=start,
    ids=order,
    rows=rows,
    around=Box(
      np.minimum.reduceat(rows.lower, start[:-1], axis=0),
      np.maximum.reduceat(rows.upper, start[:-1], axis=0),
    ),
    least=np.nan_to_num(np.minimum.reduceat(side, start[:-1], axis=0)),
  )


def search(
  index: Index,
  queries: Box,
  k: int,
  *,
  log_side: Callable[[Array], Array],
  meet: Callable[[Box, Box], Box] = boxes.intersection,
  holds: Literal["row", "query"] = "row",
  leaves: int | None = None,
  allow: ArrayLike | None = None,
) -> Found:
  """The k best of n boxes for each of b; scores are logarithms of `holds` "row": P(row | query).

  That is how much of the query lies in the row; with "query" it is P(query | row), how much of the
  row lies in the query. See `boxes.volume.log_containment`, in float64.

  Args:
    index: what to search.
    queries: [b, d].
    k: how many.
    log_side: one of `boxes.volume`'s, with its temperature, a number, bound. Its program is kept as
      long as the same function is given.
    meet: `boxes.box.intersection`, or `gumbel_intersection` with its temperature bound.
    holds: which box is to hold the other.
    leaves: at most so many for a query; None for as many as it takes to be exact.
    allow: [n] bool, the boxes that count.

  Returns:
    Scores [b, k] and ids, equal scores by id, and how many boxes were looked at, those of leaves
    included.

  Raises:
    ValueError: shapes do not agree, corners are not finite, or a count is not positive.
  """
  queries = _checked(queries, "query")
  allow = np.ones(len(index), bool) if allow is None else np.asarray(allow)
  if queries.lower.shape[1] != index.rows.lower.shape[1]:
    d = index.rows.lower.shape[1]
    raise ValueError(f"queries must have {d} dimensions, got {queries.lower.shape[1]}")
  if k < 1 or (leaves is not None and leaves < 1):
    raise ValueError(f"k and leaves must be positive, got {k} and {leaves}")
  if holds not in ("row", "query"):
    raise ValueError(f"holds must be 'row' or 'query', got {holds!r}")
  if allow.dtype != bool or allow.shape != (len(index),):
    raise ValueError(f"allow must be [{len(index)}] bool, got {allow.dtype} {allow.shape}")
  b, many = len(queries.lower), len(index.around.lower)
  best, seen = exact.Best(b, min(k, len(index)), np.float64), np.full(b, many)
  passing = allow[index.ids]
  score = functools.partial(_scores, log_side, meet, holds == "row")
  for first in range(0, b, max(1, _PAIRS // many)):
    some = slice(first, first + max(1, _PAIRS // many))
    part = Box(*(x[some] for x in queries))
    _search(index, part, score, min(leaves or many, many), passing, best, seen, first)
  return Found(*best.hits(k), seen)


def _search(index, queries, score, leaves, passing, best, seen, first):
  """Merges what a few queries find, whose rows of `best` and `seen` begin at `first`."""
  b, many = len(queries.lower), len(index.around.lower)
  query, leaf = np.divmod(np.arange(b * many), many)
  bound = score(queries, index.around, index.least, query, leaf).reshape(b, many)
  bound += _SLACK * (1 + np.abs(bound))
  order = np.argsort(-bound, axis=1, kind="stable")
  bound = np.take_along_axis(bound, order, 1)
  size, mine = np.diff(index.start), slice(first, first + b)
  widest = max(1, _PAIRS // (b * size.max()))
  place = 0
  while place < leaves:
    stop = min(leaves, place + min(widest, 1 + place // 2))  # few more than are needed
    query, column = np.nonzero(bound[:, place:stop] >= best.worst[mine, None])
    if not len(query):
      break
    leaf = order[query, place + column]
    n = size[leaf]
    row = np.repeat(index.start[leaf] - np.cumsum(n) + n, n) + np.arange(n.sum())
    query = np.repeat(query, n)[passing[row]]
    row = row[passing[row]]
    value = score(queries, index.rows, None, query, row)
    seen[mine] += np.bincount(query, minlength=b)
    good = value >= best.worst[first + query]  # equal scores go by id
    best.add(first + query[good], value[good], index.ids[row[good]])
    place = stop


def _scores(log_side, meet, up, queries, rows, least, u, v) -> np.ndarray:
  """Of queries u and rows v, [p] float64; bounds where rows are those around leaves."""
  out = np.empty(len(u))
  pairs = max(32, _NUMBERS // queries.lower.shape[1])
  pairs = pairs if len(u) > pairs // 32 else pairs // 32
  wide = lambda x, at: x[at].astype(np.float64)
  with jax.enable_x64(True):
    for first in range(0, len(u), pairs):
      part = slice(first, first + pairs)
      a, b = (np.pad(at[part], (0, pairs - len(at[part]))) for at in (u, v))
      query, row = (Box(*(wide(x, at) for x in box)) for box, at in ((queries, a), (rows, b)))
      sides = None if least is None else wide(least, b)
      out[part] = np.asarray(_containment(log_side, meet, up, query, row, sides))[: len(u[part])]
  return out


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _containment(log_side, meet, up, query: Box, row: Box, least: Array | None) -> Array:
  """How much of one is in the other, [p]; with `least` a bound for rows in the box `row`."""
  if up:  # more of a query is in a larger box
    return volume.log_containment(row, query, log_side=log_side, meet=meet)
  least = boxes.side(row) if least is None else least
  return volume.log_containment_bound(query, row, least, log_side=log_side, meet=meet)


def _leaves(points: np.ndarray, leaf: int) -> tuple[np.ndarray, np.ndarray]:
  """A k-d tree's leaves: rows [n] in order, and where leaves start, [leaves + 1].

  A part is halved along the coordinate that varies most.
  """
  order, start, parts = np.arange(len(points)), [0], [(0, len(points))]
  while parts:
    first, stop = parts.pop()
    if stop - first <= leaf:
      start.append(stop)
      continue
    rows = order[first:stop]
    along = points[rows, np.argmax(np.std(points[rows], axis=0))]
    half = len(rows) // 2
    order[first:stop] = rows[np.argpartition(along, half)]
    parts += [(first + half, stop), (first, first + half)]
  return order, np.array(start, np.int64)


def _checked(x: Box, what: str) -> Box:
  lower, upper = (np.asarray(corner) for corner in x)
  if lower.ndim != 2 or lower.shape != upper.shape or not lower.size:
    raise ValueError(f"corners must be [n, d], got {lower.shape} and {upper.shape}")
  for corner in (lower, upper):
    bad = np.flatnonzero(~np.isfinite(corner.astype(np.float64)).all(axis=1))
    if len(bad):
      raise ValueError(f"corners must be finite, those of {what} {bad[0]} are not")
  return Box(lower, upper)
