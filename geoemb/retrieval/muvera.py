"""Fixed dimensional encodings of bags of vectors, MUVERA [dhulipala2024muvera] §2.

    encoding = muvera.init(key, 384, repetitions=20, bits=5, projected=16)
    f = muvera.query(encoding, q)          # [20 · 2⁵ · 16] of the bag q [s, 384]
    g = muvera.document(encoding, p)
    f @ g / 20                             # estimates MaxSim(q, p)

For each of R repetitions, k random hyperplanes cut space into 2ᵏ buckets (SimHash). A query's block
for a bucket is the sum of its vectors there, a document's their mean; a document's empty bucket
takes the vector whose signs differ from the bucket's in the fewest places. Vectors are projected
by ψ(x) = S x / √d_proj, S random signs, and the blocks of all buckets and repetitions laid side by
side.

Without projections ⟨f, g⟩ / R is never more than MaxSim: every vector of the query meets a mean of
the document's vectors where MaxSim has their maximum. An optional last projection is a count
sketch, as in the authors' code; the paper's random signs would be a matrix of millions of rows.
"""

import functools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from geoemb import numerics
from geoemb.data import ragged
from geoemb.typing import Array, Key

_TOKENS = 1 << 12  # vectors in a batch
_BLOCKS = 1 << 23  # numbers in the encodings of a batch


@struct.dataclass
class Encoding:
  """The random choices that queries and documents share."""

  planes: Array  # [R, d, k] normals of the hyperplanes
  signs: Array | None  # [R, d, d_proj], ±1/√d_proj; None keeps all d coordinates
  sketch: tuple[Array, Array] | None  # bucket [D] int32 and sign [D] of every coordinate
  size: int = struct.field(pytree_node=False)  # of an encoding


def init(
  key: Key,
  dim: int,
  *,
  repetitions: int = 20,
  bits: int = 5,
  projected: int | None = 16,
  final: int | None = None,
) -> Encoding:
  """Random choices for bags of vectors of a dimension.

  Args:
    key: of the randomness.
    dim: d, of the vectors.
    repetitions: R.
    bits: k, the hyperplanes of a repetition.
    projected: d_proj, or None to keep all d coordinates.
    final: size after the count sketch, or None for all R 2ᵏ d_proj coordinates.

  Raises:
    ValueError: a size is not positive, or more than 16 bits, which are 65,536 buckets.
  """
  if min(dim, repetitions, projected or 1, final or 1) < 1 or not 0 <= bits <= 16:
    raise ValueError(
      "sizes must be positive and bits at most 16, got "
      f"{dim=}, {repetitions=}, {bits=}, {projected=}, {final=}"
    )
  key_planes, key_signs, key_bucket, key_last = jax.random.split(key, 4)
  planes = jax.random.normal(key_planes, (repetitions, dim, bits))
  signs, sketch, width = None, None, dim
  if projected is not None:
    shape, width = (repetitions, dim, projected), projected
    signs = jax.random.rademacher(key_signs, shape, jnp.float32) / math.sqrt(projected)
  size = repetitions * 2**bits * width
  if final is not None:
    bucket = jax.random.randint(key_bucket, (size,), 0, final)
    sketch = bucket, jax.random.rademacher(key_last, (size,), jnp.float32)
    size = final
  return Encoding(planes, signs, sketch, size)


def query(encoding: Encoding, x: Array, mask: Array | None = None) -> Array:
  """The encoding of a query, [size]: sums by bucket.

  Args:
    encoding: from `init`.
    x: [s, d] its vectors.
    mask: [s] bool, which of them there are.
  """
  return _encode(encoding, x, _bag(x, mask), 1)[0]


def document(
  encoding: Encoding, x: Array, mask: Array | None = None, *, fill_empty: bool = True
) -> Array:
  """The encoding of a document, [size]: means by bucket.

  Args:
    encoding: from `init`.
    x: [t, d] its vectors, at least one.
    mask: [t] bool, which of them there are.
    fill_empty: give an empty bucket the vector whose signs are nearest, the first of equals;
      otherwise zero.
  """
  return _encode(encoding, x, _bag(x, mask), 1, documents=True, fill_empty=fill_empty)[0]


def _bag(x, mask):
  zeros = jnp.zeros(len(x), jnp.int32)
  return zeros if mask is None else jnp.where(mask, zeros, 1)


