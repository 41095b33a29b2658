"""Accuracy of hyperbolic distances and gradients by radius, beside other libraries.

Run:         python launch.py --config=experiments/manifolds/accuracy.py:float32
Cost:        seconds on a CPU core; minutes with peers.
Departures:  errors are against 100-digit arithmetic on the rounded coordinates, so that they are
             the formulas' and not the chart's; rows named "pair" are against the distance before
             rounding, where the chart's own blur counts too. Gradients are judged by their length,
             which is 1. A cell holds the worst of `pairs` pairs.
             The goals are hyperbolix 1.4.0's measured errors, or lower ones where a plain formula
             is known to reach them; a value that is not finite counts as infinite.
Unspecified: peers run on ball and sheet where the extra "peers" is installed: geoopt, pymanopt,
             geomstats and, on Python 3.12 or newer, hyperbolix.
"""

import dataclasses
import functools
import importlib.util
import json
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from matplotlib import figure

from geoemb import harness, manifolds


@dataclasses.dataclass
class Config:
  """One grid."""

  dtype: str = "float32"  # or float64
  dim: int = 8  # of the hyperbolic space
  c: float = 1.0  # curvature −c
  radii: tuple[float, ...] = (0.01, 1, 2, 5, 8, 10, 12, 15, 20, 25, 30, 40)  # times √c
  separation: float = 0.1  # of near pairs, times √c; far ones have independent directions
  pairs: int = 12  # a cell
  peers: bool = True  # other libraries too, at c = 1, where they are installed
  seed: int = 0


# Other dimensions and curvatures, and closer pairs: the formulas are to be as good there.
_OTHER = {
  "d2": dict(dim=2), "d128": dict(dim=128), "flat": dict(c=1e-3), "curved": dict(c=1e3),
  "close": dict(separation=1e-4),
}  # fmt: skip
VARIANTS = {
  "float32": dict(),
  "float64": dict(dtype="float64"),
  **{f"float32_{name}": dict(fields, peers=False) for name, fields in _OTHER.items()},
  **{
    f"float64_{name}": dict(fields, dtype="float64", peers=False) for name, fields in _OTHER.items()
  },
  "smoke": dict(radii=(5, 10, 12, 15, 20, 30), pairs=2),
  "smoke_float64": dict(dtype="float64", radii=(20, 25, 30), pairs=2),
}
_CHARTS = ("poincare", "lorentz", "horospherical", "halfspace", "klein", "stereographic")

_BALLS = ("poincare", "stereographic")  # one ball

_goal = functools.partial(harness.Target, better="low", goal=True)
_UNROUNDED = "against the distance before rounding"

TARGETS = (
  *(
    _goal("Distance, relative error", variant, metric, goal)
    for variant, metric, goal in (
      ("float32", "poincare_near_5", 2e-6), ("float32", "poincare_near_10", 3e-4),
      ("float32", "poincare_near_12", 2e-3), ("float32", "poincare_near_15", 8e-2),
      ("float32", "poincare_far_12", 2e-4), ("float32", "poincare_far_15", 5e-3),
      ("float32", "lorentz_near_5", 2e-5), ("float32", "lorentz_near_10", 1e-3),
      ("float32", "lorentz_near_12", 2e-2), ("float32", "lorentz_near_15", 0.5),
      ("float64", "poincare_near_20", 1e-8), ("float64", "poincare_near_25", 2e-6),
      ("float64", "poincare_near_30", 5e-4), ("float64", "poincare_far_25", 8e-8),
      ("float64", "poincare_far_30", 1e-5),
    )
  ),
  *(
    _goal("Length of the gradient, error", variant, metric, goal)
    for variant, metric, goal in (
      ("float32", "poincare_near_12_slope", 2e-3), ("float32", "poincare_near_15_slope", 1e-1),
      ("float32", "poincare_far_15_slope", 1e-1), ("float64", "poincare_near_30_slope", 5e-4),
    )
  ),
  *(
    _goal("Any depth", "float32", f"horospherical_pair_{radius}", 1e-3, note=_UNROUNDED)
    for radius in (20, 30)
  ),
  _goal("Any depth", "float32", "horospherical_near_30_slope", 1e-4),
  *(
    _goal("All charts, relative error", variant, f"{chart}_near_{radius}")
    for chart in _CHARTS
    for variant, radius in (("float32", 5), ("float64", 5))
  ),
  *(
    _goal("Other dimensions, curvatures and separations", f"float32_{name}", metric, goal)
    for name in _OTHER
    for metric, goal in (
      ("poincare_near_5", 2e-6), ("poincare_near_12", 2e-3),
      ("lorentz_near_5", 1e-2 if name == "close" else 2e-5), ("horospherical_near_30", 1e-4),
    )
  ),
  *(
    _goal("Other dimensions, curvatures and separations", f"float64_{name}", metric, goal)
    for name in _OTHER
    for metric, goal in (("poincare_near_25", 2e-6), ("poincare_far_30", 1e-5))
  ),
)  # fmt: skip


