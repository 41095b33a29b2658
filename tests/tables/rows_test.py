import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.data import tree
from geoemb.graphs import sampling
from geoemb.harness import hlo, loop
from geoemb.models import ranked
from geoemb.optim import lookahead, mixed, radam, rsgd
from geoemb.tables import rows
from tests.compiling import quick_jit

N, DIM, C = 11, 3, 0.7
RIEMANNIAN = {
  "rsgd": lambda m: rsgd.rsgd(0.1, m),
  "momentum": lambda m: rsgd.rsgd(0.1, m, momentum=0.9, max_grad=2.0),
  "nesterov": lambda m: rsgd.rsgd(0.1, m, momentum=0.9, nesterov=True, max_step=0.1),
  "radam": lambda m: radam.radam(0.1, m),
  "amsgrad": lambda m: radam.radam(0.1, m, amsgrad=True, max_step=0.15, move="retract"),
}
FLAT = {
  "adam": lambda m: optax.adam(0.1),
  "adagrad": lambda m: optax.adagrad(0.1),
  "sgd": lambda m: optax.sgd(0.1, momentum=0.9),
  "clipped": lambda m: optax.chain(optax.clip(0.5), optax.adamw(0.1, weight_decay=0.1)),
}


def draw(m, scale=0.5, n=N, dim=DIM, dtype=jnp.float32):
  """Points, from one compiled program."""
  random = quick_jit(lambda key: m.random(key, (n,), dim, scale=scale, dtype=dtype))
  return random(jax.random.key(0))


CASES = [
  *[(name, "nesterov", "float64") for name in manifolds.NAMES],
  *[(name, "amsgrad", "float32") for name in manifolds.NAMES],
  ("euclidean", "radam", "float64"),
  ("lorentz", "radam", "float64"),
  ("poincare", "rsgd", "float32"),
  ("sphere", "momentum", "float32"),
  *[("euclidean", kind, dtype) for kind, dtype in zip(FLAT, ("float32", "float64") * 2)],
]


@pytest.mark.parametrize("name, kind, dtype", CASES)
def test_equals_the_dense_step_on_touched_rows_and_leaves_the_others(name, kind, dtype):
  # optax's Adam raises floats to integer powers
  promotion = "standard" if kind in FLAT else "strict"
  with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion(promotion):
    m = manifolds.make(name, C)
    tx = {**RIEMANNIAN, **FLAT}[kind](m)
    table = draw(m, dtype=jnp.dtype(dtype))
    weights = jnp.arange(1, 7, dtype=table.dtype)

    def loss_fn(x):  # a row that stands twice has two different terms
      d = jnp.sum(jnp.square(x - jnp.roll(x, 1, axis=0)), axis=-1)
      return jnp.sum(weights * jnp.sqrt(d + 0.1)) + jnp.sum(x[0])

    @jax.jit
    def both(state, ids):
      new, loss = rows.update(tx, loss_fn, state, ids)
      expected, g = jax.value_and_grad(lambda table: loss_fn(table[ids]))(state.table)
      updates, opt = tx.update((g, ()), state.opt, (state.table, ()))
      return new, loss, optax.apply_updates((state.table, ()), updates)[0], opt, expected

    state = rows.init(tx, table)
    rng = np.random.default_rng(0)
    tol = 2e-5 if dtype == "float32" else 1e-12
    for t in range(4):
      ids = rng.choice(N, 6, replace=t % 2 == 0).astype(np.int32)
      if t == 0:
        ids[:4] = [3, 5, 3, 3]
      new, loss, dense_table, dense_opt, expected = both(state, ids)
      np.testing.assert_allclose(loss, expected, rtol=tol)
      others = np.setdiff1d(np.arange(N), ids)
      leaves = zip(*map(jax.tree.leaves, (state.opt, new.opt, dense_opt)))
      for old, ours, dense in [(state.table, new.table, dense_table), *leaves]:
        old, ours, dense = map(np.asarray, (old, ours, dense))
        assert ours.dtype == dense.dtype
        if ours.ndim and len(ours) == N:
          np.testing.assert_array_equal(ours[others], old[others])
          ours, dense = ours[ids], dense[ids]
        np.testing.assert_allclose(ours, dense, rtol=tol, atol=tol)
      assert np.any(np.asarray(new.table)[ids] != np.asarray(state.table)[ids])
      state = new


