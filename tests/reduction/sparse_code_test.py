"""Sparse codes: the losses as written, and what training gains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb.losses import sparsity
from geoemb.reduction import sparse_code
from tests.compiling import quick_jit

KEY = jax.random.key(0)
D, H, K = 8, 32, 2


def mixtures(n=200, seed=0):
  """Vectors that are sums of two of twelve directions in eight dimensions."""
  rng = np.random.default_rng(seed)
  atoms = rng.standard_normal((12, D))
  atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
  ids = np.stack([rng.choice(12, 2, replace=False) for _ in range(n)])
  x = np.sum(atoms[ids] * (0.5 + rng.random((n, 2, 1))), axis=1)
  return x.astype(np.float32)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_top_k_keeps_the_largest_that_are_positive(dtype):
  a = np.random.default_rng(0).permutation(np.geomspace(1e-30, 1e30, 180)).reshape(20, 9)
  a[::2, :5] *= -1
  a[0] = -np.abs(a[0])
  a[1] = 0
  with jax.enable_x64(True):
    a = jnp.asarray(a, dtype)
    total = lambda a: jnp.sum(sparse_code.top_k(a, 3))
    z, slope = quick_jit(lambda a: (sparse_code.top_k(a, 3), jax.grad(total)(a)))(a)
  assert z.dtype == dtype
  a, z, slope = (np.asarray(x, np.float64) for x in (a, z, slope))
  for row, got, by in zip(a, z, slope):
    kept = np.isin(np.arange(9), np.argsort(-row)[:3]) & (row > 0)
    np.testing.assert_array_equal(got, np.where(kept, row, 0))
    np.testing.assert_array_equal(by, kept)


@pytest.fixture(scope="module")
def trained():
  x = mixtures()
  rng = np.random.default_rng(1)
  pairs = x, x + 0.1 * rng.standard_normal(x.shape).astype(np.float32)
  fit = quick_jit(
    lambda x, pairs, contrast: sparse_code.fit(
      x, K, key=KEY, hidden=H, pairs=pairs, contrast=contrast, auxiliary=8, batch_size=64,
      steps=400, learning_rate=1e-2,
    )
  )  # fmt: skip
  return x, pairs, fit(x, pairs, 0.0), fit(x, pairs, 1.0)


def test_codes_are_sparse_and_decode(trained):
  x, _, plain, _ = trained
  z = np.asarray(plain.transform(x))
  assert z.shape == (len(x), H) and z.min() == 0 and (z > 0).sum(axis=1).max() == K
  rest = np.sum((x - np.asarray(plain.decode(z))) ** 2)
  # Two principal components keep this much; two of 32 learned directions must keep more.
  s = np.linalg.svd(x - x.mean(axis=0))[1]
  assert rest < 0.7 * np.sum(s[2:] ** 2)


def test_the_contrast_brings_pairs_together(trained):
  x, (first, second), plain, contrasted = trained
  value = lambda code: sparse_code.in_batch(code.transform(first), code.transform(second), 0.2)
  assert value(contrasted) < value(plain)


def test_in_batch_is_cross_entropy():
  a, b = np.random.default_rng(0).standard_normal((2, 5, 4))
  unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)
  logits = unit(a) @ unit(b).T / 0.3
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  got, g = quick_jit(jax.value_and_grad(lambda a, b: sparse_code.in_batch(a, b, 0.3)))(
    a.astype(np.float32), np.where(np.arange(5)[:, None] == 0, 0, b).astype(np.float32)
  )
  b[0] = 0
  logits = unit(a) @ np.nan_to_num(b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-9)).T
  p = np.exp(logits / 0.3) / np.exp(logits / 0.3).sum(axis=1, keepdims=True)
  np.testing.assert_allclose(got, -np.mean(np.log(np.diag(p))), rtol=1e-5)
  assert np.isfinite(g).all()  # a code of zeros has no direction


def test_regularisers():
  z = np.array([[1.0, -2.0, 0.0], [3.0, 0.0, 0.0]], np.float32)
  facts = quick_jit(
    lambda z: (
      sparsity.flops(z), sparsity.l1(z), sparsity.expected_flops(z), sparsity.imbalance(z),
      sparsity.imbalance(0 * z),
    )
  )  # fmt: skip
  np.testing.assert_allclose(facts(z), [2**2 + 1, 2 + 1, 1 + 0.25, 3 * 1.25 / 1.5**2, 1])
  np.testing.assert_allclose(sparsity.ramp(jnp.arange(0.0, 5.0), 2.0), [0, 0.25, 1, 1, 1])


@pytest.mark.slow
def test_the_flops_regulariser_spreads_activity_more_than_l1():
  x = mixtures()
  pairs = x, x

  @quick_jit
  def fit(x, flops, l1):
    code = sparse_code.fit_head(
      x, H, key=KEY, pairs=pairs, flops=flops, l1=l1, steps=300, batch_size=64, learning_rate=1e-2
    )
    return code.transform(x)

  free, flops, l1 = (np.asarray(fit(x, *lam)) for lam in ((0.0, 0.0), (5.0, 0.0), (0.0, 0.1)))
  count = lambda z: np.mean(np.sum(z > 0, axis=1))
  assert count(flops) < 0.8 * count(free) and count(l1) < 0.8 * count(free)
  assert sparsity.imbalance(flops) < sparsity.imbalance(l1)


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(dim=9), "dim must be between 1 and 8, got 9"),
    (dict(auxiliary=33), "auxiliary must be between 1 and 32, got 33"),
    (dict(pairs=(np.ones((3, D)), np.ones((2, D)))), r"pairs must be two \[p, 8\]"),
  ],
)
def test_mistakes(change, message):
  with pytest.raises(ValueError, match=message):
    sparse_code.fit(
      **{"x": mixtures(), "dim": K, "key": KEY, "hidden": H, "auxiliary": 8, "steps": 1, **change}
    )
