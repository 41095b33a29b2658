import jax
import jax.numpy as jnp
import numpy as np

from geoemb.graphs import hard_negatives


def test_an_empty_cache_holds_the_source_itself():
  np.testing.assert_array_equal(
    hard_negatives.init(4, 3), [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]]
  )
  assert hard_negatives.init(4, 3).dtype == jnp.int32
  assert hard_negatives.init(4, 0).shape == (4, 0)


def brute_force(cache, u, affinity, candidates, candidate_affinity):
  cache = cache.copy()
  old = cache.copy()
  for i, source in enumerate(u):
    best = max(range(candidates.shape[1]), key=lambda j: candidate_affinity[i, j])
    worst = min(range(cache.shape[1]), key=lambda j: affinity[i, j])
    new = candidates[i, best]
    if candidate_affinity[i, best] > affinity[i, worst] and new not in old[source]:
      cache[source, worst] = new
  return cache


def test_update_equals_a_loop():
  """Affinities are functions of the pair, as in training; 0 marks empty places and known ones."""
  rng = np.random.default_rng(0)
  n, size, b, k = 30, 3, 8, 5
  near = rng.uniform(size=(n, n)).astype(np.float32)
  np.fill_diagonal(near, 0)
  near[rng.uniform(size=(n, n)) < 0.3] = 0
  cache = np.asarray(hard_negatives.init(n, size))
  update = jax.jit(hard_negatives.update)
  for _ in range(100):
    u = rng.choice(n, b, replace=False).astype(np.int32)
    candidates = rng.integers(0, n, (b, k), np.int32)
    args = (u, near[u[:, None], cache[u]], candidates, near[u[:, None], candidates])
    expected = brute_force(cache, *args)
    got = np.asarray(update(cache, *args))
    np.testing.assert_array_equal(got, expected)
    others = np.setdiff1d(np.arange(n), u)
    np.testing.assert_array_equal(got[others], cache[others])
    cache = got
  for i, row in enumerate(cache):
    found = row[row != i]
    assert len(np.unique(found)) == len(found)
    assert np.all(near[i, found] > 0)
    # what the source was shown 100·b/n times is, by now, mostly its nearest
    assert near[i, found].min() > np.median(near[i])


def test_a_source_that_stands_twice_keeps_one_of_its_finds():
  cache = hard_negatives.init(6, 2)
  u = jnp.array([2, 2, 4], jnp.int32)
  found = jnp.array([[0], [1], [3]], jnp.int32)
  near = jnp.ones((3, 1))
  got = np.asarray(jax.jit(hard_negatives.update)(cache, u, jnp.zeros((3, 2)), found, near))
  assert sorted(got[2])[0] in (0, 1)
  assert sorted(got[2])[1] == 2
  assert sorted(got[4]) == [3, 4]
  np.testing.assert_array_equal(got[[0, 1, 3, 5]], np.asarray(cache)[[0, 1, 3, 5]])


def test_what_is_masked_never_enters():
  cache = hard_negatives.init(3, 2)
  u = jnp.array([0, 1], jnp.int32)
  candidates = jnp.array([[1, 2], [2, 0]], jnp.int32)
  got = jax.jit(hard_negatives.update)(cache, u, jnp.zeros((2, 2)), candidates, jnp.zeros((2, 2)))
  np.testing.assert_array_equal(got, cache)
