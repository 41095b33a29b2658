"""Free embeddings: whether any vectors of d numbers rank as relevance judgments ask.

Queries and documents are parameters, fitted to the judgments by gradient descent over all of them
at once. What no fit reaches no encoder with this geometry, size and loss can be expected to reach.
Judgments are labels [m, n] of m queries by n documents: 1 relevant, −1 irrelevant, 0 absent. Absent
rows and columns are padding, so that problems of many sizes share one compiled program.
Source: [weller2025limit] and its code.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from geoemb import numerics
from geoemb.boxes import box as boxes
from geoemb.boxes import volume
from geoemb.losses import relevance
from geoemb.manifolds import Manifold, euclidean
from geoemb.optim import radam
from geoemb.retrieval import maxsim
from geoemb.typing import Array, Key, PyTree, Scalar


class Model(NamedTuple):
  """A geometry of queries and documents, and how they move."""

  init: Callable[[Key, int, int], PyTree]  # (key, m, n) → parameters
  score: Callable[[PyTree], Array]  # parameters → [m, n], larger for nearer
  tx: optax.GradientTransformation  # of the parameters
  project: Callable[[PyTree], PyTree] = lambda params: params  # after each step


class Objective(NamedTuple):
  """A loss with what it learns itself."""

  init: Callable[[], PyTree]  # → its own parameters
  value: Callable[[PyTree, Array, Array], Array]  # (those, scores, labels [m, n]) → [m]


class Fit(NamedTuple):
  """How a fit ended."""

  params: PyTree  # after the last step
  solved: Array  # [] the largest share of queries with all relevant above all irrelevant documents
  steps: Array  # [] int32, taken
  loss: Array  # [] the least, a relevant document, in nats


def _adam(learning_rate: float) -> optax.GradientTransformation:
  return radam.radam(learning_rate, euclidean.manifold())


def _unit(x: Array) -> Array:
  """Rows over their norms, in fewer operations than `numerics.unit`, which minds 0 and overflow."""
  return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True))


def unit(dim: int, learning_rate: float, *, vectors: int = 1) -> Model:
  """Unit vectors by inner product, normalised after each step of Adam: the paper's model.

  Args:
    dim: d, the numbers of a document in all.
    learning_rate: of Adam.
    vectors: t; with more than one, a query and a document have t unit vectors of d/t numbers each,
      and score by `maxsim`.

  Raises:
    ValueError: t does not divide d.
  """
  if vectors < 1 or dim % vectors:
    raise ValueError(f"vectors must divide dim, got {vectors} and {dim}")
  unit = lambda params: jax.tree.map(_unit, params)

  def init(key: Key, m: int, n: int) -> tuple[Array, Array]:
    shape = (dim,) if vectors == 1 else (vectors, dim // vectors)
    keys = jax.random.split(key)
    return unit(tuple(jax.random.normal(k, (rows, *shape)) for k, rows in zip(keys, (m, n))))

  def score(params: tuple[Array, Array]) -> Array:
    q, x = params
    if vectors == 1:
      return numerics.dots(q, x)
    return jax.vmap(jax.vmap(maxsim.maxsim, (None, 0)), (0, None))(q, x)

  return Model(init, score, _adam(learning_rate), unit)


def on_manifold(
  m: Manifold,
  dim: int,
  learning_rate: float,
  *,
  scale: float = 1.0,
  score: Callable[[Array, Array], Array] | None = None,
) -> Model:
  """Points of a manifold by −distance, moved by Riemannian Adam.

  Args:
    m: the manifold.
    dim: its dimension.
    learning_rate: of Riemannian Adam, in the metric.
    scale: of the points at the start, see `m.random`.
    score: from queries [m, point] and documents [n, point] to [m, n], in the place of −distance.
  """

  def init(key: Key, queries: int, docs: int) -> tuple[Array, Array]:
    keys = jax.random.split(key)
    return tuple(m.random(k, (n,), dim, scale=scale) for k, n in zip(keys, (queries, docs)))

  near = score or (lambda q, x: -m.pairwise(q, x))
  project = lambda params: jax.tree.map(m.proj, params)
  return Model(init, lambda params: near(*params), radam.radam(learning_rate, m), project)


def boxes_of(dim: int, learning_rate: float, *, temperature: Scalar) -> Model:
  """Boxes of dim/2 sides by log P(query's box | document's box): a document is within its queries.

  Args:
    dim: d, the numbers of a document: two a side.
    learning_rate: of Adam.
    temperature: of the soft sides, `volume.log_soft_side`, where sides start near 1.

  Raises:
    ValueError: dim is odd.
  """
  if dim % 2:
    raise ValueError(f"dim must be even for boxes (two numbers a side), got {dim}")
  log_side = lambda side: volume.log_soft_side(side, temperature=temperature)

  def init(key: Key, m: int, n: int) -> tuple[Array, Array]:
    return tuple(
      jax.random.normal(k, (rows, dim)) for k, rows in zip(jax.random.split(key), (m, n))
    )

  def score(params: tuple[Array, Array]) -> Array:
    q, x = map(boxes.min_side, params)
    return volume.pairwise_log_containment(q, x, log_side=log_side)

  return Model(init, score, _adam(learning_rate))


def narrowed(model: Model, dim: Array) -> Model:
  """The model of the first `dim` ≤ d numbers of each vector: one program for every dim.

  The others start at 0, and stay there: neither gradients nor steps leave the subspace. This is so
  of `unit`, and of manifolds whose coordinate subspaces are geodesic, but not of boxes. Of several
  vectors in `unit`, `dim` counts the numbers of each.
  """

  def init(key: Key, m: int, n: int) -> PyTree:
    cut = lambda x: jnp.where(jnp.arange(x.shape[-1], dtype=jnp.int32) < dim, x, 0)
    return model.project(jax.tree.map(cut, model.init(key, m, n)))

  return model._replace(init=init)


def infonce(temperature: float) -> Objective:
  """`relevance.infonce` at a fixed temperature; the paper has 0.1."""
  loss = lambda _, s, y: relevance.infonce(s, y, temperature=temperature)
  return Objective(lambda: (), loss)


def sigmoid() -> Objective:
  """`relevance.sigmoid` with a learned scale exp t and bias, from 10 and −10."""
  init = lambda: (jnp.asarray(math.log(10.0), jnp.float32), jnp.asarray(-10.0, jnp.float32))
  loss = lambda p, s, y: relevance.sigmoid(s, y, scale=jnp.exp(p[0]), bias=p[1])
  return Objective(init, loss)


def hinge(temperature: float, margin: float = 0.0) -> Objective:
  """`relevance.top_k_hinge`, whose gradient goes to queries that are not right yet."""
  loss = lambda _, s, y: relevance.top_k_hinge(s, y, margin=margin, temperature=temperature)
  return Objective(lambda: (), loss)


def gap(scores: Array, labels: Array) -> Array:
  """Least relevant less greatest irrelevant score, [...]; inf where either kind is lacking.

  Above 0 the ranking is right; ties are wrong.

  Args:
    scores: [..., n].
    labels: [..., n] in {1, −1, 0}.
  """
  low = jnp.min(jnp.where(labels > 0, scores, jnp.inf), axis=-1)
  return low - jnp.max(jnp.where(labels < 0, scores, -jnp.inf), axis=-1)


def fit(
  key: Key,
  model: Model,
  objective: Objective,
  labels: Array,
  *,
  objective_tx: optax.GradientTransformation | None = None,
  steps: int = 100_000,
  every: int = 50,
  patience: int = 1000,
  min_delta: float = 1e-5,
) -> Fit:
  """Fits the model to labels, until a ranking is right or the loss stands still.

  One `while_loop` of blocks of `every` steps, for a caller to jit: the whole protocol is inside.
  The defaults are those of the paper's code.

  Args:
    key: of the start.
    model: what is fitted.
    objective: what is minimised: its sum over queries, over the number of relevant documents.
    labels: [m, n] in {1, −1, 0}.
    objective_tx: of the objective's own parameters; Adam at 0.01 by default.
    steps: at most, in whole blocks.
    every: steps between two looks at the ranking.
    patience: steps without a new least loss that end the fit.
    min_delta: what a loss has to be below the least so far by, to be a new one.
  """
  present = (labels != 0).any(axis=-1)
  positives = jnp.sum(labels > 0).astype(jnp.float32)
  tx, own_tx = model.tx, objective_tx or _adam(0.01)

  def loss_fn(params: PyTree, own: PyTree) -> Array:
    return jnp.sum(objective.value(own, model.score(params), labels)) / positives

  def step(carry: tuple, _: None) -> tuple[tuple, None]:
    params, state, own, own_state, best, stale = carry
    loss, (g, own_g) = jax.value_and_grad(loss_fn, argnums=(0, 1))(params, own)
    updates, state = tx.update(g, state, params)
    params = model.project(optax.apply_updates(params, updates))
    updates, own_state = own_tx.update(own_g, own_state, own)
    own = optax.apply_updates(own, updates)
    better = (loss < best - min_delta) & (stale < patience)  # once out of patience, for good
    best, stale = jnp.where(better, loss, best), jnp.where(better, 0, stale + 1)
    return (params, state, own, own_state, best, stale), None

  def block(carry: tuple) -> tuple:
    inner, count, most = carry
    inner, _ = jax.lax.scan(step, inner, None, length=every)
    ok = (gap(model.score(inner[0]), labels) > 0) & present
    share = jnp.sum(ok) / jnp.sum(present)  # float32, and exactly 1 if all are
    return inner, count + every, jnp.maximum(most, share)

  def going(carry: tuple) -> Array:
    inner, count, most = carry
    return (most < 1) & (count < steps) & (inner[-1] < patience)

  params, own = model.init(key, *labels.shape), objective.init()
  best, stale = jnp.asarray(jnp.inf, jnp.float32), jnp.zeros([], jnp.int32)
  inner = (params, tx.init(params), own, own_tx.init(own), best, stale)
  start = (inner, jnp.zeros([], jnp.int32), jnp.zeros([], jnp.float32))
  inner, count, most = jax.lax.while_loop(going, block, start)
  return Fit(inner[0], most, count, inner[-2])


def subsets(n: int, k: int) -> np.ndarray:
  """All k-subsets of n documents, [C(n, k), k] int32 ascending, by their largest element.

  So those of the first n′ documents come first, C(n′, k) of them.
  """
  every = np.array(list(itertools.combinations(range(n), k)), np.int32).reshape(-1, k)
  return every[np.lexsort(every.T)]


def labels_of(relevant: np.ndarray, n: int) -> np.ndarray:
  """Labels [m, n] int8 from the documents [m, k] that are relevant; ids below 0 are none."""
  labels = np.full((len(relevant), n), -1, np.int8)
  rows, columns = np.nonzero(relevant >= 0)
  labels[rows, relevant[rows, columns]] = 1
  return labels


def subset_labels(labels: Array, n: Array, m: Array) -> Array:
  """Labels with all but the first n documents and the first m queries absent."""
  rows, columns = (jnp.arange(size, dtype=jnp.int32) for size in labels.shape)
  return jnp.where((rows < m)[:, None] & (columns < n), labels, 0)


class Critical(NamedTuple):
  """Where fits begin to fail."""

  solved: int | None  # the largest n that was solved; None if none was
  failed: int | None  # the smallest n that was not; luck can put it below `solved`
  tried: dict[int, bool]  # n → whether it was solved


def critical(
  solves: Callable[[int], bool], start: int, *, least: int = 1, most: int | None = None
) -> Critical:
  """The largest n that is solved, as the paper's code seeks it.

  It gallops from `start` by 1, 2, 4, … until the outcome changes, bisects between, and then tries
  every n from 4 below to 5 above, as single fits may have luck. Each n is tried once.

  Args:
    solves: of an n.
    start: the first n.
    least: the smallest n worth trying.
    most: the largest, None for no end.
  """
  tried: dict[int, bool] = {}
  top = math.inf if most is None else most

  def ok(n: int) -> bool:
    if n not in tried:
      tried[n] = bool(solves(n))
    return tried[n]

  step, first = 1, min(max(start, least), top)
  if ok(first):
    low = first
    while low < top and ok(min(low + step, top)):
      low, step = min(low + step, top), 2 * step
    high = min(low + step, top + 1)
  else:
    high = first
    while high > least and not ok(max(high - step, least)):
      high, step = max(high - step, least), 2 * step
    low = max(high - step, least - 1)
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (middle, high) if ok(middle) else (low, middle)
  if low >= least:
    for n in range(max(least, low - 4), min(top, low + 5) + 1):
      ok(n)
  return Critical(
    max((n for n in tried if tried[n]), default=None),
    min((n for n in tried if not tried[n]), default=None),
    dict(sorted(tried.items())),
  )