def test_duplicates_are_summed_into_one_step():
  tx = optax.sgd(1.0)
  table = jnp.zeros((4, 1))
  ids = jnp.array([2, 0, 2, 2], jnp.int32)
  slopes = jnp.array([[1.0], [10.0], [100.0], [1000.0]])
  update = jax.jit(functools.partial(rows.update, tx, lambda x: jnp.sum(slopes * x)))
  state, _ = update(rows.init(tx, table), ids)
  np.testing.assert_array_equal(state.table[:, 0], [-10, 0, -1101, 0])


def test_dense_parameters_and_counts_are_updated_every_step():
  """The shared step count corrects the bias of all rows alike, as in the dense optimizer."""
  tx = radam.radam(0.1, manifolds.make("euclidean"))
  table, dense = jnp.ones((5, 2)), {"r": jnp.zeros(2), "s": jnp.ones([])}

  def loss_fn(x, dense, bias):
    return jnp.sum((x + dense["r"]) ** 2) * dense["s"] + bias, {"rows": x}

  @jax.jit
  def step(state, ids):
    return rows.update(tx, loss_fn, state, ids, has_aux=True)

  state = rows.init(tx, table, dense, jnp.float32(3))
  reference, opt = (table, (dense, jnp.float32(3))), tx.init((table, (dense, jnp.float32(3))))
  for t in range(3):
    ids = jnp.array([0, t + 1], jnp.int32)
    before = state.table[ids]
    state, aux = step(state, ids)
    np.testing.assert_array_equal(aux["rows"], before)
    f = lambda p: loss_fn(p[0][ids], *p[1])[0]  # noqa: B023
    updates, opt = tx.update(jax.grad(f)(reference), opt, reference)
    reference = optax.apply_updates(reference, updates)
  np.testing.assert_allclose(state.dense[0]["r"], reference[1][0]["r"], rtol=1e-5)
  np.testing.assert_allclose(state.dense[0]["s"], reference[1][0]["s"], rtol=1e-5)
  np.testing.assert_allclose(state.dense[1], reference[1][1], rtol=1e-5)
  np.testing.assert_allclose(state.table[0], reference[0][0], rtol=1e-5)  # touched every time
  np.testing.assert_array_equal(state.table[4], 1)
  assert state.opt[1].count == 3
  assert jax.tree.structure(state.opt) == jax.tree.structure(opt)


def test_a_dense_parameter_of_the_tables_size_is_not_taken_for_one():
  tx = optax.sgd(0.5, momentum=0.9)
  table, dense = jnp.zeros((5, 2)), jnp.zeros((5, 2))
  update = jax.jit(functools.partial(rows.update, tx, lambda x, r: jnp.sum(x) + jnp.sum(r)))
  state, _ = update(rows.init(tx, table, dense), jnp.array([1], jnp.int32))
  np.testing.assert_array_equal(state.dense[0], -0.5)
  np.testing.assert_array_equal(state.table[:, 0], [0, -0.5, 0, 0, 0])


def test_parts_of_the_parameters_can_have_optimizers_of_their_own():
  m = manifolds.make("lorentz", C)
  tx = optax.partition({"rows": radam.radam(0.1, m), "dense": optax.sgd(1.0)}, ("rows", "dense"))
  x = draw(m, scale=1.0, n=6, dim=2)
  alone = radam.radam(0.1, m)
  loss_fn = lambda x, r: jnp.sum(x * r)
  ids = jnp.array([4, 1], jnp.int32)

  @jax.jit
  def run(x):
    state, other = rows.init(tx, x, jnp.ones(2)), rows.init(alone, x)
    state, _ = rows.update(tx, loss_fn, state, ids)
    other, _ = rows.update(alone, lambda x: loss_fn(x, jnp.ones(2)), other, ids)
    return state, other

  state, other = run(x)
  np.testing.assert_allclose(state.table, other.table, rtol=1e-6)
  np.testing.assert_array_equal(state.table[jnp.array([0, 2, 3, 5])], x[jnp.array([0, 2, 3, 5])])
  np.testing.assert_allclose(state.dense[0], 1 - jnp.sum(x[ids], axis=0), rtol=1e-6)


