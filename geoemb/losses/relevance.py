"""Losses of score matrices: relevant documents are to score above irrelevant ones.

Scores are [..., n], a query's against n documents, larger for nearer; labels are 1 for relevant, −1
for irrelevant and 0 for absent documents, of any number type. What is absent has no effect: a query
whose documents all are loses 0. One value a query, [...], summed over its documents or pairs.
"""

import jax
import jax.numpy as jnp

from geoemb.typing import Array, Scalar


def _masked(scores: Array, keep: Array, sign: int = 1) -> Array:
  """±scores where `keep`, and half the least number elsewhere: finite, and no rival to a score."""
  return jnp.where(keep, sign * scores, float(jnp.finfo(scores.dtype).min) / 2)


def _soft_max(scores: Array, keep: Array, temperature: Scalar, sign: int = 1) -> Array:
  """T log Σ exp(±s/T) over what is kept, [...]; half the least number for nothing."""
  z = jax.nn.logsumexp(_masked(scores / temperature, keep, sign), axis=-1)
  return jnp.where(keep.any(axis=-1), temperature * z, float(jnp.finfo(scores.dtype).min) / 2)


def infonce(scores: Array, labels: Array, *, temperature: Scalar) -> Array:
  """Σ over relevant p of −log(exp(s_p/T) / Σ_j exp(s_j/T)), [...], in nats.

  The other relevant documents stay among the j, as in the code of [weller2025limit].

  Args:
    scores: [..., n].
    labels: [..., n] in {1, −1, 0}.
    temperature: T.
  """
  z = scores / temperature
  log_z = jax.nn.logsumexp(_masked(z, labels != 0), axis=-1)
  positive = labels > 0
  count = jnp.sum(positive, axis=-1).astype(z.dtype)
  return count * jnp.where(count > 0, log_z, 0) - jnp.sum(jnp.where(positive, z, 0), axis=-1)


def sigmoid(scores: Array, labels: Array, *, scale: Scalar, bias: Scalar) -> Array:
  """Σ_j −log σ(y_j (scale · s_j + bias)), [...], in nats, over documents with labels y = ±1.

  [zhai2023siglip], where scale = exp t′ and bias are learned, from 10 and −10.

  Args:
    scores: [..., n].
    labels: [..., n] in {1, −1, 0}.
    scale: of the scores.
    bias: added to them.
  """
  y = labels.astype(scores.dtype)
  loss = jax.nn.softplus(-y * (scale * scores + bias))
  return jnp.sum(jnp.where(y != 0, loss, 0), axis=-1)


def top_k_hinge(scores: Array, labels: Array, *, margin: Scalar, temperature: Scalar) -> Array:
  """T log(1 + exp((margin + max⁻ − min⁺)/T)), [...], with soft extremes of the same T.

  max⁻ is the T log-sum-exp(s/T) of irrelevant scores, at least their largest, and min⁺ the like
  from below of relevant ones: where the loss is under T log(1 + exp(margin/T)) the ranking is
  right. It is a soft form of max(0, margin + max⁻ − min⁺), which is 0 for all top-k sets that are
  right by a margin. 0 where relevant or irrelevant documents are lacking.

  Args:
    scores: [..., n].
    labels: [..., n] in {1, −1, 0}.
    margin: ≥ 0.
    temperature: T > 0.
  """
  both = (labels > 0).any(axis=-1) & (labels < 0).any(axis=-1)
  above = _soft_max(scores, labels < 0, temperature)
  below = _soft_max(scores, labels > 0, temperature, sign=-1)
  gap = jnp.where(both, above, 0) + jnp.where(both, below, 0) + margin
  return jnp.where(both, temperature * jax.nn.softplus(gap / temperature), 0)