def _encode(encoding, x, bag, n, documents=False, fill_empty=False):
  """Encodings of n bags, [n, size]; vectors x [t, d] of bag [t] = n belong to none of them."""
  r, d, k = encoding.planes.shape
  both = encoding.planes if encoding.signs is None else jnp.c_[encoding.planes, encoding.signs]
  flat = jnp.swapaxes(both, 0, 1).reshape(d, -1)  # one product for all repetitions
  product = numerics.matmul(x, flat).reshape(len(x), r, -1)
  powers = 1 << jnp.arange(k, dtype=jnp.int32)
  bucket = jnp.sum(jnp.where(product[..., :k] > 0, powers, 0), axis=-1)  # [t, r]
  y = jnp.broadcast_to(x[:, None], (len(x), r, d)) if encoding.signs is None else product[..., k:]

  place = bag[:, None], jnp.arange(r), bucket
  by_bucket = lambda *shape: jnp.zeros((n, r, 2**k, *shape), y.dtype).at[place]
  blocks = by_bucket(y.shape[-1]).add(y, mode="drop")
  if documents:
    count = by_bucket().add(1, mode="drop")[..., None]
    blocks = blocks / jnp.maximum(count, 1)
    if fill_empty:
      nearest = _nearest(bucket, bag, n, k)
      filled = y[nearest, jnp.arange(r)[:, None]]
      blocks = jnp.where(count > 0, blocks, filled)
  return jax.vmap(functools.partial(_finish, encoding))(blocks)


def _nearest(bucket, bag, n, k):
  """The first vector of a bag whose signs differ least from a bucket's, [n, r, 2ᵏ] int32."""
  t, r = bucket.shape
  differ = jax.lax.population_count(bucket[..., None] ^ jnp.arange(2**k, dtype=jnp.int32))
  # The least of t · differences + place has both: minima are much faster than argmin.
  both = differ * t + jnp.arange(t, dtype=jnp.int32)[:, None, None]
  most = jnp.full((n, r, 2**k), (k + 1) * t, jnp.int32)
  return most.at[bag].min(both, mode="drop") % t


def _finish(encoding, blocks):
  flat = blocks.ravel()
  if encoding.sketch is None:
    return flat
  bucket, sign = encoding.sketch
  return jnp.zeros(encoding.size, flat.dtype).at[bucket].add(sign * flat)


def encode(
  encoding: Encoding,
  bags: ragged.Ragged,
  *,
  documents: bool,
  fill_empty: bool = True,
  dtype: np.dtype = np.float32,
  progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
  """Encodings of n bags, [n, size].

  Args:
    encoding: from `init`.
    bags: queries or documents.
    documents: which of the two.
    fill_empty: as for `document`.
    dtype: of the result; float16 halves it.
    progress: called with (bags done, bags in all).

  Raises:
    ValueError: the bags have another dimension, one is empty, or a vector is not finite.
  """
  n, dim = len(bags.start) - 1, encoding.planes.shape[1]
  if bags.vectors.shape[1] != dim:
    raise ValueError(f"the encoding is for {dim} dimensions, got {bags.vectors.shape[1]}")
  ragged.check(bags)
  out = np.empty((n, encoding.size), dtype)
  wide = encoding.planes.shape[0] * 2 ** encoding.planes.shape[2]
  wide *= dim if encoding.signs is None else encoding.signs.shape[2]
  for first, last in _chunks(bags.start, max(1, _BLOCKS // wide)):
    begin, end = bags.start[[first, last]]
    t = max(_power(end - begin), min(_TOKENS, _power(bags.start[-1])))
    # A window of t vectors: those before the chunk, if there are, belong to no bag of it.
    x = np.asarray(bags.vectors[max(0, end - t) : end], np.float32)
    count = _power(last - first)
    bag = np.full(t, count, np.int32)
    bag[len(x) - (end - begin) : len(x)] = np.repeat(
      np.arange(last - first), np.diff(bags.start[first : last + 1])
    )
    if len(x) < t:
      x = np.concatenate([x, np.zeros((t - len(x), dim), np.float32)])
    found = _batch(encoding, x, bag, count, documents, fill_empty)
    out[first:last] = np.asarray(found)[: last - first]
    if progress is not None:
      progress(last, n)
  return out


def _power(n: int) -> int:
  """The least power of two that is no less than n."""
  return 1 << int(n - 1).bit_length()


def _chunks(start: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
  """Bags first … last − 1: at most so many, of at most _TOKENS vectors, but at least one."""
  first, n = 0, len(start) - 1
  while first < n:
    last = int(np.searchsorted(start, start[first] + _TOKENS, side="right")) - 1
    last = min(max(last, first + 1), first + most)
    yield first, last
    first = last


_batch = jax.jit(_encode, static_argnums=(3, 4, 5))
