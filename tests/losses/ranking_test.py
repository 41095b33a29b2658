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
  """ℓ → Σ_j e^{d⁺−d_j}, which log(1 + x) by itself would round to 0."""
  with jax.enable_x64(dtype == np.float64):
    d_pos, d_neg = np.full((4,), 3, dtype), np.array([[13], [23], [33], [53]], dtype)
    value, slope, _ = evaluate(form, d_pos, d_neg)
  np.testing.assert_allclose(value, reference(d_pos, d_neg).astype(np.float64), rtol=1e-5)
  np.testing.assert_allclose(slope, np.exp(3 - d_neg[:, 0].astype(np.float64)), rtol=1e-4)


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
  with jax.enable_x64(dtype == np.float64):
    d_pos, d_neg = (x.ravel() for x in np.meshgrid(far, far))
    for k in (1, 3):
      for x in evaluate(form, d_pos, np.repeat(d_neg[:, None], k, axis=1)):
        assert np.all(np.isfinite(x))
    values, slope, _ = evaluate("distance", d_pos, d_neg[:, None])
  difference = d_pos.astype(np.longdouble) - d_neg
  np.testing.assert_allclose(
    values, np.logaddexp(0, difference).astype(np.float64), rtol=1e-5, atol=1e-7
  )
  assert np.all((slope >= 0) & (slope <= 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_affinities_near_underflow_have_finite_gradients(dtype):
  """The gradient by an affinity itself, where 1/Σa is as large as numbers get."""
  tiny = float(np.finfo(dtype).tiny)
  with jax.enable_x64(dtype == np.float64):
    a_neg = np.array([[0], [tiny / 1e4], [tiny / 2], [tiny], [2 * tiny], [1e-30], [1]], dtype)
    for d in (0, 1, 50, 84, 1e3):
      total = lambda d, a: ranking.softmax_ranking_affinity(d, a).sum()
      grads = jax.jit(jax.grad(total, (0, 1)))(np.full(len(a_neg), d, dtype), a_neg)
      assert all(np.all(np.isfinite(g)) for g in grads)
