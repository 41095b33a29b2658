"""Search in sparse codes by an inverted index, with the work that it takes.

For each coordinate the index lists the documents in which it is not 0. A query reads the lists of
its own coordinates: as many multiply-adds as they have entries, where a dense search of n documents
in d coordinates takes n d.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse

from geoemb.retrieval import exact
from geoemb.typing import ArrayLike

_SCORES = 1 << 22  # stored scores of a block of queries, at most


class Found(NamedTuple):
  """What a search found and did."""

  hits: exact.Hits
  work: np.ndarray  # [b] int64 multiply-adds of each query


class SparseIndex:
  """An inverted index of codes [n, h]."""

  def __init__(self, codes: ArrayLike | scipy.sparse.sparray):
    self._lists = _sparse(codes, None)
    self._count = np.diff(self._lists.tocsc().indptr).astype(np.int64)  # [h] entries of the lists

  @property
  def nbytes(self) -> int:
    """Of all entries, each a document's id in 4 bytes and a value in 4."""
    return 8 * self._lists.nnz

  def search(self, queries: ArrayLike | scipy.sparse.sparray, k: int) -> Found:
    """The k documents of the largest inner products among those that share a coordinate.

    Args:
      queries: [b, h] codes.
      k: how many; where fewer share a coordinate the rest is filled, with ids of −1.

    Raises:
      ValueError: another number of coordinates, k below 1, values that are not finite, or an inner
        product beyond float32.
    """
    if k < 1:
      raise ValueError(f"k must be positive, got {k}")
    queries = _sparse(queries, self._lists.shape[1])
    work = np.add.reduceat(
      np.append(self._count[queries.indices], 0), queries.indptr[:-1], dtype=np.int64
    )
    work = np.where(np.diff(queries.indptr) > 0, work, 0)
    b, n = queries.shape[0], self._lists.shape[0]
    scores = np.full((b, k), -np.inf, np.float32)
    ids = np.full((b, k), -1, np.int64)
    lists = self._lists.T.tocsr()  # [h, n]
    block = max(1, _SCORES // max(n, 1))
    # A sparse product leaves out sums that are 0. Those of positive terms are not, if no term is.
    least = lists.data.min(initial=1)
    positive = least > 0 and least * queries.data.min(initial=1) > 0
    for start in range(0, b, block):
      some = queries[start : start + block]
      found = (some @ lists).tocsr()
      beyond = np.flatnonzero(~np.isfinite(found.data))
      if len(beyond):
        row = start + np.searchsorted(found.indptr, beyond[0], "right") - 1
        raise ValueError(f"inner products overflow float32, the first is of query {row}")
      if not positive:
        scored = found.toarray()
        found = (_pattern(some) @ _pattern(lists)).tocsr()
        found.data = scored[found.nonzero()]
      found.sort_indices()
      for i in range(found.shape[0]):
        part = slice(found.indptr[i], found.indptr[i + 1])
        values, docs = found.data[part], found.indices[part]
        if len(values) > k:  # all that tie with the k-th stay until they are sorted
          kept = values >= np.partition(values, -k)[-k]
          values, docs = values[kept], docs[kept]
        order = np.argsort(-values, kind="stable")[:k]
        scores[start + i, : len(order)], ids[start + i, : len(order)] = values[order], docs[order]
    return Found(exact.Hits(scores, ids), work)


def _pattern(codes):
  """1 where a code is not 0."""
  ones = np.ones_like(codes.data)
  return scipy.sparse.csr_array((ones, codes.indices, codes.indptr), codes.shape)


def _sparse(codes, h):
  if scipy.sparse.issparse(codes):
    codes = scipy.sparse.csr_array(codes).astype(np.float32)
  else:
    codes = np.asarray(codes, np.float32)
    if codes.ndim != 2:
      raise ValueError(f"codes must be [n, h], got {list(codes.shape)}")
    codes = scipy.sparse.csr_array(codes)
  codes.sum_duplicates()
  codes.eliminate_zeros()
  if h is not None and codes.shape[1] != h:
    raise ValueError(f"queries must have the index's {h} coordinates, got {codes.shape[1]}")
  if not np.isfinite(codes.data).all():
    raise ValueError("codes must be finite")
  return codes
