"""Hubs: points that are among the nearest of far too many others, and what is done about them.

    fitted = hubness.fit(table, hubness.csls(), by="cosine")
    hits = hubness.search(fitted, 10)             # the table's own rows, each without itself
    hits = hubness.search(fitted, 10, queries)
    hubness.measures(hits.ids, len(table))

N_k(x), the k-occurrence, is how often x is among the k nearest of other points; its mean is k, and
it is skewed where dimensions are many [radovanovic2010hubs]. Against that stand maps of vectors,
`fit_map` and `matched`, and secondary similarities: a pair's distance is judged by the distances
that each of the two is used to. One is a `Secondary`; all are searched in the same way, in blocks
of which none is larger than `_BLOCK` distances (times the sample for `mutual_proximity_empirical`).

Sources: [nielsen2024hubness] for the choice of methods and the marginals; [feldbauer2019hubness],
who compare the secondary similarities; each for its own below.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from geoemb.manifolds import base
from geoemb.retrieval import exact
from geoemb.typing import ArrayLike

_BLOCK = 1 << 22  # distances at a time
MAPS = ("none", "center", "zscore", "f-norm", "f-unif")
_TINY = np.finfo(np.float64).eps  # where all of a point's distances are 0, it divides by this


class Measures(NamedTuple):
  """How unevenly n points occur among neighbours."""

  skewness: float  # of N_k: third central moment over the cube of the standard deviation
  robin_hood: float  # ½ Σ|N − mean N| / Σ N: the share that would have to change hands
  antihubs: float  # share of points with N_k = 0
  hubs: float  # share of points with N_k ≥ 2k
  largest: int  # max N_k


class Secondary(NamedTuple):
  """A similarity of pairs, from their distance and from what each knows of its surroundings.

  `about` and `score` are numpy functions; `fit` calls them.
  """

  about: Callable[[np.ndarray], tuple[np.ndarray, ...]]  # distances [b, m] to others → [b, …] each
  # (distances [b, c], what the queries know [b, 1, …], what the rows know [b or 1, c, …]) → [b, c];
  # larger is nearer
  score: Callable[[np.ndarray, tuple[np.ndarray, ...], tuple[np.ndarray, ...]], np.ndarray]
  candidates: int | None = None  # only so many of the nearest are scored; None for all
  sample: int | None = None  # `about` sees the distances to so many rows at most; None for all


class Fitted(NamedTuple):
  """A table whose rows know their surroundings."""

  table: np.ndarray  # [n, point]
  by: str | base.Manifold
  secondary: Secondary | None
  about: tuple[np.ndarray, ...]  # [n, …] each
  seen: np.ndarray  # [m] the rows whose distances `about` saw


def occurrences(ids: ArrayLike, n: int) -> np.ndarray:
  """N_k of n rows, [n] int64, from neighbours' ids [q, k]; −1 is none."""
  ids = np.asarray(ids)
  if ids.size and not -1 <= ids.min() <= ids.max() < n:
    raise ValueError(f"ids must lie between -1 and {n - 1}, got {ids.min()} to {ids.max()}")
  return np.bincount(ids[ids >= 0], minlength=n)


def measures(ids: ArrayLike, n: int) -> Measures:
  """Measures of the occurrences of n rows among the neighbours [q, k] of some queries.

  Skewness is 0 where all occur equally often.
  """
  ids = np.asarray(ids)
  count = occurrences(ids, n)
  if ids.ndim != 2 or not count.any():
    raise ValueError(f"ids must be [q, k] with some neighbour, got {ids.shape}")
  mean = count.mean()
  return Measures(
    skewness=float(stats.skew(count)) if count.std() else 0.0,
    robin_hood=float(np.abs(count - mean).sum() / count.sum() / 2),
    antihubs=float(np.mean(count == 0)),
    hubs=float(np.mean(count >= 2 * ids.shape[1])),
    largest=int(count.max()),
  )


