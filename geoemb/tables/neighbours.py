"""Nearest neighbours in a store, by the distance of its manifold or by the cosine.

    neighbours.nearest(words, "dog", 5)                                # [("wolf", 0.41), …]
    neighbours.most_similar(words, ["king", "woman"], ["man"], 1)      # [("queen", 0.73)]

The table is gone through in blocks of up to 16 million numbers: memory does not grow with it. Equal
values keep the order of rows. Queries are keys of the store or points; those of unknown keys are
`oov.lookup`'s. What is asked for is never among the answers.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from geoemb.tables.store import Store

_NUMBERS = 1 << 20  # of a block of points, whose copy in float64 fits into the cache
_FIRST = 1 << 12  # rows of the first block
_PRODUCTS = 1 << 24  # of a block of vectors, which are multiplied where they are
_RADIAL = ("euclidean", "sphere", "poincare", "lorentz", "klein", "stereographic")
_EPS = 1e-6  # of 3CosMul: a negative at the cosine −1 is no division by 0; as in gensim

Query = str | np.ndarray  # a key, or a point
Answer = list[tuple[str, float]]


def nearest(store: Store, query: Query | Sequence[Query], k: int = 10) -> Answer | list[Answer]:
  """The k keys whose points are nearest, with their distances in float64, nearest first.

  Args:
    store: any manifold.
    query: a key or a point [point]; or a sequence of them, for a list of answers.
    k: how many.
  """
  _check_k(k)
  one = isinstance(query, str) or _is_point(store, query)
  points, rows = _resolve(store, [query] if one else query)
  with jax.enable_x64(True):
    m, points = store.geometry, [jnp.asarray(x, jnp.float64) for x in points]

    def values(block: np.ndarray, start: int) -> list[np.ndarray]:
      block = jnp.asarray(block)
      return [np.array(_dist(m, x, block)) for x in points]

    found = _smallest(store, values, rows, k, _NUMBERS)
  answers = [[(key, float(d)) for key, d in zip(store.keys(r), d)] for r, d in found]
  return answers[0] if one else answers


def most_similar(
  store: Store, positive: Query | Sequence[Query], negative: Sequence[Query] = (), k: int = 10
) -> Answer:
  """The k keys whose vectors have the largest cosine with Σ positive − Σ negative, all of length 1.

  The analogies of [mikolov2013linguistic], "a is to b as c is to": most_similar(s, [b, c], [a]).
  Called 3CosAdd by [levy2014linguistic]. The cosine is that of coordinates.

  Raises:
    ValueError: the coordinates of the manifold are no directions from its origin, a key is unknown,
      or a vector or the sum is zero.
  """
  units, signs, rows = _units(store, positive, negative, k)
  query = signs @ units
  norm = np.linalg.norm(query)
  if not norm > 1e-12:  # float64 rounding of unit vectors that cancel
    raise ValueError("the vectors add up to zero, which is similar to nothing")
  return _by_cosine(store, (query / norm)[None], lambda cosine: cosine[0], rows, k)


def most_similar_cosmul(
  store: Store, positive: Query | Sequence[Query], negative: Sequence[Query] = (), k: int = 10
) -> Answer:
  """The k keys of the largest Π (1 + cos positive)/2 / (Π (1 + cos negative)/2 + ε), best first.

  3CosMul [levy2014linguistic] eq. 4 with cosines shifted to [0, 1]. Raises as `most_similar`.
  """
  units, signs, rows = _units(store, positive, negative, k)

  def combine(cosine: np.ndarray) -> np.ndarray:
    shifted = (1 + cosine) / 2
    return shifted[signs > 0].prod(axis=0) / (shifted[signs < 0].prod(axis=0) + _EPS)

  return _by_cosine(store, units, combine, rows, k)


def doesnt_match(store: Store, keys: Sequence[str]) -> str:
  """The key that is farthest from the others.

  In flat space that of the least cosine with the mean of all unit vectors, as word2vec's users
  expect; elsewhere that of the largest mean distance.
  """
  if len(keys) < 3 or len(set(keys)) < len(keys):
    raise ValueError(f"expected at least three different keys, got {list(keys)}")
  if store.manifold == "euclidean":
    units, *_ = _units(store, keys, (), 1)
    return keys[int(np.argmin(units @ units.mean(axis=0)))]
  with jax.enable_x64(True):
    x = store.lookup(keys).astype(np.float64)
    return keys[int(np.argmax(_dist(store.geometry, x[:, None], x[None]).sum(axis=1)))]


@jax.jit
def _dist(m, x, y):
  return m.dist(x, y.astype(x.dtype))


def _is_point(store: Store, query: Query | Sequence[Query]) -> bool:
  return isinstance(query, np.ndarray) and query.ndim == len(store.point)


def _check_k(k: int) -> None:
  if k < 0:
    raise ValueError(f"k must not be negative, got {k}")


def _resolve(store: Store, queries: Sequence[Query]) -> tuple[list[np.ndarray], list[int]]:
  """Points, and the rows of those that are keys, −1 for others."""
  keys = [query for query in queries if isinstance(query, str)]
  store.lookup(keys)
  points, rows = [], []
  for query in queries:
    row = store.row(query) if isinstance(query, str) else -1
    point = store.table[row] if row >= 0 else np.asarray(query)
    if point.shape != store.point or not np.isfinite(point.astype(np.float64)).all():
      raise ValueError(f"a query must be a key or a finite point {store.point}, got {query!r}")
    points.append(point.astype(np.float64))
    rows.append(row)
  return points, rows


def _units(
  store: Store, positive: Query | Sequence[Query], negative: Query | Sequence[Query], k: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
  """Unit vectors [q, d] float64, their signs [q], and the rows that are no answer."""
  _check_k(k)
  if store.manifold not in _RADIAL:
    raise ValueError(
      f"the coordinates of {store.manifold} are no directions, so they have no cosine; use nearest"
    )
  lists = [
    [q] if isinstance(q, str) or _is_point(store, q) else list(q) for q in (positive, negative)
  ]
  if not lists[0]:
    raise ValueError("expected a positive key or vector, got none")
  points, rows = _resolve(store, lists[0] + lists[1])
  x = np.stack(points)
  norm = np.linalg.norm(x, axis=1, keepdims=True)
  if not norm.all():
    raise ValueError(f"query {int(np.argmin(norm))} is the zero vector, which has no direction")
  return x / norm, np.repeat([1.0, -1.0], list(map(len, lists))), rows


def _by_cosine(
  store: Store, units: np.ndarray, combine: Callable, rows: list[int], k: int
) -> Answer:
  """The k keys for which a function of cosines [q, b] is largest; zero vectors have none."""
  dtype = store.norms.dtype
  units = units.astype(dtype)

  def values(block: np.ndarray, start: int) -> list[np.ndarray]:
    cosine = (block.astype(dtype, copy=False) @ units.T).T
    with np.errstate(invalid="ignore"):  # 0 / 0
      cosine /= store.norms[start : start + len(block)]
    return [-combine(cosine)]

  ((found, value),) = _smallest(store, values, [rows], k, _PRODUCTS)
  return [(key, float(-v)) for key, v in zip(store.keys(found), value)]


def _smallest(
  store: Store, values: Callable, excluded: Sequence[int | list[int]], k: int, numbers: int
) -> list[tuple[np.ndarray, np.ndarray]]:
  """For each query the rows of its k smallest values below ∞, and those, ascending.

  Args:
    store: whose table is gone through.
    values: (block of the table, its first row) → for each query values [b], which may be changed;
      rows whose value is NaN do not count.
    excluded: for each query the rows that do not count.
    k: how many.
    numbers: of a block.
  """
  size = max(1, numbers // int(np.prod(store.point)))
  best = [(np.zeros(0, np.int64), np.zeros(0)) for _ in excluded]
  few = min(size, _FIRST)  # of them k smallest rule out most of what follows
  starts = [0, *range(few, len(store), size)]
  for start, stop in zip(starts, [*starts[1:], len(store)]):
    for i, d in enumerate(values(store.table[start:stop], start)):
      own = np.atleast_1d(np.asarray(excluded[i], np.int64)) - start
      d[own[(own >= 0) & (own < len(d))]] = np.inf
      near = np.flatnonzero(d < (best[i][1][-1] if k and len(best[i][1]) == k else np.inf))
      if len(near) > k:
        near = near[d[near] <= np.partition(d[near], k - 1)[k - 1]]
      row = np.concatenate([best[i][0], near + start])
      d = np.concatenate([best[i][1], d[near]])
      first = np.argsort(d, kind="stable")[:k]
      best[i] = row[first], d[first]
  return best