def get_config(variant: str = "float32") -> Config:
  """One grid."""
  return Config(**VARIANTS[variant])


def run(config: Config, workdir: str) -> dict[str, float]:
  """Measures the grid; writes accuracy.json and pictures, and returns what TARGETS names."""
  if config.dtype not in ("float32", "float64"):
    raise ValueError(f"dtype must be float32 or float64, got {config.dtype!r}")
  if importlib.util.find_spec("mpmath") is None:
    raise harness.Abort("mpmath is not installed: python -m pip install -e '.[peers]'")
  grid = _Grid(config)
  libraries: dict[str, Callable] = {name: functools.partial(_ours, name) for name in _CHARTS}
  if config.peers and config.c == 1:
    libraries |= _peers()
  cells = {}
  os.makedirs(workdir, exist_ok=True)
  for name, library in libraries.items():
    try:
      cells[name] = grid.measure(name.split()[-1], library)
    except ImportError as e:  # installed, but not for what else is installed here
      logging.warning("%s is left out: %s", name, e)
      continue
    for what in ("near", "far", "pair", "near slope", "far slope"):
      values = " ".join(f"{_number(cells[name][what, r]):>7}" for r in config.radii)
      logging.info("%-22s %-10s %s", name, what, values)
  rows = {name: {f"{w} {r:g}": v for (w, r), v in cell.items()} for name, cell in cells.items()}
  with open(os.path.join(workdir, "accuracy.json"), "w", encoding="utf-8") as f:
    json.dump(rows, f, indent=1)
  _picture(config, cells, os.path.join(workdir, "accuracy"))
  ours = {
    "_".join([name, what.split()[0], f"{r:g}", *what.split()[1:]]): value
    for name in _CHARTS
    for (what, r), value in cells[name].items()
  }
  return {t.metric: ours[t.metric] for t in TARGETS if ours.get(t.metric) is not None}


def _number(x: float | None) -> str:
  return "–" if x is None else f"{x:.0e}"