def vote(labels: ArrayLike) -> np.ndarray:
  """The commonest label among neighbours' [q, k], nearest first, [q]; of equal ones the nearest."""
  labels = np.asarray(labels)
  votes = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)
  return labels[np.arange(len(labels)), votes.argmax(axis=1)]  # argmax takes the first


# Maps of vectors.


def fit_map(name: str, train: ArrayLike) -> Callable[[ArrayLike], np.ndarray]:
  """A map of vectors [n, d] → [n, d] whose constants come from `train` alone.

    center   x − mean
    zscore   (x − mean) / standard deviation; constant coordinates become 0
    f-norm   each coordinate's distribution in `train` becomes N(0, 1), by its empirical quantiles
    f-unif   the same, U(−1, 1)

  The last two are inductive forms of `matched`: value i of the sorted n goes to the quantile
  (i + ½)/n, equal values share the mean of theirs, what lies between is interpolated, and what lies
  beyond goes to the ends. Compare by cosine, as the source normalises rows last.

  Raises:
    ValueError: no such map, or `train` is not a finite [n, d]; of the map, if x is none.
  """
  if name not in MAPS:
    raise ValueError(f"the map must be one of {', '.join(MAPS)}, got {name!r}")
  train = _vectors(train, "train")
  mean, d = train.mean(axis=0), train.shape[1]
  if name == "none":
    return lambda x: _vectors(x, "x", d)
  if name == "center":
    return lambda x: _vectors(x, "x", d) - mean
  if name == "zscore":
    constant = np.ptp(train, axis=0) == 0
    scale = np.where(constant, 0, 1 / np.where(constant, 1, train.std(axis=0)))
    return lambda x: (_vectors(x, "x", d) - mean) * scale
  quantile = _law(name)(np.arange(0.5, len(train)) / len(train))
  knots = []
  for column in np.sort(train, axis=0).T:
    value, start = np.unique(column, return_index=True)
    size = np.diff(np.append(start, len(train)))
    knots.append((value, np.add.reduceat(quantile, start) / size))
  return lambda x: np.stack(
    [np.interp(column, *knot) for column, knot in zip(_vectors(x, "x", d).T, knots)], axis=1
  )


def matched(name: str, x: ArrayLike, *, seed: int = 0) -> np.ndarray:
  """Vectors [n, d] with each coordinate replaced by random draws of equal rank, [n, d].

  "f-norm" and "f-unif" as [nielsen2024hubness] have them: n draws from N(0, 1) or U(−1, 1) for each
  coordinate, in the order of its values. Transductive: queries have to be among the rows. Equal
  values get the mean of their draws: coordinates that are constant for many rows, such as an
  image's margin, would otherwise all order these rows alike, and make hubs.
  """
  x = _vectors(x, "x")
  draws = np.sort(_law(name)(np.random.default_rng(seed).uniform(size=x.shape)), axis=0).T.ravel()
  order = x.argsort(axis=0, kind="stable")
  ranked = np.take_along_axis(x, order, axis=0).T.ravel()  # one coordinate after another
  new = np.append(True, ranked[1:] != ranked[:-1])
  new[:: len(x)] = True
  first = np.flatnonzero(new)
  size = np.diff(first, append=len(ranked))
  means = np.repeat(np.add.reduceat(draws, first) / size, size)
  out = np.empty_like(x)
  np.put_along_axis(out, order, means.reshape(x.T.shape).T, axis=0)
  return out


def _law(name: str) -> Callable[[np.ndarray], np.ndarray]:
  laws = {"f-norm": special.ndtri, "f-unif": lambda p: 2 * p - 1}
  if name not in laws:
    raise ValueError(f"the distribution must be f-norm or f-unif, got {name!r}")
  return laws[name]


