import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from geoemb import manifolds
from geoemb.optim import links, lookahead, radagrad, radam, rsgd
from tests.compiling import quick_jit


@pytest.mark.parametrize(
  "name, norm",
  [("euclidean", "chart"), ("lorentz", "riemannian"), ("poincare", "riemannian"),
   ("poincare", "chart"), ("sphere", "riemannian")],
)  # fmt: skip
def test_clip_norm_shortens_what_is_too_long(name, norm):
  m = manifolds.make(name, 0.7)
  tx = links.clip_norm(m, 0.5, norm=norm)

  @jax.jit
  def clip(key):
    x = m.random(key, (9,), 3, scale=0.4)
    v = m.egrad2rgrad(x, jnp.sin(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape))
    v = v * 10.0 ** jnp.arange(-7, 2, dtype=jnp.float32)[:, None]
    v = v.at[0].set(0)
    out, _ = tx.update(v, tx.init(x), x)
    measure = m if norm == "riemannian" else manifolds.make("euclidean")
    return v, out, measure.norm(x, v), measure.norm(x, out)

  v, out, before, after = map(np.asarray, clip(jax.random.key(0)))
  long = before > 0.5
  assert 0 < long.sum() < 9
  np.testing.assert_array_equal(out[~long], v[~long])
  np.testing.assert_allclose(after[long], 0.5, rtol=1e-6)
  np.testing.assert_allclose(out[long] / after[long, None], v[long] / before[long, None], rtol=1e-5)


def test_clip_norm_at_zero_has_a_finite_derivative():
  m = manifolds.make("lorentz")
  tx = links.clip_norm(m, 0.5)
  v = jnp.zeros((2, 3))
  slope = jax.jit(jax.jacfwd(lambda v: tx.update(v, tx.init(v), jnp.ones((2, 3)))[0]))(v)
  assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("norm", ["riemannian", "chart"])
def test_clip_norm_of_a_number_is_by_its_size(norm):
  tx = links.clip_norm(manifolds.make("euclidean"), 0.5, norm=norm)
  v = {"a": jnp.float32(-3), "b": jnp.float32(0.25), "c": jnp.float32(0)}
  out, _ = tx.update(v, tx.init(v), v)
  assert jax.tree.map(jnp.shape, out) == {"a": (), "b": (), "c": ()}
  assert jax.tree.map(float, out) == {"a": -0.5, "b": 0.25, "c": 0}


def test_links_whose_tangents_would_stay_behind_are_refused():
  x = jnp.zeros((2, 3))
  for link, state in ((optax.scale_by_adam(), ".mu"), (optax.scale_by_rms(), ".nu")):
    make = lambda m, link=link: links.riemannian(m, optax.scale(2.0), link)
    with pytest.raises(ValueError, match=rf"^tangent_links\[1\]\{state} is shaped as the points"):
      make(manifolds.make("sphere")).init(x)
    make(manifolds.make("euclidean")).init(x)  # where all stay as they are
  line = manifolds.make("poincare")
  own = radam.scale_by_radam(line), radagrad.scale_by_radagrad(line)
  for link in (optax.trace(0.9), optax.ema(0.9), optax.scale_by_lion(), *own):
    links.riemannian(line, optax.chain(link)).init(jnp.zeros((2, 1)))


def test_extra_arguments_reach_the_links():
  m = manifolds.make("sphere")
  by_value = optax.GradientTransformationExtraArgs(
    lambda x: optax.EmptyState(), lambda v, state, x, *, value: (-value * v, state)
  )
  tx = lookahead.lookahead(links.riemannian(m, optax.scale(2.0), by_value), m)
  x = m.origin((2,), 3)
  g = jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)

  @quick_jit
  def both(value):
    step, _ = tx.update(g, tx.init(x), params=x, value=value)
    return step, m.displacement(x, m.exp(x, -2 * value * m.egrad2rgrad(x, g)))

  np.testing.assert_allclose(*both(jnp.float32(0.05)), rtol=1e-5, atol=1e-7)


def test_options_that_do_not_exist_are_refused():
  m = manifolds.make("sphere")
  with pytest.raises(ValueError, match="^norm must be .* or .*, got 'euclid'$"):
    links.clip_norm(m, 1.0, norm="euclid")
  with pytest.raises(ValueError, match="^move must be .* or .*, got 'log'$"):
    links.riemannian(m, move="log")
  with pytest.raises(ValueError, match="needs params"):
    tx = rsgd.rsgd(0.1, m)
    x = m.origin((2,), 3)
    tx.update(x, tx.init(x))


@pytest.mark.parametrize("name", manifolds.NAMES)
def test_to_riemannian_gives_the_gradient_of_the_metric(name):
  """⟨grad f, v⟩ = Df[v] for every tangent v."""
  m = manifolds.make(name, 0.7)
  tx = links.to_riemannian(m)

  @jax.jit
  def both(key):
    keys = jax.random.split(key, 3)
    x, y = m.random(keys[0], (2, 5), 3, scale=0.4, dtype=jnp.float64)
    v = m.log(x, y)
    f = lambda x: jnp.sum(jnp.sin(3 * x) * x[..., :1], axis=-1)
    g = jax.grad(lambda x: f(x).sum())(x)
    grad, _ = tx.update(g, tx.init(x), x)
    return m.inner(x, grad, v), jnp.sum(g * v, axis=-1)

  with jax.enable_x64(True):
    np.testing.assert_allclose(*both(jax.random.key(0)), rtol=1e-11, atol=1e-12)


def test_a_tree_partly_on_a_manifold_is_partitioned():
  """Each part takes its own step, and momentum of the curved part is transported in there too."""
  m = manifolds.make("sphere")
  labels = {"points": "curved", "offset": "flat"}
  tx = optax.partition(
    {"curved": rsgd.rsgd(0.1, m, momentum=0.9), "flat": optax.sgd(0.1, momentum=0.9)}, labels
  )
  alone = rsgd.rsgd(0.1, m, momentum=0.9)

  @jax.jit
  def run(key):
    x = {"points": m.random(key, (4,), 2), "offset": jnp.ones(3)}
    g = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), x)
    state, y, other = tx.init(x), x["points"], alone.init(x["points"])
    for _ in range(3):
      updates, state = tx.update(g, state, x)
      x = optax.apply_updates(x, updates)
      updates, other = alone.update(g["points"], other, y)
      y = optax.apply_updates(y, updates)
    return x, y, 1 - 0.1 * (1 + 1.9 + 2.71) * g["offset"]

  x, y, offset = run(jax.random.key(0))
  np.testing.assert_allclose(x["points"], y, rtol=1e-6)
  np.testing.assert_allclose(x["offset"], offset, rtol=1e-5)
