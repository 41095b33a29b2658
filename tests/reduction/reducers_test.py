"""Reducers: what each promises, on data where the right answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geoemb import manifolds
from geoemb.reduction import (
  autoencoder,
  head,
  linear,
  matryoshka,
  mpad,
  peers,
  reducer,
  tldr,
)
from tests.compiling import quick_jit

KEY = jax.random.key(0)


def spread(n=80, d=6, seed=0):
  """Vectors with a mean, and a variance of their own in every direction; the last is dead."""
  rng = np.random.default_rng(seed)
  x = rng.standard_normal((n, d)) * (2.0 ** -np.arange(d)) + 0.5
  x[:, -1] = 0.25
  return x.astype(np.float32)


def clusters(n=256, d=12, k=8, seed=0):
  """Vectors whose cluster shows in the last 3 coordinates, under loud noise in the others."""
  rng = np.random.default_rng(seed)
  label = np.arange(n) % k
  centers = rng.standard_normal((k, 3))
  x = rng.standard_normal((n, d)) * 3
  x[:, -3:] = centers[label] + 0.05 * rng.standard_normal((n, 3))
  near = np.stack([rng.choice(np.flatnonzero((label == label[i]) & (np.arange(n) != i)), 4)
                   for i in range(n)])  # fmt: skip
  return x.astype(np.float32), near, label


def separation(z, label):
  """Variance between clusters over all variance, after whitening: 1 is perfect."""
  z = np.asarray(z, np.float64)
  z = (z - z.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T
  means = np.stack([z[label == c].mean(axis=0) for c in np.unique(label)])
  return np.mean(means**2)


def test_pca_is_the_svd():
  x = spread()
  rng = np.random.default_rng(1)
  new = rng.standard_normal((5, 6)).astype(np.float32)

  @quick_jit
  def compute(x):
    return [linear.pca(x, 3, center=center) for center in (True, False)]

  for found, mean in zip(compute(x), (x.mean(axis=0), 0)):
    _, _, vt = np.linalg.svd(x.astype(np.float64) - mean, full_matrices=False)
    want = (new - mean) @ vt[:3].T
    np.testing.assert_allclose(np.abs(found.transform(new)), np.abs(want), atol=1e-4)
    np.testing.assert_allclose(
      found.first(2).transform(new), found.transform(new)[:, :2], rtol=1e-6
    )


def test_whitening_is_white_and_leaves_dead_coordinates_at_zero():
  x = spread()
  whiten = quick_jit(lambda x: linear.pca(x, 6, whiten=True))
  found = whiten(x)
  z = np.asarray(found.transform(x))
  np.testing.assert_allclose(z.T @ z / len(x), np.diag([1, 1, 1, 1, 1, 0]), atol=2e-3)
  assert not whiten(np.zeros_like(x)).transform(x).any()


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e15])
def test_whitening_does_not_depend_on_the_scale(scale):
  x = spread() * np.float32(scale)
  z = np.asarray(quick_jit(lambda x: linear.pca(x, 6, whiten=True).transform(x))(x))
  np.testing.assert_allclose(z.T @ z / len(x), np.diag([1, 1, 1, 1, 1, 0]), atol=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_vectors_are_widened(dtype):
  x = jnp.asarray(spread(), dtype)
  fits = (
    lambda x: linear.pca(x, 3),
    lambda x: linear.truncation(x, 3),
    lambda x: linear.random_projection(x, 3, key=KEY),
  )
  compute = quick_jit(lambda x: [fit(x).transform(x) for fit in fits])
  for got, want in zip(compute(x), compute(x.astype(jnp.float32))):
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_all_but_the_top_leaves_the_top_out():
  x = spread()
  every, rest = quick_jit(lambda x: (linear.pca(x, 5), linear.pca(x, 3, skip=2)))(x)
  np.testing.assert_allclose(rest.weight, every.weight[:, 2:], atol=1e-6)
  assert np.all(
    np.take_along_axis(np.asarray(rest.weight), np.abs(rest.weight).argmax(0)[None], 0) > 0
  )


def test_truncation_truncates():
  x = spread()
  np.testing.assert_array_equal(linear.truncation(x, 4).transform(x), x[:, :4])


def test_random_projections_keep_lengths_on_average():
  x = spread()
  one = lambda key: linear.random_projection(x, 3, key=key).transform(x)
  z = quick_jit(jax.vmap(one))(jax.random.split(KEY, 4000))
  # Relative standard error √(2/3/4000) ≈ 1.3 %.
  np.testing.assert_allclose(jnp.mean(z**2, axis=0).sum(axis=-1), np.sum(x**2, axis=1), rtol=0.06)


def test_barlow_twins_is_the_formula():
  rng = np.random.default_rng(0)
  z1, z2 = rng.standard_normal((2, 30, 4))
  standard = lambda z: (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
  c = standard(z1).T @ standard(z2) / 30
  off = c[~np.eye(4, dtype=bool)]
  want = np.sum((1 - np.diag(c)) ** 2) + 0.3 * np.sum(off**2)
  loss = quick_jit(lambda a, b: tldr.barlow_twins(a, b, off_diagonal=0.3))
  got = loss(z1.astype(np.float32), z2.astype(np.float32))
  np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize("hidden", [0, pytest.param(32, marks=pytest.mark.slow)])
def test_tldr_finds_what_neighbours_share(hidden):
  x, near, label = clusters()
  fit = quick_jit(
    lambda x: tldr.fit(
      x, 3, key=KEY, neighbors=near, hidden=hidden, projector=32, steps=400, learning_rate=3e-2
    )
  )
  found = fit(x)
  z = found.transform(x)
  assert z.shape == (len(x), 3) and np.isfinite(z).all()
  assert separation(linear.pca(x, 3).transform(x), label) < 0.1
  assert separation(z, label) > 0.5


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_mpad_utility_is_the_mean_of_the_extremes(share):
  p = np.random.default_rng(0).standard_normal(50).astype(np.float32)

  @quick_jit
  def compute(p):
    low = jax.value_and_grad(mpad.utility)(p, share)
    return low, mpad.utility(p, share, largest=True)

  (low, g), high = compute(p)
  first, second = np.triu_indices(50, 1)
  gap = p[first].astype(np.float64) - p[second]
  order = np.argsort(np.abs(gap))
  count = round(share * len(gap))
  some = order[:count]
  np.testing.assert_allclose(low, np.abs(gap[some]).mean(), rtol=1e-4)
  np.testing.assert_allclose(high, np.abs(gap[order[-count:]]).mean(), rtol=1e-4)
  want = np.zeros(50)
  np.add.at(want, first[some], np.sign(gap[some]) / count)
  np.add.at(want, second[some], -np.sign(gap[some]) / count)
  np.testing.assert_allclose(g, want, atol=1e-5)


def test_mpad_directions_beat_random_ones_and_are_apart():
  x, _, _ = clusters(n=60)
  fit = quick_jit(lambda x: mpad.fit(x, 3, key=KEY, share=0.5, alpha=10.0, steps=80))
  w = np.asarray(fit(x).weight)
  np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, rtol=1e-5)
  gram = w.T @ w
  assert np.abs(gram - np.diag(np.diag(gram))).max() < 0.3

  def value(w):
    p = x @ w
    return np.sort(np.abs(p[:, None] - p)[np.triu_indices(60, 1)])[: 60 * 59 // 4].mean()

  random = np.random.default_rng(0).standard_normal((500, x.shape[1]))
  random /= np.linalg.norm(random, axis=1, keepdims=True)
  assert value(w[:, 0]) > max(map(value, random))


def test_an_autoencoder_keeps_what_a_plane_has():
  rng = np.random.default_rng(0)
  x = (rng.standard_normal((200, 2)) @ rng.standard_normal((2, 8))).astype(np.float32)
  fit = quick_jit(lambda x: autoencoder.fit(x, 2, key=KEY, hidden=32, steps=600))
  z = np.asarray(fit(x).transform(x))
  z = np.concatenate([z, np.ones((200, 1))], axis=1)
  rest = x - z @ np.linalg.lstsq(z, x)[0]
  assert np.sum(rest**2) < 0.1 * np.sum((x - x.mean(axis=0)) ** 2)


@pytest.mark.slow
def test_matryoshka_prefixes_keep_similarities_better_than_components():
  x, near, _ = clusters()
  x[:, 0] += 20  # what all have in common
  dims = (2, 4)
  fit = quick_jit(
    lambda x: matryoshka.fit(x, 4, key=KEY, neighbors=near, dims=dims, steps=300, near=0.0)
  )
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  error = lambda z: [
    np.mean((z[:, :m] / np.linalg.norm(z[:, :m], axis=1, keepdims=True)
             @ (z[:, :m] / np.linalg.norm(z[:, :m], axis=1, keepdims=True)).T - unit @ unit.T) ** 2)
    for m in dims
  ]  # fmt: skip
  ours = error(np.asarray(fit(x).transform(x)))
  theirs = error(np.asarray(linear.pca(x, 4, center=False).transform(x)))
  assert np.all(np.array(ours) < 0.9 * np.array(theirs))


@pytest.mark.parametrize("name", [pytest.param("poincare", marks=pytest.mark.slow), "euclidean"])
def test_heads_keep_neighbours_near(name):
  m = manifolds.make(name)
  x, near, label = clusters()
  x = x / np.linalg.norm(x, axis=1, keepdims=True)

  @quick_jit
  def compute(x):
    found = head.fit(m, x, 3, key=KEY, neighbors=near, steps=200, learning_rate=0.1)
    z = found.transform(x)
    start = m.proj(m.exp0(linear.pca(x, 3, center=False).transform(x)))
    return z, m.pairwise(z, z), m.pairwise(start, start)

  z, after, before = map(np.asarray, compute(x))
  assert not m.fault(jnp.asarray(z)) and z.shape == (len(x), 3)

  def precision(d):
    order = np.argsort(d + np.diag(np.full(len(d), np.inf)), axis=1)[:, :10]
    return np.mean(label[order] == label[:, None])

  assert precision(before) < 0.2 and precision(after) > 1.5 * precision(before)


def test_kernel_pca_with_a_linear_kernel_is_pca():
  pytest.importorskip("sklearn", reason="extra reduction")
  x = spread()
  found = peers.kernel_pca(x, 2, key=KEY, kernel="linear", sample=len(x))
  np.testing.assert_allclose(
    np.abs(found.transform(x)), np.abs(linear.pca(x, 2).transform(x)), atol=1e-3
  )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_umap_keeps_clusters():
  pytest.importorskip("umap", reason="extra reduction")
  x, _, label = clusters()
  z = np.asarray(peers.umap(x[:, -3:], 2, key=KEY).transform(x[:, -3:]))
  assert z.shape == (len(x), 2) and separation(z, label) > 0.8


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda x: linear.pca(x, 7), "dim must be between 1 and 6, got 7"),
    (lambda x: linear.truncation(x, 0), "dim must be between 1 and 6, got 0"),
    (lambda x: linear.random_projection(x, 0, key=KEY), "dim must be between 1 and 1, got 0"),
    (lambda x: linear.pca(x, 5, skip=2), "skip must be between 0 and 1, got 2"),
    (lambda x: linear.pca(x[:0], 1), r"floating \[n, d\], got float32 \[0, 6\]"),
    (lambda x: linear.pca(x[0], 1), r"got float32 \[6\]"),
    (lambda x: linear.pca(np.where(x == x[7, 0], np.nan, x), 1), "1 that are not, first 7"),
    (lambda x: mpad.fit(x, 1, key=KEY, share=0.0), "share must be in"),
    (lambda x: mpad.fit(x[:1], 1, key=KEY), "at least 2 vectors, got 1"),
    (lambda x: reducer.check_neighbors(np.zeros((3, 2), int), 4), r"must be \[4, k\]"),
    (lambda x: reducer.check_neighbors(np.full((4, 2), 4), 4), "from 0 to 3, got 4 … 4"),
    (
      lambda x: matryoshka.fit(x, 2, key=KEY, neighbors=np.zeros((80, 1), int), dims=(3,)),
      "dims must be between 1 and 2",
    ),
    (lambda x: autoencoder.fit(x, 2, key=KEY, steps=0), "steps must be positive, got 0"),
  ],
)
def test_mistakes(call, message):
  with pytest.raises(ValueError, match=message):
    call(spread())
