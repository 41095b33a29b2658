"""Indexes of other libraries, searched in one way: faiss, usearch, bm25s.

    index = libraries.faiss_hnsw(vectors, links=16)
    found = index.search(queries, 10, allow=allow, effort=64)

Every index has `search(queries, k, allow=None, effort=None) -> ivf.Found`: `allow` is [n] bool, and
`effort` is the library's own dial, for recall against work. Vectors are compared by cosine. The
libraries are the extra `search`; each is imported when an index of it is made. `evaluations` are
distances that were computed, as the library counts them, or for lists as they follow from what was
probed; for text they are the rows that may score.
"""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np

from geoemb.retrieval import exact, ivf
from geoemb.typing import ArrayLike


class Library(NamedTuple):
  """An index of n rows."""

  n: int
  find: Callable[..., ivf.Found]  # (queries, k, allow, effort)

  def search(
    self,
    queries: ArrayLike | Sequence[str],
    k: int,
    allow: ArrayLike | None = None,
    effort: int | None = None,
  ) -> ivf.Found:
    """The k best of the rows that count, for each query.

    Raises:
      ValueError: k is not positive, or `allow` is not [n] bool.
    """
    if k < 1:
      raise ValueError(f"k must be positive, got {k}")
    if allow is not None:
      allow = np.asarray(allow)
      if allow.dtype != bool or allow.shape != (self.n,):
        raise ValueError(f"allow must be [{self.n}] bool, got {allow.dtype} {allow.shape}")
    return self.find(queries, k, allow, effort)


def faiss_flat(vectors: ArrayLike) -> Library:
  """Exact search by faiss [douze2024faiss]; there is no dial."""
  faiss, vectors = _imported("faiss", "faiss-cpu"), _unit(vectors)
  index = faiss.IndexFlatIP(vectors.shape[1])
  index.add(vectors)

  def find(queries, k, allow, effort):
    queries = _unit(queries, vectors.shape[1])
    sel, keep = _selector(faiss, allow)
    params = faiss.SearchParameters(sel=sel) if keep is not None else None
    scores, ids = index.search(queries, k, params=params)
    count = len(vectors) if allow is None else int(allow.sum())
    return _found(scores, ids, np.full(len(queries), count))

  return Library(len(vectors), find)


def faiss_ivf(vectors: ArrayLike, *, lists: int, seed: int = 0) -> Library:
  """An IndexIVFFlat of faiss with spherical k-means; the dial is the number of lists probed."""
  faiss, vectors = _imported("faiss", "faiss-cpu"), _unit(vectors)
  n, d = vectors.shape
  if not 1 <= lists <= n:
    raise ValueError(f"lists must be between 1 and {n}, the vectors, got {lists}")
  kmeans = faiss.Kmeans(
    d, lists, niter=10, spherical=True, seed=seed, min_points_per_centroid=1,
    max_points_per_centroid=max(256, -(-n // lists)),
  )  # fmt: skip
  kmeans.train(vectors)
  quantizer = faiss.IndexFlatIP(d)
  quantizer.add(kmeans.centroids)
  index = faiss.IndexIVFFlat(quantizer, d, lists, faiss.METRIC_INNER_PRODUCT)
  index.add(vectors)
  place = quantizer.search(vectors, 1)[1][:, 0]  # the list of each row

  def find(queries, k, allow, effort):
    queries = _unit(queries, d)
    sel, keep = _selector(faiss, allow)
    probes = min(effort or 1, lists)
    params = faiss.SearchParametersIVF(nprobe=probes, **({} if keep is None else {"sel": sel}))
    scores, ids = index.search(queries, k, params=params)
    size = np.bincount(place if allow is None else place[allow], minlength=lists)
    probed = quantizer.search(queries, probes)[1]
    return _found(scores, ids, lists + size[probed].sum(axis=1))

  return Library(n, find)


def faiss_hnsw(vectors: ArrayLike, *, links: int = 16, build_effort: int = 100) -> Library:
  """The HNSW graph of faiss [malkov2020hnsw]; the dial is efSearch.

  With a selector the walk is that without, and only rows that count are kept.
  """
  faiss, vectors = _imported("faiss", "faiss-cpu"), _unit(vectors)
  n, d = vectors.shape
  index = faiss.IndexHNSWFlat(d, links, faiss.METRIC_INNER_PRODUCT)
  index.hnsw.efConstruction = build_effort
  index.add(vectors)

  def find(queries, k, allow, effort):
    queries = _unit(queries, d)
    sel, keep = _selector(faiss, allow)
    ef = max(effort or 16, k)
    params = faiss.SearchParametersHNSW(efSearch=ef, **({} if keep is None else {"sel": sel}))
    rows, counts = [], []
    for query in queries:  # one by one, for the count is the process's
      faiss.cvar.hnsw_stats.reset()
      rows.append(index.search(query[None], k, params=params))
      counts.append(faiss.cvar.hnsw_stats.ndis)
    scores, ids = (np.concatenate(part) for part in zip(*rows))
    return _found(scores, ids, np.array(counts))

  return Library(n, find)


def usearch(vectors: ArrayLike, *, links: int = 16, build_effort: int = 128) -> Library:
  """The HNSW graph of usearch; the dial is its expansion.

  Its Python package has no search with a predicate (2.26), so more is fetched, and what does not
  count is dropped: k rows at first and twice as many in each further try, until k of them count or
  as many as the dial says, or all rows, were fetched. The distances of all tries are counted.
  """
  module, vectors = _imported("usearch.index", "usearch"), _unit(vectors)
  n, d = vectors.shape
  index = module.Index(
    ndim=d, metric="cos", dtype="f32", connectivity=links, expansion_add=build_effort
  )
  index.add(np.arange(n), vectors, threads=1)

  def find(queries, k, allow, effort):
    queries = _unit(queries, d)
    most = min(n, max(effort or 64, k))
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), -1, np.int64)
    counts = np.zeros(len(queries), np.int64)
    for i, query in enumerate(queries):
      fetch = min(k, most)
      while True:
        index.expansion_search = max(fetch, min(most, effort or 64))
        hits = index.search(query, fetch, threads=1)
        counts[i] += hits.computed_distances
        keys = hits.keys.astype(np.int64)
        good = np.ones(len(keys), bool) if allow is None else allow[keys]
        if good.sum() >= k or fetch >= most:
          break
        fetch = min(2 * fetch, most)
      kept = keys[good][:k]
      ids[i, : len(kept)], scores[i, : len(kept)] = kept, 1 - hits.distances[good][:k]
    return ivf.Found(scores, ids, counts)

  return Library(n, find)


