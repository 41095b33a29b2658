"""Products of geometry are never left to an accelerator's default: TF32 on GPUs, bfloat16 on TPUs.

What XLA is asked for stands in the traced program, which is the same on every machine.
"""

import inspect
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import pytest
from jax.extend import core

from geoemb import manifolds, numerics
from geoemb.analysis import hyperbolicity, isotropy
from geoemb.distributions import bessel, wrapped_normal
from geoemb.manifolds import gyro, means
from geoemb.optim import subspace
from geoemb.optim.second_order import lbfgs, trust_region
from geoemb.reduction import autoencoder, components, head, linear, sparse_code, tldr
from geoemb.retrieval import free_embedding, maxsim, muvera

DIMS = {"grassmann": (5, 2), "stiefel": (5, 2)}
V = jnp.ones((4, 6))


def methods() -> dict[str, int]:
  """The manifold's methods of points and tangents alone, by how many they take."""
  found = {}
  for name, method in inspect.getmembers(manifolds.Manifold, inspect.isfunction):
    needed = [p.name for p in inspect.signature(method).parameters.values() if p.default is p.empty]
    if not name.startswith("_") and name != "fault" and set(needed[1:]) <= set("xyuvgp"):
      found[name] = len(needed) - 1
  return {name: n for name, n in found.items() if n}


def products(jaxpr: core.Jaxpr) -> Iterator[core.JaxprEqn]:
  """Every product in a traced program, at any depth."""
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("dot_general", "conv_general_dilated"):
      yield equation
    for inner in core.jaxprs_in_params(equation.params):
      yield from products(inner)


def loose(f: Callable, *args) -> list[str]:
  """Products of f whose digits are left to the machine, as the trace has them."""
  highest = jax.lax.Precision.HIGHEST
  found = products(jax.make_jaxpr(f)(*args).jaxpr)
  return [str(e) for e in found if e.params["precision"] not in (highest, (highest, highest))]


def with_gradient(f: Callable) -> Callable:
  def total(*args):
    return sum(x.sum() for x in jax.tree.leaves(f(*args)))

  return lambda *args: jax.value_and_grad(total, tuple(range(len(args))))(*args)


def test_a_loose_product_is_found():
  x = jnp.ones((2, 2))
  assert len(loose(with_gradient(lambda x, y: x @ y), x, x)) == 3  # itself, two in its gradient
  assert len(loose(lambda x: jax.lax.map(lambda row: row @ x, x), x)) == 1
  assert not loose(with_gradient(numerics.matmul), x, x)


@pytest.mark.parametrize("name", [*manifolds.NAMES, *manifolds.MATRIX_NAMES, "h3 x s2 x e2"])
def test_manifolds(name):
  m = manifolds.make(name)
  x = m.origin((4,), DIMS.get(name, 7 if " " in name else 3))
  traced = 0
  for f, points in methods().items():
    call = getattr(m, f)
    call = with_gradient(call) if f in ("dist", "pairwise", "pairwise_affinity") else call
    try:
      found = loose(call, *[x] * points)
    except (AttributeError, ValueError):
      continue  # it has none
    traced += 1
    assert not found, f"{f}: {found}"
  assert traced >= 20


def test_means():
  m = manifolds.make("poincare")
  x = m.origin((4,), 3)
  assert not loose(with_gradient(lambda x, w: means.frechet(m, x, w)), x, jnp.ones(4))


def test_gyrovectors():
  m = manifolds.make("poincare")
  x = 0.1 * V[:, :3]
  assert not loose(lambda w, x: gyro.matvec(m, w, x), jnp.ones((2, 3)), x)
  assert not loose(lambda x, y, v: (gyro.coadd(x, y), gyro.gyration(x, y, v)), x, -x, x)


def test_distributions():
  m, key = manifolds.make("lorentz"), jax.random.key(0)
  x = m.origin((4,), 3)
  scale = jnp.eye(3)
  assert not loose(lambda x, s: wrapped_normal.sample(key, m, x, s, tril=True), x, scale)
  assert not loose(lambda x, s: wrapped_normal.log_prob(m, x, x, s, tril=True), x, scale)
  assert not loose(lambda k: bessel.functions(0.5, k), V)


@pytest.mark.parametrize("minimize", [lbfgs.minimize, trust_region.minimize])
def test_second_order(minimize):
  m = manifolds.make("stiefel")
  x = m.origin((), (5, 2))
  assert not loose(lambda x: minimize(lambda x: jnp.sum(x[0] ** 2), m, x), x)


@pytest.mark.parametrize("projection", [subspace.dense, subspace.fastfood])
def test_subspaces(projection):
  assert not loose(with_gradient(projection(jax.random.key(0), 64, 8)), jnp.ones(8))


def test_reducers():
  for reducer in (
    linear.Linear(V[0], V[:3].T),
    head.Head(manifolds.make("lorentz"), V[:3].T),
    autoencoder.Encoder(V[:5].T, V[0, :4], V[:, :2], V[0, :2]),
    tldr.Encoder(V[0, :4], V[0, :4], V.T, V[:, :2]),
    sparse_code.SparseCode(V.T, V[0, :4], V[0], 2),
  ):
    assert not loose(reducer.transform, V), reducer
  assert not loose(sparse_code.SparseCode(V.T, V[0, :4], V[0], 2).decode, V[:, :4])
  value = lambda q, count: jnp.sum(numerics.dots(q, V))
  assert not loose(lambda a: components.nested(value, a, 2), V)


def test_scores():
  encoding = muvera.init(jax.random.key(0), 6, repetitions=2, bits=2, projected=4)
  assert not loose(with_gradient(maxsim.maxsim), V, V)
  for encode in (muvera.query, muvera.document):
    assert not loose(lambda x, encode=encode: encode(encoding, x), V)
  for model in (free_embedding.unit(6, 0.1), free_embedding.unit(6, 0.1, vectors=2)):
    assert not loose(with_gradient(model.score), model.init(jax.random.key(0), 4, 4))


def test_analysis():
  m = manifolds.make("poincare")
  assert not loose(isotropy.variances, V)
  assert not loose(isotropy.mean_cosine, V)
  assert not loose(lambda x: hyperbolicity.sampled(jax.random.key(0), m, x, n=8, block=4), 0.1 * V)