def fit_lift(
  m: base.Manifold, train: ArrayLike, *, radius: float
) -> Callable[[ArrayLike], np.ndarray]:
  """A map of vectors [n, d] to points of a manifold, [n, point] float64.

  exp of the origin's tangents r (x − mean), with r such that those of `train` lie `radius` from the
  origin on average; directions and the proportions of lengths from the mean are kept. Unit vectors
  that are not centred would all lie equally far from the origin, and have the same neighbours in
  every geometry.

  Raises:
    ValueError: `train` is not a finite [n, d], or all its rows are equal.
  """
  train = _vectors(train, "train")
  mean = train.mean(axis=0)
  length = np.linalg.norm(train - mean, axis=1).mean()
  if length == 0:
    raise ValueError("the rows of train must not all be equal")
  with jax.enable_x64(True):
    m = jax.tree.map(lambda c: jnp.asarray(c, jnp.float64), m)
    origin = np.asarray(m.origin((), train.shape[1], jnp.float64))
    axis = np.zeros(len(origin))
    axis[-1] = 1
    scale = radius / length / float(_norm(m, origin, axis))
  ambient = len(origin) - train.shape[1]  # the sphere's first coordinate points to its pole

  def lift(x):
    v = np.pad(scale * (_vectors(x, "x", len(mean)) - mean), ((0, 0), (ambient, 0)))
    with jax.enable_x64(True):
      return np.asarray(_exps(m, origin, v))

  return lift


_norm = jax.jit(lambda m, x, v: m.norm(x, v))


@jax.jit
def _exps(m, origin, v):
  return m.exp(jnp.broadcast_to(origin, v.shape), v)


# Secondary similarities.


def local_scaling(k: int = 5) -> Secondary:
  """−d(x, y)² / (σ_x σ_y), σ the distance of the k-th neighbour [zelnik2004self].

  Hubs by it: [schnitzer2012local]. Papers have 1 − exp(·), which has the same order.
  """
  _positive("k", k)
  about = lambda d: (np.maximum(_nearest(d, k)[:, -1], _TINY),)
  return Secondary(about, lambda d, x, y: -d * (d / (x[0] * y[0])))


def mutual_proximity() -> Secondary:
  """Logarithm of P(X > d) P(Y > d), with X and Y normal as the distances from x and from y are.

  Source: [schnitzer2012local], the independent Gaussian form.
  """
  about = lambda d: (_mean(d), np.maximum(_spread(d), _TINY))
  tail = lambda d, p: special.log_ndtr((p[0] - d) / p[1])
  return Secondary(about, lambda d, x, y: tail(d, x) + tail(d, y))


def mutual_proximity_empirical(candidates: int = 100, sample: int = 2000) -> Secondary:
  """Share of rows j with d(x, j) > d(x, y) and d(y, j) > d(x, y) [schnitzer2012local].

  Of a sample of rows, for the nearest candidates; equal shares in the order of distances.
  """
  _positive("candidates", candidates)
  _positive("sample", sample)

  def score(d, x, y):
    both = (x[0] > d[..., None]) & (y[0] > d[..., None])
    # Shares are multiples of 1/m: a smaller term only decides between equal ones.
    return both.mean(axis=2) - d / (d + 1) / (2 * both.shape[2])

  return Secondary(lambda d: (d,), score, candidates, sample)


def csls(k: int = 10) -> Secondary:
  """2 cos(x, y) − r_x − r_y, r the mean cosine of the k nearest [conneau2018word].

  Written with distances, 1 − cos, and so for those of any geometry.
  """
  _positive("k", k)
  about = lambda d: (_nearest(d, k).mean(axis=1),)
  return Secondary(about, lambda d, x, y: x[0] + y[0] - 2 * d)


def inverted_softmax(beta: float = 30.0) -> Secondary:
  """Logarithm of e^{β cos(x, y)} / Σ_j e^{β cos(j, y)} [smith2017offline].

  The sum is over the rows of the table other than y, as queries may be few. The default β is that
  of the code of [conneau2018word].
  """
  about = lambda d: (special.logsumexp(np.where(np.isnan(d), -np.inf, -beta * d), axis=1),)
  return Secondary(about, lambda d, x, y: -beta * d - y[0])


