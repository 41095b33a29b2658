"""Test cases of geomstats' metrics, run on our manifolds: laws, and agreement with its own metrics.

Run:         python launch.py --config=experiments/manifolds/geomstats_laws.py:sphere
Cost:        a minute a manifold on a CPU core; needs the extra "peers".
Departures:  our manifold stands as the metric of geomstats' space, which itself decides what is a
             point or a tangent. Laws are the cases of geomstats' RiemannianMetricTestCase that take
             random data, and its checks that batches broadcast; agreement is that with geomstats'
             own metric, by RiemannianMetricComparisonTestCase. A case is a test with one choice of
             sizes, and has one trial, where geomstats gives three.
             Points are in geomstats' coordinates: the hyperboloid with its time, planes as
             projectors, whose metric there is twice ours.
             Left out are cases that ask for curvature tensors, Christoffel symbols or the matrix of
             the metric, which we do not have; what the two define otherwise, the injectivity
             radii of rotations and planes; and what geomstats does not implement itself. Each is
             logged with its reason, and cases.json in the run's folder has them all.
Unspecified: geomstats' tolerance, which differs from test to test; ours is `atol` for all.
"""

import collections
import dataclasses
import functools
import importlib.util
import inspect
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from geoemb import harness, manifolds
from geoemb.typing import Array

_NAMES = (
  "euclidean", "sphere", "poincare", "lorentz", "halfspace",
  "spd", "log_euclidean", "so", "stiefel", "grassmann",
)  # fmt: skip


_SUITES = ("laws", "agreement")


@dataclasses.dataclass
class Config:
  """One manifold."""

  manifold: str = "sphere"
  geomstats: bool = True  # else two laws of ours stand for each of its suites
  radius: float = 0.7  # of points around the origin, and of tangents
  atol: float = 1e-8  # in float64
  seed: int = 0


VARIANTS = {**{name: dict(manifold=name) for name in _NAMES}, "smoke": dict(geomstats=False)}
_goal = functools.partial(harness.Target, goal=True, better="low")
TARGETS = tuple(
  target
  for suite, title in (
    ("laws", "Laws, cases"), ("agreement", "Agreement with geomstats' own metrics, cases")
  )
  for name in _NAMES
  for target in (
    _goal(title, name, f"{suite}_failed", 0),
    _goal(title, name, f"{suite}_passed"),
    _goal(title, name, f"{suite}_left_out", note="we or geomstats do not have what they ask for"),
  )
)  # fmt: skip

# Of a test's name, the part that tells that it asks for something we do not have.
_LACKING = {
  "christoffels": "Christoffel symbols",
  "geodesic_equation": "Christoffel symbols",
  "riemann_tensor": "curvature tensors",
  "ricci_tensor": "curvature tensors",
  "curvature": "curvature tensors",
  "metric_matrix": "the matrix of the metric",
  "inner_product_derivative_matrix": "the matrix of the metric",
  "inner_coproduct": "the matrix of the metric",
}
# What we define otherwise, by manifold.
_DIFFERENT = {
  "grassmann": {"injectivity_radius": "geomstats has π/2, which its metric makes π/√2"},
  "so": {"injectivity_radius": "geomstats has √3 π, but geodesics are shortest up to π alone"},
}
_SIZES = {"n_points": (1, 3), "n_times": (1, 4), "n_reps": (2,)}
_BROADCAST = (
  "exp", "log", "dist", "squared_dist", "inner_product", "norm", "squared_norm", "normalize",
)  # fmt: skip