class _Grid:
  """Pairs of points at every radius, near and far, with all their digits."""

  def __init__(self, config: Config):
    import mpmath as mp  # an extra

    self.mp, self.config = mp, config
    mp.mp.dps = 100
    self.c = mp.mpf(float(np.dtype(config.dtype).type(config.c)))  # as the dtype has it
    rng = np.random.default_rng(config.seed)
    self.pairs = {
      (kind, r): [self._pair(mp.mpf(r), kind, rng) for _ in range(config.pairs)]
      for r in config.radii
      for kind in ("near", "far")
    }

  def dot(self, x, y):
    return self.mp.fsum(a * b for a, b in zip(x, y))

  def _direction(self, rng):
    u = [self.mp.mpf(float(a)) for a in rng.standard_normal(self.config.dim)]
    return [a / self.mp.sqrt(self.dot(u, u)) for a in u]

  def _pair(self, r, kind, rng):
    """Two points of the unit hyperboloid by spatial coordinates, and their distance."""
    mp, u, w = self.mp, self._direction(rng), self._direction(rng)
    x = [mp.sinh(r) * a for a in u]
    if kind == "far":
      y = [mp.sinh(r) * a for a in w]
      return x, y, mp.acosh(mp.cosh(r) ** 2 - self.dot(x, y))
    d, along = mp.mpf(self.config.separation), self.dot(u, w)
    v = [b + along * (mp.cosh(r) - 1) * a for a, b in zip(u, w)]  # a unit tangent at x
    return x, [mp.cosh(d) * a + mp.sinh(d) * b for a, b in zip(x, v)], d

  def rounded(self, chart, x):
    """Coordinates of a point of the unit hyperboloid in the chart of curvature −c."""
    mp, number = self.mp, lambda a: np.dtype(self.config.dtype).type(float(a))
    root, t = mp.sqrt(self.c), mp.sqrt(1 + self.dot(x, x))
    if chart in _BALLS:
      return np.array([number(a / (1 + t) / root) for a in x])
    if chart == "lorentz":
      return np.array([number(a / root) for a in x])
    if chart == "klein":
      return np.array([number(a / t / root) for a in x])
    h = 1 / (t - x[0])
    rest, parts = [h * a for a in x[1:]], [number(mp.log(h))]
    if chart == "halfspace":
      return np.array([number(a) for a in (*rest, h)])
    for _ in range(3):
      parts += (part := [number(a) for a in rest])
      rest = [a - mp.mpf(float(b)) for a, b in zip(rest, part)]
    return np.array(parts)

  def exact(self, chart, x, y):
    """√c times the distance of rounded points; None outside of the chart."""
    mp, c = self.mp, self.c
    x, y = ([mp.mpf(float(a)) for a in z] for z in (x, y))
    delta = [a - b for a, b in zip(x, y)]
    if chart in _BALLS:
      alphas = [1 - c * self.dot(z, z) for z in (x, y)]
      if min(alphas) <= 0:
        return None
      return 2 * mp.asinh(mp.sqrt(c * self.dot(delta, delta) / (alphas[0] * alphas[1])))
    if chart == "lorentz":
      t_x, t_y = (mp.sqrt(1 / c + self.dot(z, z)) for z in (x, y))
      return 2 * mp.asinh(mp.sqrt(c * (self.dot(delta, delta) - (t_x - t_y) ** 2)) / 2)
    if chart == "klein":
      alphas = [1 - c * self.dot(z, z) for z in (x, y)]
      if min(alphas) <= 0:
        return None
      return mp.acosh((1 - c * self.dot(x, y)) / mp.sqrt(alphas[0] * alphas[1]))
    if chart == "halfspace":
      if min(x[-1], y[-1]) <= 0:
        return None
      return 2 * mp.asinh(mp.sqrt(self.dot(delta, delta) / (x[-1] * y[-1])) / 2)
    n = (len(x) - 1) // 3
    move = [mp.fsum(delta[1 + i :: n]) for i in range(n)]
    flat = self.dot(move, move) / mp.exp(x[0] + y[0])
    return 2 * mp.asinh(mp.sqrt(flat / 4 + mp.sinh(delta[0] / 2) ** 2))

  def length(self, chart, x, g):
    """Length of a gradient in coordinates."""
    mp, c = self.mp, self.c
    x, g = ([mp.mpf(float(a)) for a in z] for z in (x, g))
    if chart in _BALLS:
      return mp.sqrt(self.dot(g, g)) * (1 - c * self.dot(x, x)) / 2
    if chart == "lorentz":
      return mp.sqrt(self.dot(g, g) + c * self.dot(x, g) ** 2)
    if chart == "klein":
      across = self.dot(g, g) - c * self.dot(x, g) ** 2
      return mp.sqrt((1 - c * self.dot(x, x)) * across)
    if chart == "halfspace":
      return mp.sqrt(c * self.dot(g, g)) * x[-1]
    n = (len(x) - 1) // 3
    flat = g[1 : 1 + n]
    return mp.sqrt(c * (g[0] ** 2 + mp.exp(2 * x[0]) * self.dot(flat, flat)))

  def measure(self, chart, library):
    """{(what, radius): the worst error, or None where points fall out of the chart}."""
    mp, root, cells = self.mp, self.mp.sqrt(self.c), {}
    for (kind, r), pairs in self.pairs.items():
      x, y = (np.stack([self.rounded(chart, p[i]) for p in pairs]) for i in (0, 1))
      found = library(self.config, x, y)
      d, g = found if isinstance(found, tuple) else (found, None)
      value, before, slope = [], [], []
      for i, (_, _, unrounded) in enumerate(pairs):
        exact = self.exact(chart, x[i], y[i])
        if exact is None:
          value = None
          break
        finite = bool(np.isfinite(d[i]))
        error = lambda goal, i=i, finite=finite: (
          float(abs(mp.mpf(float(d[i])) * root / goal - 1)) if finite else np.inf
        )
        before.append(error(unrounded))
        if exact:  # close points may round to one
          value.append(error(exact))
          if g is not None:
            good = bool(np.all(np.isfinite(g[i])))
            slope.append(float(abs(self.length(chart, x[i], g[i]) - 1)) if good else np.inf)
      if value is None:
        cells |= {(kind, r): None, (f"{kind} slope", r): None}
        before = None
      else:
        cells |= {
          (kind, r): max(value, default=0.0),
          (f"{kind} slope", r): max(slope, default=None),
        }
      if kind == "near":
        cells["pair", r] = before and max(before)
    return cells


