"""Losses of score matrices: relevant documents are to score above irrelevant ones.

Scores are [..., n], a query's against n documents, larger for nearer; labels are 1 for relevant, −1
for irrelevant and 0 for absent documents, of any number type. What is absent has no effect: a query
whose documents all are loses 0. One value a query, [...], summed over its documents or pairs.
"""

import jax
import jax.numpy as jnp

from geoemb import numerics
from geoemb.typing import Array, Scalar


def _masked(z: Array, keep: Array) -> Array:
  """What is kept of z, and half the least number elsewhere: finite, and no rival to any score."""
  return jnp.where(keep, z, float(jnp.finfo(z.dtype).min) / 2)


def infonce(scores: Array, labels: Array, *, temperature: Scalar) -> Array:
  """Σ over relevant p of −log(exp(s_p/T) / Σ_j exp(s_j/T)), [...], in nats.

  The other relevant documents stay among the j, as in the code of [weller2025limit].

  Args:
    scores: [..., n].
    labels: [..., n] in {1, −1, 0}.
    temperature: T.
  """
  z = numerics.finite(scores / temperature)
  log_z = jax.nn.logsumexp(_masked(z, labels != 0), axis=-1, keepdims=True)
  return numerics.finite(jnp.sum(jnp.where(labels > 0, log_z - z, 0), axis=-1))


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
  loss = jax.nn.softplus(-y * numerics.finite(scale * scores + bias))
  return numerics.finite(jnp.sum(jnp.where(y != 0, loss, 0), axis=-1))


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
  z = numerics.finite(scores / temperature)
  both = (labels > 0).any(axis=-1, keepdims=True) & (labels < 0).any(axis=-1, keepdims=True)
  most = lambda z, keep: jax.nn.logsumexp(_masked(z, keep & both), axis=-1)
  gap = numerics.finite(most(z, labels < 0) + most(-z, labels > 0) + margin / temperature)
  return jnp.where(both[..., 0], numerics.finite(temperature * jax.nn.softplus(gap)), 0)
