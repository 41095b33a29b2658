"""Sparse codes of vectors: a top-k autoencoder with a contrastive loss, CSR [wen2025csr].

A code has h ≫ d coordinates of which k are not 0, the k largest of (x − b) W + a where these are
positive; z Wᵀ + b decodes it, with the same W. The loss is that of the authors' code for text
retrieval, which has other weights than the paper:

  mse(k) + mse(4k)/8 + aux/32 + γ contrast,  γ = 0.1

aux reconstructs what k coordinates leave, from the largest of those not used for 30 steps.
contrast is the cross-entropy of a pair's codes among the batch, by cosine at temperature 0.2: of a
query and its document, or, without pairs, of a code and itself. γ = 0 is the plain autoencoder.

`fit_head` has no decoder, and becomes sparse by a regulariser instead [paria2020flops].
"""

import flax.struct
import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.losses import sparsity
from geoemb.reduction import reducer
from geoemb.typing import Array, ArrayLike, Key, Scalar

_DEAD = 30  # steps without use
_CODES = 1e-5  # smaller activations count as unused


@flax.struct.dataclass
class SparseCode:
  """x ↦ relu(top_k((x − shift) · weight + bias)), dense [..., h] with at most k that are not 0."""

  weight: Array  # [d, h]
  bias: Array  # [h]
  shift: Array  # [d]
  k: int = flax.struct.field(pytree_node=False)  # 0 keeps all that are positive

  def transform(self, x: Array) -> Array:
    """Codes [..., h] of vectors [..., d]."""
    return top_k(self._before(x), self.k) if self.k else jax.nn.relu(self._before(x))

  def decode(self, z: Array) -> Array:
    """Vectors [..., d] of codes [..., h]."""
    return numerics.matmul(z, self.weight.T) + self.shift

  def _before(self, x):
    return numerics.matmul(jnp.asarray(x) - self.shift, self.weight) + self.bias


def top_k(a: Array, k: int) -> Array:
  """The k largest of a [..., h] where they are positive, and 0 elsewhere, [..., h].

  Of values equal to the k-th all stay; positive ones are not equal by chance. The k-th is found bit
  by bit, as positive floats are ordered like the integers of their bits: no row is sorted.
  """
  positive = jax.nn.relu(a)
  exact, whole = (jnp.float64, jnp.int64) if a.dtype == jnp.float64 else (jnp.float32, jnp.int32)
  bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(positive).astype(exact), whole)
  last = 8 * whole.dtype.itemsize - 2  # the first bit is the sign

  def lower(i: Array, edge: Array) -> Array:
    higher = edge | (jnp.asarray(1, whole) << (last - i).astype(whole))
    enough = jnp.sum(bits >= higher, axis=-1, keepdims=True, dtype=jnp.int32) >= k
    return jnp.where(enough, higher, edge)

  edge = jax.lax.fori_loop(0, last + 1, lower, jnp.zeros((*a.shape[:-1], 1), whole))
  return jnp.where(bits >= edge, positive, 0)


