"""The ranking step against its docstring, typed in numpy, with finite differences for gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.data import tree
from geoemb.graphs import caps, sampling
from geoemb.harness import replicas
from geoemb.models import ranked
from geoemb.optim import rsgd

TREE = tree.balanced(2, 3)
EDGES, N, DIM = TREE.edges, len(TREE.names), 2
HARD, WEIGHT, ETA, C = 2, 0.3, 0.01, 0.7


def ball(x, y):
  """[nickel2017poincare] eq. 1 at curvature −C."""
  xx, yy = C * np.sum(x * x, axis=-1), C * np.sum(y * y, axis=-1)
  return np.arccosh(1 + 2 * C * np.sum((x - y) ** 2, axis=-1) / ((1 - xx) * (1 - yy))) / np.sqrt(C)


def sheet(x, y):
  """[nickel2018lorentz] eq. 5, with times from the spatial parts."""
  t = lambda z: np.sqrt(1 / C + np.sum(z * z, axis=-1))
  return np.arccosh(np.maximum(1, C * (t(x) * t(y) - np.sum(x * y, axis=-1)))) / np.sqrt(C)


def squares(x, y):
  return np.sum((x - y) ** 2, axis=-1)


SCORES = {
  "poincare": (lambda: ranked.geodesic(manifolds.make("poincare", C)), ball),
  "lorentz": (lambda: ranked.geodesic(manifolds.make("lorentz", C)), sheet),
  "euclidean": (
    lambda: ranked.geodesic(manifolds.make("euclidean")),
    lambda x, y: np.linalg.norm(x - y, axis=-1),
  ),
  "squared": (ranked.squared, squares),
  "translational": (ranked.translational, lambda x, y, r: squares(x + r, y)),
}


def losses(dist, batch, cache, table, dense):
  """Mean over the edges of the two terms of ranked.step, in nats."""
  groups, s, _ = batch.known.shape
  first, second = [], []
  for i, (u, v) in enumerate(zip(batch.u, batch.v)):
    d = lambda j: dist(table[u], table[j], *dense)
    group = i // s
    negatives = batch.neg[group][~batch.known[group, i % s]]
    first.append(np.log1p(sum(np.exp(d(v) - d(j)) for j in negatives)))
    second.append(sum(np.log1p(np.exp(d(v) - d(h))) for h in cache[u] if h != u))
  return np.mean(first), np.mean(second)


def slopes(f, x, h=1e-6):
  """Central differences."""
  out = np.zeros_like(x)
  for i in np.ndindex(x.shape):
    e = np.zeros_like(x)
    e[i] = h
    out[i] = (f(x + e) - f(x - e)) / (2 * h)
  return out


@functools.cache
def batches():
  sample = sampling.ranked_edges(EDGES, N, batch_size=6, negatives=5, shared=2)
  drawn = jax.jit(sample)(jax.random.key(3), jnp.arange(12, dtype=jnp.int32))
  return [jax.tree.map(lambda x: np.asarray(x[i]), drawn) for i in range(12)]


def start(name, tx, hard=0):
  table = np.random.default_rng(0).uniform(-0.5, 0.5, size=(N, DIM))
  dense = (np.array([0.2, -0.1]),) if name == "translational" else ()
  return ranked.init(tx, jnp.asarray(table), *map(jnp.asarray, dense), hard_negatives=hard)


@pytest.mark.parametrize("name", ["poincare", "lorentz", "translational"])
def test_a_step_descends_the_loss_of_the_docstring(name):
  make, dist = SCORES[name]
  tx = optax.sgd(ETA)
  filled = 0
  with jax.enable_x64(True):
    step = jax.jit(ranked.step(tx, make(), hard_weight=WEIGHT, hard_from=3))
    state = start(name, tx, HARD)
    for t, batch in enumerate(batches()[:8]):
      cache, table = np.asarray(state.hard), np.asarray(state.rows.table)
      dense = tuple(map(np.asarray, state.rows.dense))
      new, info = step(state, jax.tree.map(jnp.asarray, batch))
      first, _ = losses(dist, batch, cache, table, dense)
      np.testing.assert_allclose(info["loss"], first, rtol=1e-10)
      assert new.count == t + 1
      if t in (0, 2, 3, 7):  # around the step from which hard negatives count
        weight = WEIGHT if t >= 3 else 0

        def total(table, *dense):
          first, second = losses(dist, batch, cache, table, dense)
          return first + weight * second

        moved = (table - np.asarray(new.rows.table)) / ETA
        np.testing.assert_allclose(moved, slopes(lambda x: total(x, *dense), table), atol=1e-7)
        for r, s in zip(dense, new.rows.dense):
          np.testing.assert_allclose((r - s) / ETA, slopes(lambda r: total(table, r), r), atol=1e-7)
      state, filled = new, np.sum(np.asarray(state.hard) != np.arange(N)[:, None])
  assert filled > N / 2


def test_both_charts_take_one_path():
  """Training by geodesics is of the space and not of its chart: losses agree to rounding."""
  path = {}
  with jax.enable_x64(True):
    sample = sampling.ranked_edges(EDGES, N, batch_size=6, negatives=5, shared=2)
    drawn = jax.jit(sample)(jax.random.key(4), jnp.arange(300, dtype=jnp.int32))
    for name in ("poincare", "lorentz"):
      m, score = ranked.model(name, C)
      tx = rsgd.rsgd(0.5, m, max_step=1.0)
      table = ranked.ancestral(jax.random.key(0), m, EDGES, N, 5, scale=0.5, dtype=jnp.float64)
      state = ranked.init(tx, table, hard_negatives=HARD)
      step = ranked.step(tx, score, hard_weight=WEIGHT, hard_from=100)
      end, info = jax.jit(lambda s, step=step: jax.lax.scan(step, s, drawn))(state)
      x = end.rows.table
      path[name] = np.asarray(info["loss"]), np.asarray(m.dist(x[:, None], x))
  assert path["lorentz"][0][-50:].mean() < 0.5 * path["lorentz"][0][:50].mean()
  for ball_says, sheet_says in zip(*path.values()):
    np.testing.assert_allclose(ball_says, sheet_says, rtol=1e-9, atol=1e-9)


def test_the_cache_remembers_the_nearest_negatives():
  tx = optax.sgd(0.0)  # nothing moves, so distances stay
  linked = np.eye(N, dtype=bool)
  linked[tuple(EDGES.T)] = True
  step = jax.jit(ranked.step(tx, ranked.squared(), hard_weight=1e-3))
  with jax.enable_x64(True):
    state = start("squared", tx, HARD)
    table, met = np.asarray(state.rows.table), [set() for _ in range(N)]
    for batch in batches():
      state, _ = step(state, jax.tree.map(jnp.asarray, batch))
      for i, u in enumerate(batch.u):
        met[u].update(batch.neg[i // 2].tolist())
  for u, row in enumerate(np.asarray(state.hard)):
    found = row[row != u]
    assert len(set(found)) == len(found)
    assert set(found) <= met[u]
    assert not np.any(linked[u, found])
    if len(found):
      usual = [j for j in met[u] if not linked[u, j]]
      assert squares(table[u], table[found]).min() == squares(table[u], table[usual]).min()


def test_hard_negatives_that_do_not_count_change_nothing():
  """Weight 0, or steps before hard_from, under an optimizer without memory of untouched rows."""
  name = "translational"
  make, _ = SCORES[name]
  tx = optax.sgd(0.1)
  options = {"none": {}, "early": dict(hard_weight=0.5, hard_from=100)}
  tables = {}
  with jax.enable_x64(True):
    for kind, kwargs in options.items():
      step = jax.jit(ranked.step(tx, make(), **kwargs))
      state = start(name, tx, HARD)
      for batch in batches():
        state, _ = step(state, jax.tree.map(jnp.asarray, batch))
      tables[kind] = state
  none, early = tables["none"], tables["early"]
  np.testing.assert_allclose(none.rows.table, early.rows.table, rtol=1e-12, atol=1e-13)
  np.testing.assert_array_equal(none.hard, np.tile(np.arange(N)[:, None], (1, HARD)))
  assert np.any(np.asarray(early.hard) != np.asarray(none.hard))
  for a, b in zip(none.rows.dense, early.rows.dense):
    np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_affinities_are_those_of_the_distances(name):
  make, dist = SCORES[name]
  rng = np.random.default_rng(1)
  u, w = rng.uniform(-0.5, 0.5, (3, 4, DIM)), rng.uniform(-0.5, 0.5, (3, 5, DIM))
  dense = (np.array([0.2, -0.1]),) if name == "translational" else ()
  expected = dist(u[:, :, None], w[:, None], *dense)
  score = make()
  with jax.enable_x64(True):
    got = jax.jit(
      lambda u, w: (score.dist(u[:, :, None], w[:, None], *dense), score.affinity(u, w, *dense))
    )(u, w)
  np.testing.assert_allclose(got[0], expected, rtol=1e-11)
  np.testing.assert_allclose(got[1], np.exp(-expected), rtol=1e-11)


@pytest.mark.parametrize("name", ["lorentz", "poincare", "euclidean"])
def test_an_ancestral_table_knows_the_graph(name):
  m = manifolds.make(name, 0.25)

  @jax.jit
  def measure(x):
    origin = jnp.zeros_like(x)
    return m.dist(origin, x), m.log(origin, x)

  x = ranked.ancestral(jax.random.key(0), m, EDGES, N, 200, scale=0.5)
  assert x.shape == (N, 200)
  assert x.dtype == jnp.float32
  radius, v = map(np.asarray, measure(x))
  np.testing.assert_allclose(np.sqrt(np.mean(radius**2)), 0.5, rtol=1e-5)
  np.testing.assert_allclose(v.mean(axis=0), 0, atol=1e-6)
  # A node and its parent differ by one term alone: in 200 dimensions all such steps are about
  # as long, and no two nodes are nearer to each other than these.
  d = np.linalg.norm(v[:, None] - v[None], axis=-1)
  steps = d[np.arange(1, N), (np.arange(1, N) - 1) // 2]
  assert steps.std() < 0.1 * steps.mean()
  np.fill_diagonal(d, np.inf)
  assert d.min() == steps.min()
  again = ranked.ancestral(jax.random.key(0), m, EDGES, N, 200, scale=0.5)
  np.testing.assert_array_equal(x, again)
  other = ranked.ancestral(jax.random.key(1), m, EDGES, N, 200, scale=0.5)
  assert np.max(np.abs(x - other)) > 0.01


def test_an_ancestral_table_of_one_node_is_the_origin():
  m = manifolds.make("lorentz", C)
  x = ranked.ancestral(jax.random.key(0), m, np.zeros((0, 2), np.int64), 1, 3, scale=0.5)
  np.testing.assert_array_equal(x, m.origin((1,), 3))


def test_an_ancestral_table_is_on_the_manifold():
  m = manifolds.make("poincare", 1.0)
  x = ranked.ancestral(jax.random.key(0), m, EDGES, N, 3, scale=5.0)
  assert np.all(np.sum(np.square(x), axis=1) < 1)


@pytest.mark.parametrize("name", ["lorentz", "poincare", "euclidean"])
def test_a_nested_table_has_the_radii_of_the_caps(name):
  m = manifolds.make(name, 0.25)
  x = ranked.nested(jax.random.key(0), m, EDGES, N, 3, scale=0.5)
  assert x.dtype == jnp.float32
  origin = jnp.zeros_like(x)
  radius, v = map(np.asarray, jax.jit(lambda x: (m.dist(origin, x), m.log(origin, x)))(x))
  seed = int(jax.random.bits(jax.random.key(0), (), jnp.uint32))
  polar = caps.place(EDGES, N, 3, seed=seed)
  np.testing.assert_allclose(radius, polar.radius, rtol=1e-4)  # half of it, at a quarter of c = 1
  some = polar.radius > 0
  unit = v[some] / np.linalg.norm(v[some], axis=1, keepdims=True)
  np.testing.assert_allclose(unit, polar.direction[some], atol=1e-5)


def test_replicas_learn_as_one_does():
  """Two devices that agree after every fourth step: the same loss in half as many steps of each."""
  if jax.device_count() < 2:
    pytest.skip("needs 2 devices")
  m, score = ranked.model("poincare", C)
  tx = rsgd.rsgd(0.5, m, max_step=1.0)
  sample = sampling.ranked_edges(EDGES, N, batch_size=6, negatives=5, shared=2)
  step = ranked.step(tx, score, hard_weight=WEIGHT, hard_from=20)
  table = ranked.ancestral(jax.random.key(0), m, EDGES, N, 5, scale=0.5)
  losses = {}
  for size in (1, 2):
    mesh = replicas.mesh(size)
    take, draw = replicas.local_steps(step, sample, ranked.merge(tx, m), mesh=mesh, steps=4)
    batches = draw(jax.random.key(1), jnp.arange(480 // (4 * size), dtype=jnp.int32))
    state = replicas.place(ranked.init(tx, table, hard_negatives=HARD), mesh)
    end, info = jax.jit(lambda s, b, take=take: jax.lax.scan(take, s, b))(state, batches)
    losses[size] = np.asarray(info["loss"])
    assert end.count == 480
    for u, row in enumerate(np.asarray(end.hard)):  # whole rows of one device, none invented
      found = row[row != u]
      assert len(set(found.tolist())) == len(found)
      assert not {(u, v) for v in found.tolist()} & set(map(tuple, EDGES.tolist()))
    assert np.mean(np.asarray(end.hard) != np.arange(N)[:, None]) > 0.5
  first, last = losses[2][:5].mean(), losses[2][-5:].mean()
  assert last < 0.4 * first
  assert abs(last - losses[1][-10:].mean()) < 0.15 * first