def get_config(variant: str = "sphere") -> Config:
  """One manifold."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Runs both suites; writes cases.json, and returns the counts."""
  if config.manifold not in _NAMES:
    raise ValueError(f"manifold must be one of {', '.join(_NAMES)}, got {config.manifold!r}")
  if config.geomstats and importlib.util.find_spec("geomstats") is None:
    raise harness.Abort("geomstats is not installed: python -m pip install -e '.[peers]'")
  metrics, found = {}, {}
  for suite in _SUITES:
    with jax.enable_x64(True):
      found[suite] = dict(_outcomes(config, suite))
    cases = collections.defaultdict(list)
    for case, outcome in found[suite].items():
      cases[outcome].append(case)
    for outcome, some in cases.items():
      listed = "" if outcome == "passed" else f": {', '.join(some)}"
      logging.info("%s, %d %s%s", suite, len(some), outcome, listed)
    for what in ("failed", "passed", "left out"):
      count = sum(len(some) for outcome, some in cases.items() if outcome.startswith(what))
      metrics[f"{suite}_{what.replace(' ', '_')}"] = count
  os.makedirs(workdir, exist_ok=True)
  with open(os.path.join(workdir, "cases.json"), "w", encoding="utf-8") as f:
    json.dump(found, f, indent=1)
  return metrics


def _outcomes(config: Config, suite: str) -> Iterator[tuple[str, str]]:
  """Every case of a suite with what came of it: passed, "failed: …" or "left out: …"."""
  for test, parameters, call in _tests(_suite(config, suite)):
    for sizes in itertools.product(*(_SIZES[p] for p in parameters)):
      arguments = dict(zip(parameters, sizes))
      case = " ".join([test, *(f"{p}={n}" for p, n in arguments.items())])
      outcome = _outcome(config.manifold, suite, test, functools.partial(call, **arguments))
      yield case, outcome


def _outcome(name: str, suite: str, test: str, call: Callable[[], None]) -> str:
  if lacking := [why for part, why in _LACKING.items() if part in test]:
    return f"left out: we do not have {lacking[0]}"
  if suite == "agreement":
    for part, why in _DIFFERENT.get(name, {}).items():
      if part in test:
        return f"left out: {why}"
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      call()
  except NotImplementedError:
    return "left out: geomstats does not implement it"
  except Exception as e:  # a case that cannot run has failed
    said = " ".join(str(e).split()) or type(e).__name__
    return f"failed: {said[:200]}"
  return "passed"


def _tests(suite: Any) -> Iterator[tuple[str, list[str], Callable]]:
  """Tests that take sizes alone, with the names of these."""
  atol = suite.atol
  for name in sorted(n for n in dir(suite) if n.startswith("test_")):
    test = getattr(suite, name)
    parameters = [p for p in inspect.signature(test).parameters if p != "atol"]
    if set(parameters) <= set(_SIZES):
      yield name.removeprefix("test_"), parameters, functools.partial(test, atol=atol)
  if suite.broadcasts:
    from geomstats.test import vectorization

    for name in _BROADCAST:
      test = getattr(suite, f"test_{name}")
      call = functools.partial(vectorization.test_vectorization, suite, test, atol=atol)
      yield f"{name}_vec", ["n_reps"], call


def _suite(config: Config, suite: str) -> Any:
  """The suite's test case, of geomstats or our twin, with its space and data."""
  name = config.manifold
  chart = _charts()[name]
  fields = dict(data_generator=_Data(config, chart), atol=config.atol, broadcasts=False)
  if not config.geomstats:
    case = type("Suite", (_Twin,), fields)()
    case.metric = _metric_class(object)(chart=chart)
    return case
  from geomstats.geometry.riemannian_metric import RiemannianMetric
  from geomstats.test_cases.geometry import riemannian_metric as cases

  metric = _metric_class(RiemannianMetric)
  space = _space(name, equip=False)
  space.equip_with_metric(metric, chart=chart)
  fields |= dict(space=space)
  if suite == "laws":
    case = type("Suite", (cases.RiemannianMetricTestCase,), fields | dict(broadcasts=True))()
  else:
    fields |= dict(other_space=_space(name, equip=True))
    case = type("Suite", (cases.RiemannianMetricComparisonTestCase,), fields)()
  case.setup_method()
  return case


class _Chart(NamedTuple):
  """One of our manifolds in the coordinates of geomstats."""

  m: manifolds.Manifold
  dim: Any  # of m.origin
  factor: float = 1.0  # their metric over ours
  # (point) or (point, tangent) → the same in the other's coordinates
  give: Callable = lambda x, *v: (x, *v)
  take: Callable = lambda x, *v: (x, *v)


