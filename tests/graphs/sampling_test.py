"""Samplers against counting, brute force and the chi-square law; every draw is from a fixed key."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from geoemb.data import tree
from geoemb.graphs import sampling

TREE = tree.balanced(3, 3)
EDGES, N = TREE.edges, len(TREE.names)  # 102 edges, 40 nodes


@functools.cache
def permutations(n):
  """Images of all positions under many keys, few for a large n: [count, n]."""
  keys = jax.random.split(jax.random.key(n), 20_000 if n < 100 else 8)
  draw = jax.jit(lambda keys: sampling.permute(keys[:, None], jnp.arange(n, dtype=jnp.int32), n))
  return np.asarray(draw(keys))


def p_value(counts, expected=None):
  """Of the chi-square test that `counts` are draws of the uniform, or the expected, law."""
  return stats.chisquare(np.ravel(counts), expected).pvalue


@pytest.mark.parametrize("n", [1, 2, 3, 4, 81, 1000, 6540, 65537])
def test_permute_is_a_bijection_of_its_own_for_each_key(n):
  images = permutations(n)
  assert images.dtype == np.int32
  assert np.all(np.sort(images, axis=1) == np.arange(n))
  if n > 80:
    same = [np.mean(a == b) for a, b in itertools.combinations(images[:8], 2)]
    assert max(same) < 10 / n  # two random permutations agree at one position, more or less
    assert np.mean(images == np.arange(n)) < 4 / n


def test_permute_takes_one_key_and_any_shape():
  i = jnp.arange(1000, dtype=jnp.int32).reshape(40, 25)
  key = jax.random.split(jax.random.key(1000), 8)[2]
  image = jax.jit(lambda key: sampling.permute(key, i, 1000))(key)
  np.testing.assert_array_equal(image.reshape(-1), permutations(1000)[2])


@pytest.mark.parametrize("n", [2, 3, 4])
def test_small_permutations_are_all_drawn_about_equally_often(n):
  images = permutations(n)
  _, counts = np.unique(images, axis=0, return_counts=True)
  assert len(counts) == np.prod(np.arange(1, n + 1))
  # Not exactly: six rounds on so few positions leave a bias of some 10 % at n = 4.
  np.testing.assert_allclose(counts, counts.mean(), rtol=0.25)


def test_permute_looks_random():
  images = permutations(81)
  count, n = images.shape
  position = np.broadcast_to(np.arange(n), images.shape)
  at = np.bincount((position * n + images).ravel(), minlength=n * n)
  # Rows and columns of these counts sum to `count`, so they have (n − 1)² degrees of freedom.
  square = np.sum((at - count / n) ** 2) / (count / n)
  assert stats.chi2.sf(square * (n - 1) / n, (n - 1) ** 2) > 1e-4
  pairs = images[:, 0] * n + images[:, 1]
  assert p_value(np.bincount(pairs, minlength=n * n).reshape(n, n)[~np.eye(n, dtype=bool)]) > 1e-4
  apart = np.bincount((images[:, 1:] - images[:, :-1]).ravel() % n, minlength=n)
  # Six rounds on halves of 9 leave neighbours neighbours 7 % too often: with probability 9⁻³ two
  # inputs that differ in one half alone do so again at the end.
  np.testing.assert_allclose(apart[1:], apart[1:].mean(), rtol=0.1)
  fixed = np.bincount(np.sum(images == np.arange(n), axis=1), minlength=4)[:4]
  expected = count * np.exp(-1) / np.array([1, 1, 2, 6])  # Poisson
  np.testing.assert_allclose(fixed, expected, atol=5 * np.sqrt(count))


def test_a_long_permutation_has_no_serial_correlation():
  images = permutations(65537).astype(np.float64)
  image = images[0]
  limit = 5 / np.sqrt(len(image))
  assert abs(np.corrcoef(np.arange(len(image)), image)[0, 1]) < limit
  for lag in (1, 2, 256, 257):
    assert abs(np.corrcoef(image[:-lag], image[lag:])[0, 1]) < limit
  assert abs(np.corrcoef(images[0], images[1])[0, 1]) < limit


@pytest.mark.parametrize("n", [1, 2, 3, 50, 65536, 82115, 2**31 - 1])
def test_uniform_draws_are_uniform_and_independent(n):
  keys = jax.random.split(jax.random.key(n), 400)
  x = np.asarray(jax.jit(jax.vmap(lambda k: sampling.uniform(k, (5, 100), n)))(keys))
  assert x.shape == (400, 5, 100)
  assert x.dtype == np.int32
  assert x.min() >= 0
  assert x.max() < n
  if n == 1:
    return
  bins = min(n, 50)
  bin_of = x.astype(np.int64) * bins // n
  sizes = np.bincount(np.arange(n) * bins // n) if n < 1e6 else np.full(bins, n / bins)
  expected = x.size * sizes / n
  assert p_value(np.bincount(bin_of.ravel(), minlength=bins), expected) > 1e-4
  chance = np.sum(np.square(sizes / n))
  flat = bin_of.reshape(400, -1)
  neighbours = [flat[:, :-1] == flat[:, 1:], flat[:-1] == flat[1:], flat[:, :-7] == flat[:, 7:]]
  for same in neighbours:  # of a draw, and of a key
    assert abs(same.mean() - chance) < 5 * np.sqrt(chance / same.size)


def test_uniform_is_the_high_word_of_a_product():
  """The product of the hash with n, in 64 bits: only the hash itself is not looked at."""
  key = jax.random.key(5)
  for n in (1 << 16, (1 << 16) + 1, 1_000_003):
    top = jax.jit(
      lambda k, n=n: (sampling.uniform(k, (1000,), 1 << 16), sampling.uniform(k, (1000,), n))
    )
    high, x = (np.asarray(z, np.int64) for z in top(key))
    # ⌊h n/2³²⌋ lies between the values for the least and the largest h with these 16 high bits
    assert np.all(high * n >> 16 <= x)
    assert np.all(x <= ((high << 16) + 0xFFFF) * n >> 32)


@pytest.mark.parametrize(
  "weights",
  [[1.0], [0.0, 2.0], [1, 1, 1], [5, 0, 0, 0], "random", "heavy"],
  ids=["one", "zero", "equal", "single", "random", "heavy"],
)
def test_alias_table_has_exactly_its_distribution(weights):
  rng = np.random.default_rng(0)
  if weights == "random":
    weights = rng.exponential(size=997) * (rng.uniform(size=997) > 0.2)
  elif weights == "heavy":
    weights = np.arange(1.0, 2001) ** -2.5 * 1e20
  table = sampling.alias_table(np.asarray(weights))
  n, keep = len(weights), np.asarray(table.prob, np.float64)
  mass = keep / n + np.bincount(table.other, (1 - keep) / n, minlength=n)
  # Each column is rounded to float32, the relative spacing of which is 1.2e-7 at most.
  np.testing.assert_allclose(mass, np.asarray(weights) / np.sum(weights), rtol=1e-5, atol=1e-7 / n)
  np.testing.assert_array_equal(mass[np.asarray(weights) == 0], 0)


def test_draws_follow_the_alias_table():
  weights = np.random.default_rng(1).exponential(size=50)
  weights[7] = 0
  table = sampling.alias_table(weights)
  draws = jax.jit(lambda key: sampling.draw(key, table, (400, 500)))(jax.random.key(0))
  assert draws.shape == (400, 500)
  assert draws.dtype == jnp.int32
  counts = np.bincount(np.asarray(draws).ravel(), minlength=50)
  assert counts[7] == 0
  some = weights > 0
  assert p_value(counts[some], draws.size * weights[some] / weights.sum()) > 1e-4


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, np.nan], [1, np.inf], [[1, 2]]])
def test_bad_weights_are_refused(weights):
  with pytest.raises(ValueError, match="^weights must be a vector of .* positive sum$"):
    sampling.alias_table(np.asarray(weights, np.float64))


STEPS, BLOCK, BURN_IN = 60, 12, 17  # the burn-in ends inside a block
OPTIONS = {
  "alone": dict(batch_size=10, negatives=7),
  "shared": dict(batch_size=12, negatives=9, shared=4, burn_in_steps=BURN_IN, dampening=1.0),
  "burning": dict(
    batch_size=10, negatives=40, shared=2, burn_in_steps=BURN_IN, burn_in_negatives=15
  ),
}


@functools.cache
def sampler(name):
  return jax.jit(sampling.ranked_edges(EDGES, N, **OPTIONS[name]))


def blocks(sample, size):
  """Batches of the first steps, drawn `size` steps at a time, as numpy."""
  key, steps = jax.random.key(5), jnp.arange(STEPS, dtype=jnp.int32).reshape(-1, size)
  return jax.tree.map(lambda *x: np.concatenate(x), *[sample(key, some) for some in steps])


@functools.cache
def drawn(name):
  return blocks(sampler(name), BLOCK)


def test_neither_the_cut_into_blocks_nor_float64_changes_a_batch():
  with jax.enable_x64(True):
    one_by_one = blocks(jax.jit(sampling.ranked_edges(EDGES, N, **OPTIONS["burning"])), 1)
  for x, y in zip(one_by_one, drawn("burning")):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def test_another_key_gives_another_run():
  usual = drawn("burning")
  other = sampler("burning")(jax.random.key(6), jnp.arange(BLOCK, dtype=jnp.int32))
  assert np.mean(np.asarray(other.neg) == usual.neg[:BLOCK]) < 0.2
  assert np.mean(np.asarray(other.u) == usual.u[:BLOCK]) < 0.2


@pytest.mark.parametrize("name", OPTIONS)
def test_a_pass_has_every_edge_once_but_for_the_remainder(name):
  batches = drawn(name)
  b = OPTIONS[name]["batch_size"]
  per_pass = len(EDGES) // b
  known = set(map(tuple, EDGES.tolist()))
  orders = []
  for first in range(0, 5 * per_pass, per_pass):
    rows = slice(first, first + per_pass)
    orders.append(list(zip(batches.u[rows].ravel().tolist(), batches.v[rows].ravel().tolist())))
    assert len(set(orders[-1])) == len(orders[-1]) == per_pass * b
    assert set(orders[-1]) <= known
  assert all(a != b for a, b in itertools.combinations(orders, 2))
  left_out = [known - set(order) for order in orders]
  assert all(len(out) == len(EDGES) % b for out in left_out)
  assert len(set().union(*left_out)) > len(EDGES) % b  # another remainder each pass


@pytest.mark.parametrize("name", OPTIONS)
def test_known_is_the_source_and_all_its_targets(name):
  batches, options = drawn(name), OPTIONS[name]
  t, g, k = batches.neg.shape
  s = options.get("shared", 1)
  assert (g * s, k) == (options["batch_size"], options["negatives"])
  assert batches.known.shape == (t, g, s, k)
  linked = np.eye(N, dtype=bool)
  linked[tuple(EDGES.T)] = True
  u = batches.u.reshape(t, g, s)
  expected = linked[u[..., None], batches.neg[:, :, None, :]]
  idle = np.arange(k) >= options.get("burn_in_negatives", k)
  early = np.arange(t) < options.get("burn_in_steps", 0)
  expected |= early[:, None, None, None] & idle
  np.testing.assert_array_equal(batches.known, expected)
  assert 0 < batches.known.mean() < 1


def test_negatives_are_uniform_over_all_nodes():
  for name, first in [("alone", 0), ("shared", BURN_IN), ("burning", BURN_IN)]:
    assert p_value(np.bincount(drawn(name).neg[first:].ravel(), minlength=N)) > 1e-4
  groups = drawn("alone").neg.reshape(-1, 7)
  assert len(np.unique(groups, axis=0)) == len(groups)


@pytest.mark.parametrize("name, dampening", [("shared", 1.0), ("burning", 0.75)])
def test_burn_in_negatives_follow_the_dampened_frequency(name, dampening):
  counts = np.bincount(drawn(name).neg[:BURN_IN].ravel(), minlength=N)
  law = np.bincount(EDGES[:, 1], minlength=N) ** dampening
  assert np.all(counts[law == 0] == 0)
  assert p_value(counts[law > 0], counts.sum() * law[law > 0] / law.sum()) > 1e-4


def test_split_gives_the_rows_of_each_role():
  batch = jax.tree.map(lambda x: jnp.asarray(x[3]), drawn("shared"))
  table = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)
  assert batch.ids.shape == (2 * 12 + 3 * 9,)
  u, v, neg = sampling.split(table[batch.ids], batch)
  np.testing.assert_array_equal(u, table[batch.u].reshape(3, 4, 2))
  np.testing.assert_array_equal(v, table[batch.v].reshape(3, 4, 2))
  np.testing.assert_array_equal(neg, table[batch.neg])


@pytest.mark.parametrize(
  "options, message",
  [
    (dict(batch_size=0), "batch_size must be between 1 and the number of edges, 102, got 0"),
    (dict(batch_size=103), "batch_size must be between 1 and the number of edges, 102, got 103"),
    (dict(shared=3), "shared must divide the batch of 10 edges, got 3"),
    (dict(shared=0), "shared must divide the batch of 10 edges, got 0"),
    (dict(negatives=0), "negatives must be at least 1, got 0"),
    (dict(burn_in_negatives=0), "burn_in_negatives must be between 1 and 5, got 0"),
    (dict(burn_in_negatives=6), "burn_in_negatives must be between 1 and 5, got 6"),
  ],
)
def test_bad_sizes_are_one_clear_line(options, message):
  with pytest.raises(ValueError) as error:
    sampling.ranked_edges(EDGES, N, **{**dict(batch_size=10, negatives=5), **options})
  assert str(error.value) == message


def test_no_edges_are_refused():
  with pytest.raises(ValueError, match="number of edges, 0, got 1$"):
    sampling.ranked_edges(np.zeros((0, 2), np.int32), 3, batch_size=1, negatives=1)
