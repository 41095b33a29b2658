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
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from geoemb.data import ragged
from geoemb.typing import Array, Key

_TOKENS = 1 << 13  # vectors in a batch


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
  bucket, y = _parts(encoding, x)
  return _finish(encoding, _sums(_differences(encoding, bucket, mask) == 0, y))


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
  bucket, y = _parts(encoding, x)
  differ = _differences(encoding, bucket, mask)
  here = differ == 0
  count = jnp.sum(here, axis=1, dtype=jnp.int32)[..., None]
  mean = _sums(here, y) / jnp.maximum(count, 1).astype(y.dtype)
  if fill_empty:
    # The least of t · differences + place has both: a plain minimum, much faster than an argmin.
    t = len(x)
    least = jnp.min(differ * t + jnp.arange(t, dtype=jnp.int32)[:, None], axis=1)
    nearest = jnp.take_along_axis(y, (least % t)[..., None], axis=1)  # [r, 2ᵏ, p]
    mean = jnp.where(count > 0, mean, nearest)
  return _finish(encoding, mean)


def _parts(encoding, x):
  """The bucket of each vector, [r, t] int32, and ψ of it, [r, t, p]."""
  r, _, k = encoding.planes.shape
  both = encoding.planes if encoding.signs is None else jnp.c_[encoding.planes, encoding.signs]
  product = jnp.einsum("td,rdp->rtp", x, both, precision="highest")
  bucket = jnp.sum(jnp.where(product[..., :k] > 0, 1 << jnp.arange(k, dtype=jnp.int32), 0), axis=-1)
  y = jnp.broadcast_to(x, (r, *x.shape)) if encoding.signs is None else product[..., k:]
  return bucket, y


def _differences(encoding, bucket, mask):
  """In how many bits a vector's bucket differs from each, [r, t, 2ᵏ] int32; no vector: in all."""
  k = encoding.planes.shape[2]
  differ = jax.lax.population_count(bucket[..., None] ^ jnp.arange(2**k, dtype=jnp.int32))
  return differ if mask is None else jnp.where(mask[:, None], differ, k + 1)


def _sums(here, y):
  return jnp.einsum("rtb,rtp->rbp", here.astype(y.dtype), y, precision="highest")


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
  out = np.empty((n, encoding.size), dtype)
  done = 0
  for rows, x, mask in ragged.batches(bags, _TOKENS):
    found = _batch(encoding, x.astype(np.float32), mask, documents, fill_empty)
    out[rows] = np.asarray(found)[: len(rows)]
    done += len(rows)
    if progress is not None:
      progress(done, n)
  return out


@functools.partial(jax.jit, static_argnums=(3, 4))
def _batch(encoding, x, mask, documents, fill_empty):
  one = query if not documents else functools.partial(document, fill_empty=fill_empty)
  return jax.vmap(one, (None, 0, 0))(encoding, x, mask)