def _charts() -> dict[str, _Chart]:
  make = manifolds.make
  charts = {name: _Chart(make(name), 3) for name in ("euclidean", "sphere", "poincare")}
  charts["lorentz"] = _Chart(make("lorentz"), 3, 1.0, _ambient, _spatial)
  charts["halfspace"] = _Chart(make("halfspace"), 3)
  charts |= {name: _Chart(make(name), 3) for name in ("spd", "log_euclidean")}
  charts["so"] = _Chart(make("so"), 3)
  charts["stiefel"] = _Chart(make("stiefel"), (5, 2))
  charts["grassmann"] = _Chart(make("grassmann"), (5, 2), 2.0, _projector, _frame)
  return charts


def _space(name: str, equip: bool) -> Any:
  """Geomstats' space of that name, with its own metric if `equip`."""
  from geomstats.geometry import (
    euclidean,
    grassmannian,
    hyperboloid,
    hypersphere,
    poincare_ball,
    poincare_half_space,
    spd_matrices,
    special_orthogonal,
    stiefel,
  )

  space = {
    "euclidean": lambda: euclidean.Euclidean(3, equip=equip),
    "sphere": lambda: hypersphere.Hypersphere(3, equip=equip),
    "poincare": lambda: poincare_ball.PoincareBall(3, equip=equip),
    "lorentz": lambda: hyperboloid.Hyperboloid(3, equip=equip),
    "halfspace": lambda: poincare_half_space.PoincareHalfSpace(3, equip=equip),
    "spd": lambda: spd_matrices.SPDMatrices(3, equip=equip),
    "log_euclidean": lambda: spd_matrices.SPDMatrices(3, equip=False),
    "so": lambda: special_orthogonal.SpecialOrthogonal(3, equip=equip),
    "stiefel": lambda: stiefel.Stiefel(5, 2, equip=equip),
    "grassmann": lambda: grassmannian.Grassmannian(5, 2, equip=equip),
  }[name]()
  if name == "log_euclidean" and equip:
    space.equip_with_metric(spd_matrices.SPDLogEuclideanMetric)
  return space


def _ambient(x: np.ndarray, *v: np.ndarray) -> tuple:
  """Points and tangents with their time first."""
  t = np.sqrt(1 + np.sum(x * x, axis=-1, keepdims=True))
  times = [t, *(np.sum(x * u, axis=-1, keepdims=True) / t for u in v)]
  return tuple(np.concatenate(pair, axis=-1) for pair in zip(times, (x, *v)))


def _spatial(x: np.ndarray, *v: np.ndarray) -> tuple:
  return tuple(z[..., 1:] for z in (x, *v))


def _projector(x: np.ndarray, *v: np.ndarray) -> tuple:
  """The projector x xᵀ of a frame, and v xᵀ + x vᵀ."""
  t = lambda a: np.swapaxes(a, -1, -2)
  return (x @ t(x), *(u @ t(x) + x @ t(u) for u in v))


def _frame(x: np.ndarray, *v: np.ndarray) -> tuple:
  """A frame of the projector's plane: which one does not matter once it is a projector again."""
  frame = np.linalg.eigh(x)[1][..., -2:]
  return (frame, *(u @ frame for u in v))


@functools.partial(jax.jit, static_argnames="method")
def _jitted(m: manifolds.Manifold, method: str, *args: Array) -> Array:
  return getattr(m, method)(*args)


def _call(m: manifolds.Manifold, method: str, *args: np.ndarray) -> np.ndarray:
  return np.asarray(_jitted(m, method, *(jnp.asarray(a, jnp.float64) for a in args)))