def leaky(tx, score):
  """The same step, with a regulariser that looks at the table before and after."""
  take = ranked.step(tx, score)

  def step(state, batch):
    new, info = take(state, batch)
    table = new.rows.table.at[batch.u].add(
      1e-3 * state.rows.table[batch.v] * jnp.max(new.rows.table[batch.u])
    )
    return new._replace(rows=new.rows._replace(table=table)), info

  return step


@pytest.mark.parametrize("kind", ["rsgd", "radam", "leaky"])
def test_the_compiled_loop_copies_no_table(kind):
  """The training step of the experiments, burn-in, hard negatives and all; and one that copies."""
  graph = tree.balanced(4, 5)
  n, d = len(graph.names), 10
  m = manifolds.make("lorentz", 0.25)
  sample = sampling.ranked_edges(
    graph.edges, n, batch_size=40, negatives=10, shared=10, burn_in_steps=9
  )
  tx = RIEMANNIAN["radam" if kind == "radam" else "rsgd"](m)
  if kind == "leaky":
    step, hard = leaky(tx, ranked.geodesic(m)), 0
  else:
    step, hard = ranked.step(tx, ranked.geodesic(m), hard_weight=0.1, hard_from=3), 4
  key = jax.random.key(0)
  state = ranked.init(tx, m.random(key, (n,), d), hard_negatives=hard)
  carry = loop.init(step, sample, state, key, block=8)
  _, compiled = loop.compile_run(step, sample, carry, key, block=8)
  # n counts: neither the table, nor a moment or the slots, nor the cache may be copied.
  assert bool(hlo.loop_copies(compiled.as_text(), n)) == (kind == "leaky")


def merged(m, tx, old, news):
  """What rows.merge makes of the states of as many devices."""
  if jax.device_count() < len(news):
    pytest.skip(f"needs {len(news)} devices")
  mesh = jax.sharding.Mesh(np.asarray(jax.devices()[: len(news)]), ("i",))
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *news)

  def one(old, new):
    return rows.merge(tx, m, old, jax.tree.map(lambda x: x[0], new), "i")

  p = jax.sharding.PartitionSpec
  f = jax.shard_map(one, mesh=mesh, in_specs=(p(), p("i")), out_specs=p(), check_vma=False)
  return jax.jit(f)(old, stacked)


@pytest.mark.parametrize("name", ["poincare", "sphere", "horospherical", "so"])
def test_changes_of_several_devices_add_up_on_the_manifold(name, monkeypatch):
  monkeypatch.setattr(rows, "_MERGED", 2)  # more than one block
  m = manifolds.make(name, C)
  with jax.enable_x64(True):
    tx = rsgd.rsgd(0.1, m, momentum=0.9)
    x = draw(m, dtype=jnp.float64)
    old = rows.init(tx, x, *[jnp.array([1.0, 2.0])] * (name == "poincare"))
    # Steps of up to 0.05 each; row 0 stands, 1 and 2 are moved by one device, the others by all.
    still = np.ones((3, N), bool)
    still[:, 3:], still[0, 1], still[2, 2] = False, False, False

    @quick_jit
    def move(key, length, still):
      v = m.egrad2rgrad(x, jax.random.normal(key, x.shape, x.dtype))
      v = jnp.where(still, 0, length * v / m.wide(m.norm(x, v)))
      y = jnp.where(still, x, x + m.displacement(x, m.exp(x, v)))
      return v, y, jnp.where(still, 0, m.transport(x, y, -v))

    news, steps = [], []
    for i in range(3):
      v, y, u = move(jax.random.key(i + 1), 0.05 * (i + 1) / 3, m.wide(still[i]))
      steps.append(v)
      opt = jax.tree.map(lambda s, u=u: u if s.shape == u.shape else s + 1, old.opt)
      news.append(old._replace(table=y, opt=opt, dense=tuple(r + 0.5**i for r in old.dense)))
    done = merged(m, tx, old, news)

    np.testing.assert_array_equal(done.table[0], x[0])
    np.testing.assert_array_equal(done.table[1], news[0].table[1])
    np.testing.assert_array_equal(done.table[2], news[2].table[2])
    off = quick_jit(lambda v, y: m.dist(y, m.exp(x, v)))(sum(steps), done.table)
    assert np.max(off) < 1e-9
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b + 1.75), done.dense, old.dense)
    trace = lambda state: jax.tree.leaves(state.opt)[0]
    np.testing.assert_array_equal(trace(done)[0], 0 * x[0])
    transport = quick_jit(m.transport)
    carried = sum(transport(new.table, done.table, trace(new)) for new in news)
    np.testing.assert_allclose(trace(done)[3:], carried[3:] / 3, rtol=1e-6, atol=1e-9)
    others = [jax.tree.leaves(state.opt)[1:] for state in (old, done)]
    for before, after in zip(*others):
      whole = jnp.issubdtype(after.dtype, jnp.integer)
      np.testing.assert_allclose(after, before + (3 if whole else 1))