# A library: (config, x [n, ·], y [n, ·]) → distances [n], or these and their gradients by x.


def _ours(name: str, config: Config, x: np.ndarray, y: np.ndarray) -> tuple:
  with jax.enable_x64(config.dtype == "float64"):
    m = manifolds.make(name, jnp.asarray(config.c, config.dtype))
    return jax.tree.map(np.asarray, _values(m, x, y))


@jax.jit
def _values(m, x, y):
  return jax.vmap(jax.value_and_grad(m.dist))(x, y)


def _peers() -> dict[str, Callable]:
  """What is installed, by "library chart"."""
  known = {
    "geoopt poincare": functools.partial(_geoopt, "PoincareBall"),
    "geoopt lorentz": functools.partial(_geoopt, "Lorentz"),
    "pymanopt poincare": _pymanopt,
    "geomstats poincare": _geomstats,
    "hyperbolix poincare": functools.partial(_hyperbolix, "Poincare"),
    "hyperbolix lorentz": functools.partial(_hyperbolix, "Hyperboloid"),
  }
  return {name: f for name, f in known.items() if importlib.util.find_spec(name.split()[0])}


def _sheet(x: np.ndarray) -> np.ndarray:
  """Ambient coordinates at c = 1, as a library would round them."""
  t = np.sqrt(1 + np.sum(np.square(x, dtype=np.float64), axis=-1, keepdims=True))
  return np.concatenate([t.astype(x.dtype), x], axis=-1)


def _spatial(x: np.ndarray, g: np.ndarray) -> np.ndarray:
  """The gradient by spatial coordinates from an ambient one, whose time part moves with them."""
  x, g = x.astype(np.float64), g.astype(np.float64)
  return g[:, 1:] + g[:, :1] * x[:, 1:] / x[:, :1]


def _geoopt(kind: str, config: Config, x: np.ndarray, y: np.ndarray) -> tuple:
  import geoopt
  import torch

  m = getattr(geoopt, kind)()
  points = (x, y) if kind == "PoincareBall" else (_sheet(x), _sheet(y))
  a, b = (torch.tensor(z) for z in points)
  d = m.dist(a.requires_grad_(), b)
  d.sum().backward()
  g = a.grad.numpy()
  return d.detach().numpy(), g if kind == "PoincareBall" else _spatial(points[0], g)


def _pymanopt(config: Config, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  from pymanopt.manifolds import PoincareBall

  with np.errstate(all="ignore"):
    return np.array([PoincareBall(config.dim).dist(a, b) for a, b in zip(x, y)])


def _geomstats(config: Config, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  from geomstats.geometry.poincare_ball import PoincareBall

  with np.errstate(all="ignore"):
    return np.asarray(PoincareBall(config.dim).metric.dist(x, y))


def _hyperbolix(kind: str, config: Config, x: np.ndarray, y: np.ndarray) -> tuple:
  import hyperbolix.manifolds

  with jax.enable_x64(config.dtype == "float64"):
    m = getattr(hyperbolix.manifolds, kind)(dtype=jnp.dtype(config.dtype))
    points = (x, y) if kind == "Poincare" else (_sheet(x), _sheet(y))
    d, g = jax.jit(jax.vmap(jax.value_and_grad(lambda a, b: m.dist(a, b, c=1.0))))(*points)
  d, g = np.asarray(d), np.asarray(g)
  return d, g if kind == "Poincare" else _spatial(points[0], g)


def _picture(config: Config, cells: dict, stem: str) -> None:
  """Error against radius, near pairs: a line a library."""
  fig = figure.Figure(figsize=(10, 4.5), dpi=150, layout="constrained")
  titles = {"near": "distance, relative error", "near slope": "length of the gradient, error"}
  for ax, (what, title) in zip(fig.subplots(1, 2), titles.items()):
    for name, cell in cells.items():
      some = [(r, cell[what, r]) for r in config.radii if cell[what, r]]
      some = [(r, e) for r, e in some if np.isfinite(e)]
      style = dict(lw=2) if name in _CHARTS else dict(lw=1, ls="--")
      if some:
        ax.plot(*zip(*some), marker="o", ms=3, label=name, **style)
    ax.set(yscale="log", xlabel="√c · radius", title=title)
    ax.grid(alpha=0.3)
  fig.axes[0].legend(fontsize=8)
  fig.suptitle(f"Pairs {config.separation:g} apart, {config.dtype}, d = {config.dim}")
  for kind in ("png", "svg"):
    fig.savefig(f"{stem}.{kind}")
