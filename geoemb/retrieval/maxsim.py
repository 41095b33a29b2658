"""MaxSim: the score of bags of vectors by late interaction [khattab2020colbert].

  MaxSim(Q, P) = Σ_{q ∈ Q} max_{p ∈ P} ⟨q, p⟩, also called the Chamfer similarity

Exact, blocked: the inner products of a batch of documents with all queries are held at a time.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from geoemb import numerics
from geoemb.data import ragged
from geoemb.typing import Array, ArrayLike

# Inner products at a time: those of a CPU stay in its cache.
_PRODUCTS, _CACHED = 1 << 25, 1 << 21


def maxsim(query: Array, document: Array, mask: Array | None = None) -> Array:
  """Σ_q max_p ⟨q, p⟩ of one pair, [].

  Args:
    query: [s, d]; rows of zeros count nothing.
    document: [t, d].
    mask: [t] bool, which of its rows there are, at least one.
  """
  products = numerics.dots(query, document)
  if mask is not None:
    products = jnp.where(mask, products, -jnp.inf)
  return products.max(axis=-1).sum()


def scores(
  queries: ragged.Ragged,
  documents: ragged.Ragged,
  *,
  progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
  """MaxSim of every query with every document, [q, n] float32.

  Args:
    queries: q bags.
    documents: n bags.
    progress: called with (documents done, documents in all).

  Raises:
    ValueError: dimensions differ, a bag is empty, or a vector is not finite.
  """
  ragged.check(queries)
  if queries.vectors.shape[1] != documents.vectors.shape[1]:
    raise ValueError(
      "queries and documents must have one dimension, "
      f"got {queries.vectors.shape[1]} and {documents.vectors.shape[1]}"
    )
  out = np.empty((len(queries.start) - 1, len(documents.start) - 1), np.float32)
  owner = jnp.asarray(np.repeat(np.arange(len(out), dtype=np.int32), np.diff(queries.start)))
  vectors = jnp.asarray(queries.vectors, jnp.float32)
  done = 0
  most = _CACHED if jax.default_backend() == "cpu" else _PRODUCTS
  budget = max(1, most // len(vectors))
  for rows, x, mask in ragged.batches(documents, budget):
    found = _block(vectors, owner, x.astype(np.float32), mask, q=len(out))
    out[:, rows] = np.asarray(found)[:, : len(rows)]
    done += len(rows)
    if progress is not None:
      progress(done, out.shape[1])
  return out


@functools.partial(jax.jit, static_argnames="q")
def _block(vectors, owner, x, mask, *, q):
  """[q, b] scores of all queries with documents x [b, t, d]."""
  b, t, d = x.shape
  products = numerics.dots(vectors, x.reshape(b * t, d))
  products = jnp.where(mask, products.reshape(-1, b, t), -jnp.inf)
  return jax.ops.segment_sum(products.max(axis=-1), owner, q, indices_are_sorted=True)


def rerank(
  queries: ragged.Ragged, documents: ragged.Ragged, candidates: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """Candidates by their exact MaxSim, best first: (scores [q, c], ids [q, c]).

  Args:
    queries: q bags.
    documents: n bags.
    candidates: [q, c] which documents each query is to be compared with; −1 for none.

  Raises:
    ValueError: as for `scores`, or candidates are not [q, c] rows of documents.
  """
  candidates = np.asarray(candidates)
  ragged.check(queries), ragged.check(documents)
  n = len(documents.start) - 1
  if candidates.ndim != 2 or len(candidates) != len(queries.start) - 1:
    raise ValueError(f"candidates must be [{len(queries.start) - 1}, c], got {candidates.shape}")
  if candidates.size and not -1 <= candidates.min() <= candidates.max() < n:
    raise ValueError(f"candidates must be rows of {n} documents, or −1")
  out = np.full(candidates.shape, -np.inf, np.float32)
  for i, found in enumerate(candidates):
    use = np.flatnonzero(found >= 0)
    if not len(use):
      continue
    query = ragged.Ragged(*_some(queries, [i]))
    out[i, use] = scores(query, ragged.Ragged(*_some(documents, found[use])))[0]
  order = np.argsort(-out, axis=1, kind="stable")
  return np.take_along_axis(out, order, 1), np.take_along_axis(candidates, order, 1)


def _some(bags, rows):
  """The bags of some rows, one after another."""
  parts = [bags.vectors[bags.start[i] : bags.start[i + 1]] for i in rows]
  return np.concatenate(parts), np.concatenate([[0], np.cumsum([len(p) for p in parts])])
