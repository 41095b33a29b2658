import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb.losses import ranking

DTYPES = [np.float32, np.float64]


def reference(d_pos, d_neg):
  """[nickel2017poincare] eq. 6 as it is printed, negated, in extended precision."""
  d_pos, d_neg = np.asarray(d_pos, np.longdouble), np.asarray(d_neg, np.longdouble)
  p = np.exp(-d_pos) / (np.exp(-d_pos) + np.sum(np.exp(-d_neg), axis=-1))
  return -np.log(p)


def gradients(d_pos, d_neg):
  """Derivatives of `reference`: what is not the positive's probability, and −p_j."""
  d_pos, d_neg = np.asarray(d_pos, np.longdouble), np.asarray(d_neg, np.longdouble)
  total = np.exp(-d_pos) + np.sum(np.exp(-d_neg), axis=-1)
  return np.sum(np.exp(-d_neg), axis=-1) / total, -np.exp(-d_neg) / total[..., None]


def affinity_form(d_pos, d_neg):
  return ranking.softmax_ranking_affinity(d_pos, jnp.exp(-d_neg))


FORMS = {"distance": ranking.softmax_ranking, "affinity": affinity_form}


def evaluate(form, d_pos, d_neg):
  """Values, and gradients of their sum."""

  def total(d_pos, d_neg):
    values = FORMS[form](d_pos, d_neg)
    return values.sum(), values

  grads, values = jax.jit(jax.grad(total, (0, 1), has_aux=True))(d_pos, d_neg)
  return (values, *grads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_equals_the_paper(form, dtype):
  rng = np.random.default_rng(0)
  with jax.enable_x64(dtype == np.float64):
    d_pos = rng.uniform(0, 8, (5, 4)).astype(dtype)
    d_neg = rng.uniform(0, 12, (5, 4, 6)).astype(dtype)
    got = evaluate(form, d_pos, d_neg)
  expected = (reference(d_pos, d_neg), *gradients(d_pos, d_neg))
  for a, b in zip(got, expected):
    assert a.dtype == dtype
    rtol = 40 * np.finfo(dtype).eps  # differences of distances up to 12 are rounded to 12 eps
    np.testing.assert_allclose(a, b.astype(np.float64), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_small_losses_keep_their_digits(form, dtype):
  """ℓ → e^{d⁺−d⁻}, which log(1 + x) by itself would round to 0."""
  with jax.enable_x64(dtype == np.float64):
    d_pos, d_neg = np.full(4, 3, dtype), np.array([[13], [23], [33], [53]], dtype)
    value, slope, _ = evaluate(form, d_pos, d_neg)
  ratio = np.exp(3 - d_neg[:, 0].astype(np.float64))
  np.testing.assert_allclose(value, np.log1p(ratio), rtol=1e-5)
  np.testing.assert_allclose(slope, ratio / (1 + ratio), rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_masked_negatives_do_not_count(form):
  d_pos = np.float32([1, 2])
  d_neg = np.float32([[0.5, np.inf, 3], [np.inf, np.inf, np.inf]])
  values, by_pos, by_neg = evaluate(form, d_pos, d_neg)
  np.testing.assert_allclose(values, [reference(1, [0.5, 3]).astype(np.float64), 0], rtol=1e-6)
  assert values[1] == by_pos[1] == 0
  np.testing.assert_array_equal(by_neg[1], 0)
  assert by_neg[0, 1] == 0
  assert np.all(np.isfinite(by_neg))


@pytest.mark.parametrize("form", FORMS)
def test_no_negatives_are_no_loss(form):
  values, by_pos, _ = evaluate(form, np.float32([1, 2]), np.zeros((2, 0), np.float32))
  np.testing.assert_array_equal(values, 0)
  np.testing.assert_array_equal(by_pos, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_extreme_distances_have_finite_values_and_gradients(form, dtype):
  far = np.array([0, 1e-30, 1e-6, 1, 42, 80, 87, 88, 95, 103, 104, 700, 745, 1e4, 1e30], dtype)
  d_pos, d_neg = (x.ravel() for x in np.meshgrid(far, far))
  with jax.enable_x64(dtype == np.float64):
    got = evaluate(form, d_pos, np.stack([d_neg, d_neg, d_pos], axis=1))
  assert all(np.all(np.isfinite(x)) for x in got)
  values, by_pos, by_neg = map(np.asarray, got)
  assert np.all(values >= 0)
  assert np.all((by_pos >= 0) & (by_pos <= 1))
  assert np.all((by_neg <= 0) & (by_neg >= -1))
  if form == "distance":
    expected = np.logaddexp(np.log(2.0), d_pos.astype(np.float64) - d_neg + np.log(2.0))
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_affinities_near_underflow_have_finite_gradients(dtype):
  """The gradient by an affinity itself, where 1/Σa is as large as numbers get."""
  tiny = float(np.finfo(dtype).tiny)
  d = np.array([0, 1, 50, 84, 1e3], dtype)[:, None]
  a_neg = np.array([0, tiny / 1e4, tiny / 2, tiny, 2 * tiny, 1e-30, 1], dtype)
  total = lambda d, a: ranking.softmax_ranking_affinity(d, a[..., None]).sum()
  with jax.enable_x64(dtype == np.float64):
    grads = jax.jit(jax.grad(total, (0, 1)))(*np.broadcast_arrays(d, a_neg))
  assert all(np.all(np.isfinite(g)) for g in grads)