SECONDARY: dict[str, Callable[[], Secondary]] = {
  "local_scaling": local_scaling,
  "mp": mutual_proximity,
  "mp_empirical": mutual_proximity_empirical,
  "csls": csls,
  "inverted_softmax": inverted_softmax,
}


def fit(
  table: ArrayLike,
  secondary: Secondary | None = None,
  *,
  by: str | base.Manifold = "cosine",
  seed: int = 0,
) -> Fitted:
  """A table that can be searched, [n, point]: what its rows know of each other.

  Args:
    table: the rows.
    secondary: how distances are judged; None takes them as they are.
    by: "cosine", "euclidean" or a manifold for its distance (by `pairwise`, in float64).
    seed: of the sample, if there is one.

  Raises:
    ValueError: the table is not finite or has fewer than two rows, or a zero vector with cosines.
  """
  table = _points(table, by, "table")
  if len(table) < 2:
    raise ValueError(f"a table needs at least two rows, got {len(table)}")
  n, m = len(table), secondary.sample if secondary else None
  seen = np.arange(n)
  if m is not None and m < n:
    seen = np.sort(np.random.default_rng(seed).choice(n, m, replace=False))
  fitted = Fitted(table, by, secondary, (), seen)
  return fitted._replace(about=_about(fitted, table, own=True)) if secondary else fitted


