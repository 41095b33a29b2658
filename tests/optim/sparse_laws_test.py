"""Laws of the first-order links beside RSGD's and RAdam's, on every manifold, dense and by rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.optim import links, lookahead, mixed, radagrad, rlion
from geoemb.tables import rows
from tests.compiling import quick_jit

pytestmark = pytest.mark.slow

LOOKAHEAD = ("lorentz", "poincare", "sphere")
N, DIM, C, ETA = 7, 3, 0.7, 0.1
DTYPE = {name: ("float32", "float64")[i % 2] for i, name in enumerate(manifolds.NAMES)}
TOLERANCE = {"float32": 3e-5, "float64": 1e-11}
IDS = np.array([[3, 5, 3, 3, 3, 5, 3], [3, 1, 6, 5, 3, 3, 1], [5, 3, 0, 1, 0, 0, 0]], np.int32)


def everything(m):
  """All links in one chain: compiling is all the time that these tests take."""
  fast = links.riemannian(
    m,
    radagrad.scale_by_radagrad(m, initial=0.0),
    rlion.scale_by_rlion(m, b1=0.5, b2=0.8),
    links.add_decay(m, 0.3),
    optax.scale_by_learning_rate(ETA),
  )
  return lookahead.lookahead(fast, m, every=2, share=0.4) if m.name in LOOKAHEAD else fast


@functools.cache
def facts(name):
  """Dense and row-sparse steps along one path, from one compiled function."""
  dtype = jnp.dtype(DTYPE[name])

  @quick_jit
  def compute(x, w):
    m = manifolds.make(name, C)
    # As the table of a mixed tree, so that this is tested with rows too.
    tx = mixed.mixed((m, None), everything)

    def step(state, ids):
      every = jnp.arange(N, dtype=jnp.int32)

      def take(mode):  # compiled once for both: the dense step is that of all rows
        at, pick = mode
        return rows.update(tx, lambda x: jnp.sum(w * jnp.sin(x[pick])), state, at)[0]

      modes = jnp.stack([ids, every]), jnp.stack([every, ids])
      both = jax.lax.map(take, modes)
      sparse, dense = (jax.tree.map(lambda s, i=i: s[i], both) for i in range(2))
      return sparse, (state, sparse, dense)

    v = m.egrad2rgrad(x, jnp.sin(x + 1)) * (10.0 ** jnp.arange(-12, 2, 2, dtype=x.dtype))[:, None]
    v = v.at[0].set(0)
    one = rlion.sign(m, x, v)
    decay = links.add_decay(m, 0.3).update(0 * x, optax.EmptyState(), x)[0]
    return jax.lax.scan(step, rows.init(tx, x), IDS)[1], {
      "v": v, "|v|": m.norm(x, v), "sign": one, "|sign|": m.norm(x, one), "decay": decay,
      "home": m.log(x, m.origin_like(x)), "to home": m.dist0(x), "|decay|": m.norm(x, decay),
    }  # fmt: skip

  with jax.enable_x64(dtype == "float64"):
    m = manifolds.make(name, C)
    x = jax.jit(lambda key: m.random(key, (N,), DIM, scale=0.4, dtype=dtype))(jax.random.key(0))
    w = np.random.default_rng(0).standard_normal(x.shape).astype(dtype)
    return jax.tree.map(np.asarray, compute(x, w))


@pytest.mark.parametrize("name", manifolds.NAMES)
def test_rows_take_the_dense_step_and_the_others_stay(name):
  before, sparse, dense = facts(name)[0]
  tol = TOLERANCE[DTYPE[name]]
  for t, ids in enumerate(IDS):
    touched = np.unique(ids)
    others = np.setdiff1d(np.arange(N), ids)
    leaves = [jax.tree.leaves((s.table, s.opt)) for s in (before, sparse, dense)]
    moved = 0
    for old, ours, theirs in zip(*leaves):
      assert ours.dtype == theirs.dtype == old.dtype
      assert ours.dtype in (np.int32, DTYPE[name])
      ours, theirs, old = ours[t], theirs[t], old[t]
      if ours.ndim and len(ours) == N:
        np.testing.assert_array_equal(ours[others], old[others])
        ours, theirs, old = ours[touched], theirs[touched], old[touched]
        moved += np.any(ours != old)
      np.testing.assert_allclose(ours, theirs, rtol=tol, atol=tol)
    assert moved >= 2  # the table and a moment at least


@pytest.mark.parametrize("name", manifolds.NAMES)
def test_the_sign_of_a_tangent_is_its_direction_with_length_1(name):
  f = facts(name)[1]
  np.testing.assert_array_equal(f["sign"][0], 0)
  if name == "euclidean":
    np.testing.assert_array_equal(f["sign"], np.sign(f["v"]))
  else:
    np.testing.assert_allclose(f["|sign|"][1:], 1, rtol=1e-5)
    unit = f["v"][1:] / f["|v|"][1:, None]
    np.testing.assert_allclose(f["sign"][1:], unit, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOOKAHEAD)
def test_every_kth_step_of_lookahead_ends_at_the_slow_points(name):
  dense = facts(name)[0][2]
  state = dense.opt.inner_states[f"{name}[0]"].inner_state
  np.testing.assert_array_equal(state.count, [1, 2, 3])
  tol = TOLERANCE[DTYPE[name]]
  np.testing.assert_allclose(dense.table[1], state.slow[0][1], rtol=tol, atol=tol)
  assert np.any(state.slow[0][1] != state.slow[0][0])


@pytest.mark.parametrize("name", manifolds.NAMES)
def test_decay_pulls_home_by_its_share(name):
  f = facts(name)[1]
  np.testing.assert_allclose(f["decay"], -0.3 * f["home"], rtol=1e-6)
  np.testing.assert_allclose(f["|decay|"], 0.3 * f["to home"], rtol=1e-4)
  assert np.min(f["to home"]) > 0.05
