import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import linalg

from geoemb.optim import subspace
from tests.compiling import quick_jit

PARAMS = {"w": np.linspace(-1, 1, 60).reshape(12, 5), "b": np.arange(5.0), "s": np.array(2.0)}
SIZE = 66


@pytest.mark.parametrize("n", [1, 2, 64, 512])
def test_hadamard_is_the_matrix(n):
  x = np.random.default_rng(0).standard_normal((3, n)).astype(np.float32)
  np.testing.assert_allclose(
    quick_jit(subspace.hadamard)(x), x @ linalg.hadamard(n), rtol=1e-5, atol=1e-4
  )


def test_hadamard_of_other_lengths():
  with pytest.raises(ValueError, match="power of two, got 12"):
    subspace.hadamard(jnp.zeros(12))


@pytest.mark.parametrize("projection", ["dense", "sparse", "fastfood"])
def test_columns_are_random_and_of_unit_length(projection):
  n, d = 4096, 48
  make = getattr(subspace, projection)

  @quick_jit
  def matrix(key):
    return jax.vmap(make(key, n, d), out_axes=1)(jnp.eye(d))

  p = np.asarray(matrix(jax.random.key(0)))
  assert p.shape == (n, d)
  length = np.linalg.norm(p, axis=0)
  # ⌈√n⌉ = 64 entries of a sparse column, of which two may fall together
  np.testing.assert_allclose(length, 1, rtol=0.2 if projection == "sparse" else 1e-5)
  gram = p.T @ p - np.diag(length**2)
  assert np.abs(gram).max() < 5 / np.sqrt(n) * (4 if projection == "sparse" else 1)
  assert np.abs(p.mean(axis=0)).max() < 5 / n
  other = np.asarray(matrix(jax.random.key(1)))
  assert np.abs(np.sum(p * other, axis=0)).max() < 0.5
  if projection == "sparse":
    assert np.mean(p != 0) < 1.01 / np.sqrt(n)
  else:  # no row is left out
    assert np.all(np.abs(p).max(axis=1) > 0)


def test_fastfood_of_a_length_that_is_no_multiple():
  p = jax.vmap(subspace.fastfood(jax.random.key(0), 1000, 20), out_axes=1)(jnp.eye(20))
  np.testing.assert_allclose(np.linalg.norm(p, axis=0), 1, rtol=0.1)


@pytest.mark.parametrize("n, d", [(513, 400), (1025, 513), (350, 300)])
def test_fastfood_columns_keep_their_length_whatever_is_left_out(n, d):
  squares = lambda z: jnp.square(subspace.fastfood(jax.random.key(0), n, d)(z))
  squared = quick_jit(lambda: jax.vmap(squares)(jnp.eye(d)).sum(axis=1))()
  np.testing.assert_allclose(np.mean(squared), 1, rtol=0.02)  # a mean over random columns
  np.testing.assert_allclose(squared, 1, atol=0.3)


@pytest.mark.parametrize("projection", ["dense", "sparse", "fastfood"])
@pytest.mark.parametrize("structure_aware", [False, True])
def test_trains_within_the_subspace(projection, structure_aware):
  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, PARAMS)
    z, expand = subspace.make(
      jax.random.key(0), params, 20, projection=projection, structure_aware=structure_aware
    )
    assert sum(x.size for x in jax.tree.leaves(z)) == 20
    jax.tree.map(np.testing.assert_array_equal, expand(z), params)

    @quick_jit
    def train(z):
      loss = lambda z: sum(jnp.sum(jnp.square(x - 1)) for x in jax.tree.leaves(expand(z)))
      step = lambda z, _: (jax.tree.map(lambda z, g: z - 0.02 * g, z, jax.grad(loss)(z)), loss(z))
      z, losses = jax.lax.scan(step, z, None, 300)
      return expand(z), losses

    end, losses = jax.tree.map(np.asarray, train(z))
    assert losses[-1] < 0.9 * losses[0]
    assert jax.tree.structure(end) == jax.tree.structure(params)
    if projection == "dense" and not structure_aware:  # the subspace's best, by least squares
      flat = lambda tree: np.asarray(jax.flatten_util.ravel_pytree(tree)[0])
      base = flat(params)
      p = np.stack([flat(expand(e)) - base for e in jnp.eye(20)], axis=1)
      _, best, *_ = np.linalg.lstsq(p, 1 - base, rcond=None)
      np.testing.assert_allclose(losses[-1], best[0], rtol=0.02)


def test_mistakes():
  params = {"w": jnp.zeros((3, 3)), "b": jnp.zeros(3)}
  with pytest.raises(ValueError, match="one of dense, sparse, fastfood, got 'desne'"):
    subspace.make(jax.random.key(0), params, 2, projection="desne")
  with pytest.raises(ValueError, match="more than 0 and at most 12, got 13"):
    subspace.make(jax.random.key(0), params, 13)
  with pytest.raises(ValueError, match="more than 2 scales and at most 12, got 2"):
    subspace.make(jax.random.key(0), params, 2, structure_aware=True)
  with pytest.raises(ValueError, match="between 1 and 5, got 6"):
    subspace.least_dimension(bool, 6, 5)
  with pytest.raises(ValueError, match="resolution must be positive, got 0"):
    subspace.least_dimension(bool, 3, 5, resolution=0)


@hypothesis.given(
  st.integers(1, 10_000), st.integers(1, 10_000), st.integers(0, 500), st.sampled_from([0.01, 0.3])
)
def test_least_dimension_is_found(least, start, more, resolution):
  most, asked = max(least, start) + more, []
  found = subspace.least_dimension(
    lambda d: asked.append(d) or d >= least, start, most, resolution=resolution
  )
  assert least <= found <= max(least, (1 + resolution) * (least - 1))
  assert len(asked) == len(set(asked)) and 1 <= min(asked) and max(asked) <= most


def test_least_dimension_of_what_is_never_reached():
  asked = []
  assert subspace.least_dimension(lambda d: asked.append(d), 3, 20) is None
  assert asked == [3, 6, 12, 20]