def search(fitted: Fitted, k: int, queries: ArrayLike | None = None) -> exact.Hits:
  """The k rows most similar to each query; without queries, to each row, which is left out itself.

  Args:
    fitted: the table.
    k: how many.
    queries: [b, point].

  Raises:
    ValueError: shapes do not agree, a query is not finite, or k is not positive.
  """
  own = queries is None
  x = fitted.table if own else _points(queries, fitted.by, "queries")
  if x.shape[1:] != fitted.table.shape[1:]:
    raise ValueError(f"queries must be points {fitted.table.shape[1:]}, got {x.shape[1:]}")
  _positive("k", k)
  n, secondary = len(fitted.table), fitted.secondary
  of_x = () if secondary is None else fitted.about if own else _about(fitted, x, own=False)
  kept = min(k, n - own)
  found = exact.Hits(np.full((len(x), k), -np.inf), np.full((len(x), k), -1, np.int64))
  width = n
  if secondary and secondary.candidates:
    width = min(max(secondary.candidates, kept), n - own)
  for some, d in _distances(fitted, x, fitted.table):
    if own:
      d[np.arange(len(d)), np.arange(some.start, some.stop)] = np.inf
    ids = _first(d, width) if width < n else np.broadcast_to(np.arange(n), d.shape)
    d = np.take_along_axis(d, ids, 1) if width < n else d
    score = -d
    if secondary:
      score = np.empty(d.shape)
      step = max(1, _BLOCK // (d.shape[1] * max([1, *(a[0].size for a in of_x)])))
      for first in range(0, len(d), step):
        at = slice(first, first + step)
        mine = tuple(a[some][at, None] for a in of_x)
        rows = ids[at] if width < n else np.arange(n)[None]
        score[at] = secondary.score(d[at], mine, tuple(a[rows] for a in fitted.about))
    at = _first(-score, kept)
    found.scores[some, :kept] = np.take_along_axis(score, at, 1)
    found.ids[some, :kept] = np.take_along_axis(ids, at, 1)
  return found


def _first(cost: np.ndarray, k: int) -> np.ndarray:
  """Places of the k smallest of each row, in order; equal ones by place, [b, k]."""
  k = min(k, cost.shape[1])
  bound = np.partition(cost, k - 1, axis=1)[:, k - 1, None]
  row, column = np.nonzero(cost <= bound)
  order = np.lexsort((column, cost[row, column], row))
  row, column = row[order], column[order]
  start = np.searchsorted(row, np.arange(len(cost)))
  return column[start[:, None] + np.arange(k)]


def _about(fitted: Fitted, x: np.ndarray, own: bool) -> tuple[np.ndarray, ...]:
  """What points know of the distances to the rows that count, without a row's own."""
  parts = []
  place = np.full(len(fitted.table), -1)
  place[fitted.seen] = np.arange(len(fitted.seen))
  for some, d in _distances(fitted, x, fitted.table[fitted.seen]):
    if own:
      at = np.flatnonzero(place[some] >= 0)
      d[at, place[some][at]] = np.nan  # not among the others
    parts.append(fitted.secondary.about(d))
  return tuple(np.concatenate(a) for a in zip(*parts))


def _distances(fitted: Fitted, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
  """(rows of x, their distances to all of y [b, n] float64)."""
  step = max(1, min(len(x), _BLOCK // len(y)))
  if isinstance(fitted.by, str):
    square = lambda a: np.einsum("nd,nd->n", a, a, dtype=np.float64)
    cosine, size = fitted.by == "cosine", square(y)
    rounding = 2 * y.shape[1] * max(np.finfo(x.dtype).eps, np.finfo(y.dtype).eps)
    pairs = max(1, _BLOCK // y.shape[1])
    for first in range(0, len(x), step):
      some = x[first : first + step]
      d = (some @ y.T).astype(np.float64)
      whole = 1.0 if cosine else square(some)[:, None] + size
      d = whole - (d if cosine else 2 * d)
      # Below the rounding of that, |x − y|² is summed, so that equal rows are at 0 and come first.
      row, column = np.nonzero(d <= rounding * whole)
      for i in range(0, len(row), pairs):
        u, v = row[i : i + pairs], column[i : i + pairs]
        d[u, v] = square(some[u] - y[v]) * (0.5 if cosine else 1)
      yield slice(first, first + len(some)), d if cosine else np.sqrt(d)
    return
  for first in range(0, len(x), step):
    some = x[first : first + step]
    padded = np.concatenate([some, np.repeat(some[:1], step - len(some), axis=0)])
    with jax.enable_x64(True):
      m = jax.tree.map(lambda c: jnp.asarray(c, jnp.float64), fitted.by)
      d = np.array(_pairwise(m, padded, y))[: len(some)]
    yield slice(first, first + len(some)), d


_pairwise = jax.jit(lambda m, x, y: m.pairwise(x, y))


def _points(x: ArrayLike, by: str | base.Manifold, what: str) -> np.ndarray:
  """Points as they are compared: for cosines of length 1, in float32 if not given in float64."""
  x = np.asarray(x)
  if isinstance(by, str) and by not in ("cosine", "euclidean"):
    raise ValueError(f'by must be "cosine", "euclidean" or a manifold, got {by!r}')
  ndim = 2 if isinstance(by, str) else 1 + by.point_ndim
  if x.ndim != ndim or not x.size:
    raise ValueError(f"{what} must be rows of points, got {x.shape}")
  wide, x = x.dtype == np.float64, x.astype(np.float64)
  if not np.isfinite(x).all():
    raise ValueError(f"{what} must be finite")
  if by == "cosine":
    x = exact.unit(x, what).astype(np.float64 if wide else np.float32)
  return x


def _vectors(x: ArrayLike, what: str, d: int | None = None) -> np.ndarray:
  x = np.asarray(x, np.float64)
  if x.ndim != 2 or not x.size or d not in (None, x.shape[1]) or not np.isfinite(x).all():
    raise ValueError(f"{what} must be finite vectors [n, {d or 'd'}], got {x.shape}")
  return x


def _positive(name: str, value: int) -> None:
  if value < 1:
    raise ValueError(f"{name} must be positive, got {value}")


def _nearest(d: np.ndarray, k: int) -> np.ndarray:
  """The k smallest of each row, the largest of them last; NaN does not count."""
  k = min(k, d.shape[1] - bool(np.isnan(d).any()))
  return np.partition(d, k - 1, axis=1)[:, :k]  # partition puts NaN last


_mean = functools.partial(np.nanmean, axis=1)
_spread = functools.partial(np.nanstd, axis=1)