def fit(
  x: ArrayLike,
  dim: int,
  *,
  key: Key,
  hidden: int,
  pairs: tuple[ArrayLike, ArrayLike] | None = None,
  contrast: Scalar = 0.1,
  temperature: float = 0.2,
  auxiliary: int = 512,
  batch_size: int = 256,
  steps: int = 2000,
  learning_rate: float = 4e-4,
) -> SparseCode:
  """Sparse codes of vectors x [n, d] with `dim` active coordinates, the k of the papers.

  Args:
    x: [n, d] float32.
    dim: active coordinates.
    key: for weights and batches.
    hidden: h, coordinates of a code; the paper has 4 d.
    pairs: queries [p, d] and, row by row, documents [p, d] that answer them; each step has a batch
      of pairs beside one of x. Without them the contrast is of codes with themselves.
    contrast: γ.
    temperature: of the contrast.
    auxiliary: dead coordinates that reconstruct the rest.
    batch_size: vectors a step, and pairs.
    steps: of Adam.
    learning_rate: its peak.

  Raises:
    ValueError: 4 k or `auxiliary` is more than h.
  """
  x = reducer.check(x, dim, most=hidden // 4).astype(jnp.float32)
  if not 1 <= auxiliary <= hidden:
    raise ValueError(f"auxiliary must be between 1 and {hidden}, got {auxiliary}")
  key_weight, key_train = jax.random.split(key)
  params = _init(key_weight, x, hidden, dim)
  sample = _sampler(x, pairs, batch_size)

  def loss(code, key, i, unused):
    some, asked, answers = sample(key)
    every = jnp.concatenate([some, asked, answers]) if pairs is not None else some
    a = code._before(every)
    z = top_k(a, dim)
    rest = every - code.decode(z)
    wide = every - code.decode(top_k(a, 4 * dim))
    dead = unused > _DEAD
    z_dead = top_k(jnp.where(dead, a, 0), auxiliary)
    left = jax.lax.stop_gradient(rest + code.shift)
    aux = _mse(code.decode(z_dead) - left) / (_mse(left - jnp.mean(left, axis=0)) + 1e-12)
    aux = jnp.where(jnp.any(dead), aux, 0)
    if pairs is not None:
      first, second = jnp.split(z[len(some) :], 2)
    else:
      first = second = z
    value = _mse(rest) + _mse(wide) / 8 + aux / 32
    value = value + contrast * in_batch(first, second, temperature)
    used = jnp.any(z > _CODES, axis=0)
    return value, jnp.where(used, 0, unused + 1)

  code, _, _ = reducer.minimize_with(
    loss, params, jnp.zeros(hidden, jnp.int32), key_train, steps=steps, learning_rate=learning_rate
  )
  return code


def fit_head(
  x: ArrayLike,
  hidden: int,
  *,
  key: Key,
  pairs: tuple[ArrayLike, ArrayLike],
  flops: Scalar = 0.0,
  l1: Scalar = 0.0,
  temperature: float = 0.05,
  batch_size: int = 256,
  steps: int = 2000,
  learning_rate: float = 1e-3,
) -> SparseCode:
  """A rectified linear head to `hidden` coordinates, sparse by a regulariser.

  The loss is the contrast of pairs plus λ times the regulariser of the batch's codes at length 1, λ
  rising to its end over the first half of the steps [paria2020flops].

  Args:
    x: [n, d] float32, whose mean is taken off first.
    hidden: coordinates of a code.
    key: for weights and batches.
    pairs: as in `fit`.
    flops: λ of `losses.sparsity.flops`, at its end.
    l1: λ of ℓ₁.
    temperature: of the contrast.
    batch_size: pairs a step.
    steps: of Adam.
    learning_rate: its peak.
  """
  x = reducer.check(x, hidden, most=hidden).astype(jnp.float32)
  key_weight, key_train = jax.random.split(key)
  params = _init(key_weight, x, hidden, 0).replace(shift=jnp.mean(x, axis=0))
  sample = _sampler(x, pairs, batch_size)

  def loss(code, key, i, state):
    _, asked, answers = sample(key)
    z = numerics.unit(code.transform(jnp.concatenate([asked, answers])))
    penalty = flops * sparsity.flops(z) + l1 * sparsity.l1(z)
    rising = sparsity.ramp(i, max(1, steps // 2))
    return in_batch(*jnp.split(z, 2), temperature) + rising * penalty, state

  code, _, _ = reducer.minimize_with(
    loss, params, (), key_train, steps=steps, learning_rate=learning_rate
  )
  return code


def in_batch(first: Array, second: Array, temperature: float) -> Array:
  """Mean cross-entropy of row i of `first` choosing row i of `second` by cosine, [], in nats."""
  logits = numerics.unit(first) @ numerics.unit(second).T / temperature
  return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))


def _init(key, x, hidden, k):
  d = x.shape[1]
  w = jax.random.uniform(key, (d, hidden), minval=-1, maxval=1) / d**0.5  # torch's for a layer
  return SparseCode(w, jnp.zeros(hidden), jnp.zeros(d), k)


def _sampler(x, pairs, batch_size):
  """sample(key) → vectors [b, d], queries and documents [p, d], which are None without pairs."""
  if pairs is None:
    return lambda key: (x[reducer.rows(key, len(x), batch_size)], None, None)
  asked, answers = (jnp.asarray(part, jnp.float32) for part in pairs)
  if asked.shape != answers.shape or asked.ndim != 2 or asked.shape[1] != x.shape[1]:
    raise ValueError(
      f"pairs must be two [p, {x.shape[1]}], got {list(asked.shape)} and {list(answers.shape)}"
    )

  def sample(key):
    key_x, key_pair = jax.random.split(key)
    ids = reducer.rows(key_pair, len(asked), batch_size)
    return x[reducer.rows(key_x, len(x), batch_size)], asked[ids], answers[ids]

  return sample


def _mse(error):
  return jnp.mean(error * error)