def bm25(
  texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75, stemmer: str | None = "english"
) -> Library:
  """BM25 of texts by bm25s [lu2024bm25s], English stop words left out; queries are texts.

  Args:
    texts: the rows.
    k1: how soon repeated words stop to count.
    b: how much long texts are held back.
    stemmer: a language of PyStemmer, or None.
  """
  bm25s = _imported("bm25s", "bm25s")
  stem = _imported("Stemmer", "PyStemmer").Stemmer(stemmer) if stemmer else None
  if not len(texts):
    raise ValueError("texts must not be empty")

  def tokens(some):
    return bm25s.tokenize(
      list(some), stopwords="en", stemmer=stem, return_ids=False, show_progress=False
    )

  index = bm25s.BM25(k1=k1, b=b)
  index.index(tokens(texts), show_progress=False)
  n = len(texts)

  def find(queries, k, allow, effort):
    if isinstance(queries, str) or not all(isinstance(q, str) for q in queries):
      raise ValueError(f"queries must be a sequence of texts, got {type(queries).__name__}")
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), -1, np.int64)
    counts = np.zeros(len(queries), np.int64)
    for i, words in enumerate(tokens(queries)):
      known = [word for word in words if word in index.vocab_dict]
      row = index.get_scores(known) if known else np.zeros(n, np.float32)
      held = row > 0 if allow is None else (row > 0) & allow
      at = np.flatnonzero(held)
      counts[i] = len(at)
      at = at[np.lexsort((at, -row[at]))[:k]]
      ids[i, : len(at)], scores[i, : len(at)] = at, row[at]
    return ivf.Found(scores, ids, counts)

  return Library(n, find)


def _imported(name: str, package: str) -> ModuleType:
  try:
    return importlib.import_module(name)
  except ImportError:
    raise ImportError(f"this index needs {package}: pip install 'geoemb[search]'") from None


def _unit(x: ArrayLike, d: int | None = None) -> np.ndarray:
  """Vectors of length 1, contiguous float32."""
  x = np.asarray(x, np.float64)
  if x.ndim != 2 or not len(x) or (d is not None and x.shape[1] != d):
    raise ValueError(f"expected rows of vectors [n, {'d' if d is None else d}], got {x.shape}")
  if not np.isfinite(x).all():
    raise ValueError("vectors must be finite")
  return np.ascontiguousarray(exact.unit(x), np.float32)


def _selector(faiss: ModuleType, allow: np.ndarray | None):
  """A faiss selector, and what has to live as long as it."""
  if allow is None:
    return None, None
  bits = np.packbits(allow, bitorder="little")
  return faiss.IDSelectorBitmap(len(allow), faiss.swig_ptr(bits)), bits


def _found(scores, ids, counts) -> ivf.Found:
  """With −inf where there is no row, which faiss marks by id −1."""
  scores = np.where(ids < 0, -np.inf, scores).astype(np.float32)
  return ivf.Found(scores, ids.astype(np.int64), counts.astype(np.int64))