def test_parts_with_optimizers_of_their_own_merge_as_alone():
  m = manifolds.make("lorentz", C)
  make = lambda m: rsgd.rsgd(0.1, m, momentum=0.9)
  txs = mixed.mixed((m, (None,)), make), make(m)
  x, r = draw(m), jnp.ones(DIM)
  loss = lambda x, r=r: jnp.sum(jnp.sin(x) * r)

  @quick_jit
  def run():
    olds = rows.init(txs[0], x, r), rows.init(txs[1], x)
    news = [
      [rows.update(tx, loss, old, jnp.array(ids, jnp.int32))[0] for ids in ([0, 1], [2, 1])]
      for tx, old in zip(txs, olds)
    ]
    return olds, news

  olds, news = run()
  both, alone = (merged(m, *each) for each in zip(txs, olds, news))
  np.testing.assert_allclose(both.table, alone.table, rtol=1e-6)
  trace = lambda state: [s for s in jax.tree.leaves(state.opt) if s.shape == x.shape]
  np.testing.assert_allclose(*trace(both), *trace(alone), rtol=1e-6)
  dense = [optax.tree.get(state.opt.inner_states["flat"], "trace")[1][0] for state in news[0]]
  found = optax.tree.get(both.opt.inner_states["flat"], "trace")[1][0]
  np.testing.assert_allclose(found, np.mean(dense, axis=0), rtol=1e-6)


def test_slow_points_go_as_the_table_does():
  m = manifolds.make("sphere", C)
  tx = lookahead.lookahead(rsgd.rsgd(0.1, m), m)
  with jax.enable_x64(True):
    x, r = draw(m, dtype=jnp.float64), jnp.ones(2)
    old = rows.init(tx, x, r)

    @quick_jit
    def ends(key):
      v = m.egrad2rgrad(x, jax.random.normal(key, (2, *x.shape), x.dtype))
      v = 0.08 * v / m.norm(x, v)[..., None]
      return m.exp(x, v), m.exp(x, v.sum(0))

    y, expected = ends(jax.random.key(1))
    news = [
      old._replace(table=y[1 - i], opt=old.opt._replace(slow=(y[i], (r + 1 + i,))))
      for i in range(2)
    ]
    done = merged(m, tx, old, news)
    slow, (dense,) = done.opt.slow
    assert not m.fault(slow)
    np.testing.assert_allclose(slow, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dense, r + 3)


def test_long_moves_that_agree_count_once():
  m = manifolds.make("lorentz", C)
  tx = rsgd.rsgd(0.1, m)
  with jax.enable_x64(True):
    x = draw(m, dtype=jnp.float64)
    old = rows.init(tx, x)
    v = m.egrad2rgrad(x, jax.random.normal(jax.random.key(1), x.shape, x.dtype))
    unit = v / m.norm(x, v)[:, None]
    exp, dist = quick_jit(m.exp), quick_jit(m.dist)
    for length, goes in ((0.08, 0.16), (0.15, 0.2), (3.0, 3.0)):
      news = [old._replace(table=exp(x, length * unit))] * 2
      done = merged(m, tx, old, news)
      np.testing.assert_allclose(dist(x, done.table), goes, rtol=1e-6)
      assert np.max(dist(done.table, exp(x, goes * unit))) < 1e-6