def _metric_class(base: type) -> type:
  """A metric as geomstats has them, above its base class, or above object."""

  class Metric(base):
    """The metric of one of our manifolds; what is not here is the base class's, built on this."""

    def __init__(self, *space: Any, chart: _Chart):
      super().__init__(*space)
      self.chart, self.root = chart, np.sqrt(chart.factor)

    def inner_product(self, tangent_vec_a, tangent_vec_b, base_point=None):
      """⟨a, b⟩."""
      x, a, b = self.chart.take(base_point, tangent_vec_a, tangent_vec_b)
      return self.chart.factor * _call(self.chart.m, "inner", x, a, b)

    def norm(self, vector, base_point=None):
      """‖v‖, not by way of `inner_product`."""
      return self.root * _call(self.chart.m, "norm", *self.chart.take(base_point, vector))

    def exp(self, tangent_vec, base_point):
      """End of the geodesic."""
      y = _call(self.chart.m, "exp", *self.chart.take(base_point, tangent_vec))
      return self.chart.give(y)[0]

    def log(self, point, base_point):
      """Velocity of the geodesic."""
      (x,), (y,) = self.chart.take(base_point), self.chart.take(point)
      v = _call(self.chart.m, "log", x, y)
      return self.chart.give(x, v)[1]

    def dist(self, point_a, point_b):
      """Distance, not by way of `log`."""
      (x,), (y,) = self.chart.take(point_a), self.chart.take(point_b)
      return self.root * _call(self.chart.m, "dist", x, y)

    def squared_dist(self, point_a, point_b):
      """Its square, not by way of `dist`."""
      (x,), (y,) = self.chart.take(point_a), self.chart.take(point_b)
      return self.chart.factor * _call(self.chart.m, "sqdist", x, y)

    def parallel_transport(self, tangent_vec, base_point, direction=None, end_point=None):
      """Transport to the end point, or to where `direction` leads."""
      end_point = self.exp(direction, base_point) if end_point is None else end_point
      (x, v), (y,) = self.chart.take(base_point, tangent_vec), self.chart.take(end_point)
      return self.chart.give(y, _call(self.chart.m, "transport", x, y, v))[1]

    def injectivity_radius(self, base_point=None):
      """One number, which is the same everywhere."""
      shape = np.shape(base_point)[: np.ndim(base_point) - self.chart.m.point_ndim]
      return np.full(shape, self.root * float(self.chart.m.injectivity_radius))[()]

  return Metric


class _Data:
  """Random points near the origin, so that two of them have one geodesic, and short tangents."""

  def __init__(self, config: Config, chart: _Chart):
    self.chart, self.radius = chart, config.radius
    self.rng = np.random.default_rng(config.seed)

  def random_point(self, n_points: int = 1) -> np.ndarray:
    """[*point], or [n, *point] for more than one."""
    shape = (n_points,) if n_points > 1 else ()
    x = np.asarray(self.chart.m.origin(shape, self.chart.dim, jnp.float64))
    return self.chart.give(_call(self.chart.m, "exp", x, self._tangent(x)))[0]

  def random_tangent_vec(self, base_point: np.ndarray) -> np.ndarray:
    """A tangent of random length at every point."""
    (x,) = self.chart.take(base_point)
    return self.chart.give(x, self._tangent(x))[1]

  def _tangent(self, x: np.ndarray) -> np.ndarray:
    m = self.chart.m
    v = self.rng.standard_normal(x.shape)
    v = _call(m, "tangent", x, (v + np.swapaxes(v, -1, -2)) / 2 if "spd" in m.name else v)
    length = self.radius * self.rng.uniform(0.2, 1, x.shape[: x.ndim - m.point_ndim])
    scale = np.asarray(length / _call(m, "norm", x, v))
    return v * scale[(..., *[None] * m.point_ndim)]


class _Twin:
  """Two laws, with the signatures of geomstats' test cases."""

  metric: Any

  def test_dist_is_symmetric(self, n_points: int, atol: float) -> None:
    """d(x, y) = d(y, x)."""
    x, y = (self.data_generator.random_point(n_points) for _ in range(2))
    np.testing.assert_allclose(self.metric.dist(x, y), self.metric.dist(y, x), atol=atol)

  def test_log_after_exp(self, n_points: int, atol: float) -> None:
    """log_x(exp_x(v)) = v."""
    x = self.data_generator.random_point(n_points)
    v = self.data_generator.random_tangent_vec(x)
    np.testing.assert_allclose(self.metric.log(self.metric.exp(v, x), x), v, atol=atol)
