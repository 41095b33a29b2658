"""A picture of an embedded hierarchy: the Poincaré disk, its edges drawn as geodesics.

    figure = disk.draw(m, table, names, edges, title="WordNet mammals", metrics=metrics)
    disk.save(figure, os.path.join(workdir, "disk"))  # disk.png and disk.svg

Hyperbolic tables of more than two dimensions are shown as they look from the origin: by direction,
along the two principal directions of log₀, at their true hyperbolic radius. Tables that are not
hyperbolic are plain scatter plots and say so.
"""

import os
import re
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib import cm, collections, colors, figure, patches, path
from matplotlib.backends import backend_agg

from geoemb.data import files
from geoemb.manifolds import base, halfspace, horospherical, klein, lorentz
from geoemb.typing import ArrayLike

_INK, _SOFT, _RIM, _PLANE = "#1d2b36", "#66757f", "#aab6be", "#f6f8f9"
_SHADES = ("#14213d", "#1f5f8b", "#2a9d8f", "#e9b44c", "#e76f51")  # general to specific
_MAX_EDGES = 5000
_MAX_VECTORS = 5000  # points; more become an image inside the SVG
_WORDNET = re.compile(r"\.[nvars]\.\d+$")
_MODELS = {  # charts shown in the Poincaré disk: what they are called, and their way to the sheet
  "halfspace": ("Upper half-space", halfspace.to_lorentz),
  "horospherical": ("Horospherical coordinates", horospherical.to_lorentz),
  "klein": ("Beltrami–Klein ball", klein.to_lorentz),
  "lorentz": ("Lorentz model", lambda x, c: x),
}
# Where a label may stand about its point: (x, y) in units of its size, best first.
_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


def draw(
  m: base.Manifold,
  table: ArrayLike,
  names: Sequence[str],
  edges: ArrayLike,
  *,
  title: str = "",
  metrics: Mapping[str, float] | None = None,
  labels: int | Sequence[str] = 36,
) -> figure.Figure:
  """An 8 × 8 inch picture of a table.

  Args:
    m: geometry of the table.
    table: [n, point] embedded nodes.
    names: what they are called; "tree_shrew.n.01" is labelled "tree shrew".
    edges: [e, 2] direct edges (u, v), "u is a v". Of more than 5,000 the most general are drawn.
    title: the first line above the picture.
    metrics: shown below the title.
    labels: the names to label, or how many: the most general ones, as far as there is room.
  """
  edges = np.asarray(edges).reshape(-1, 2)
  edges = edges[edges[:, 0] != edges[:, 1]]
  points, caption, curved = view(m, table)
  below, depth = _below(edges, len(points)), _depth(edges, len(points))
  weight = np.log1p(below) / max(1.0, np.log1p(below).max(initial=0))  # 0 for leaves, 1 at the top
  shades = cm.ScalarMappable(
    colors.Normalize(0, max(1, np.ceil(np.quantile(depth, 0.98)))),
    colors.LinearSegmentedColormap.from_list("depth", _SHADES),
  )

  fig = figure.Figure(figsize=(8, 8), dpi=200, facecolor="white")
  backend_agg.FigureCanvasAgg(fig)
  ax = fig.add_axes((0.04, 0.01, 0.92, 0.92), aspect="equal", frame_on=False, xticks=[], yticks=[])
  if curved:
    ax.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02))
    ax.add_patch(patches.Circle((0, 0), 1, facecolor=_PLANE, edgecolor=_RIM, lw=1.2, zorder=0))
  else:
    center = (points.max(axis=0) + points.min(axis=0)) / 2
    half = 0.54 * max(np.ptp(points, axis=0).max(), 1e-12)
    ax.set(xlim=(center[0] - half, center[0] + half), ylim=(center[1] - half, center[1] + half))
  _draw_edges(ax, points, edges, weight, depth, shades, curved)
  _draw_points(ax, points, weight, depth, shades)
  _draw_legend(fig, shades, depth)
  numbers = "    ".join(f"{_metric(k)} {v:.4g}" for k, v in (metrics or {}).items())
  _text(fig, 0.04, 0.965, title, fontsize=15, weight="bold")
  _text(fig, 0.96, 0.966, numbers, fontsize=11, ha="right")
  _text(fig, 0.04, 0.944, caption, fontsize=9, color=_SOFT)
  if isinstance(labels, int):
    wanted, room = np.lexsort((depth, -below)), labels
  else:
    ids = {name: i for i, name in enumerate(names)}
    wanted, room = np.array([ids[name] for name in labels], int), len(labels)
  _draw_labels(fig, ax, points, names, wanted[: 8 * room], room, weight)
  return fig


def save(fig: figure.Figure, stem: str | os.PathLike) -> None:
  """Writes stem.png and stem.svg; the SVG keeps its text and is the same file every time."""
  plain = {"svg.hashsalt": "geoemb", "svg.fonttype": "none"}
  with matplotlib.rc_context(plain):
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
      files.replace(
        f"{os.fspath(stem)}.{kind}",
        lambda file: fig.savefig(file, format=kind, metadata=metadata),
      )


def view(m: base.Manifold, table: ArrayLike) -> tuple[np.ndarray, str, bool]:
  """(points [n, 2], a caption, whether they lie in the unit disk): a table in two dimensions."""
  x = np.asarray(table, np.float64)
  if not np.isfinite(x).all():
    raise ValueError("a table must be finite to be drawn")
  dim = x.shape[-1]
  name = "poincare" if m.name == "stereographic" and float(m.c) > 0 else m.name
  if name != "poincare" and name not in _MODELS:
    points = np.pad(x, ((0, 0), (0, max(0, 2 - dim))))
    if dim > 2:
      points = (x - x.mean(axis=0)) @ _principal(x - x.mean(axis=0))
    what = {"euclidean": "Euclidean"}.get(name, name.capitalize())
    first_two = f", first two principal components of {dim} coordinates"
    return points, what + (" plane" if dim <= 2 else first_two), False
  with jax.enable_x64(True):
    if m.name in _MODELS:
      sheet = _MODELS[m.name][1](jnp.asarray(x), c=float(m.c))
      x = np.array(lorentz.to_poincare(sheet, c=float(m.c)))
      dim = x.shape[-1]
  ball = x * float(m.c) ** 0.5
  radius = np.minimum(np.linalg.norm(ball, axis=-1, keepdims=True), 1 - 1e-12)
  caption = f"{_MODELS[m.name][0]}, in the " if m.name in _MODELS else ""
  caption += "Poincaré disk"
  if float(m.c) != 1:
    caption += f", curvature −{float(m.c):g}"
  if dim <= 2:
    return np.pad(ball, ((0, 0), (0, 2 - dim))), caption, True
  log = np.arctanh(radius) * ball / np.maximum(radius, 1e-300)
  flat = log @ _principal(log)
  flat /= np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-300)
  caption += f": a view of {dim} dimensions; direction by two principal axes, true radius"
  return flat * radius, caption, True


def geodesics(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Geodesics of the unit disk from a to b [e, 2] as two cubic Bézier curves each, [e, 7, 2].

  The circle through a and b that is perpendicular to the rim has its center z where
  2 a·z = 1 + ‖a‖² and 2 b·z = 1 + ‖b‖². Arcs flatter than a pixel are straight.
  """
  det = 2 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
  straight = np.abs(det) < 1e-3
  det = np.where(straight, 1, det)[:, None]
  aa, bb = (1 + np.sum(x * x, axis=1, keepdims=True) for x in (a, b))
  turn = lambda x: np.stack([-x[:, 1], x[:, 0]], axis=1)
  z = (bb * turn(a) - aa * turn(b)) / det
  r = np.linalg.norm(a - z, axis=1)
  start, end = (np.arctan2(*(x - z).T[::-1]) for x in (a, b))
  sweep = (end - start + np.pi) % (2 * np.pi) - np.pi
  angle = start[:, None] + sweep[:, None] * np.array([0, 0.5, 1])
  on = z[:, None] + r[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  reach = (4 / 3 * np.tan(sweep / 8) * r)[:, None, None]
  along = reach * np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
  p, q, s = (on[:, i] for i in range(3))
  u, v, w = (along[:, i] for i in range(3))
  curves = np.stack([p, p + u, q - v, q, q + v, s - w, s], axis=1)
  line = a[:, None] + (b - a)[:, None] * np.linspace(0, 1, 7)[:, None]
  return np.where(straight[:, None, None], line, curves)


def _principal(x):
  """The two directions along which x [n, d] is longest, [d, 2]; the sign is a convention."""
  axes = np.linalg.eigh(x.T @ x)[1][:, :-3:-1]
  top = np.abs(axes).argmax(axis=0)
  return axes * np.sign(axes[top, np.arange(2)])


def _below(edges, n):
  """Paths that end in each node, at most 100 long, [n]: the number of its descendants in a tree."""
  total, paths = np.zeros(n), np.ones(n)
  for _ in range(100):
    paths = np.bincount(edges[:, 1], weights=paths[edges[:, 0]], minlength=n)
    if not paths.any():
      break
    total += paths
  return total


def _depth(edges, n):
  """Edges from the nearest root, [n]; 0 where no root is above."""
  depth = np.full(n, np.inf)
  depth[np.setdiff1d(np.arange(n), edges[:, 0])] = 0
  for _ in range(1000):
    before = depth.copy()
    np.minimum.at(depth, edges[:, 0], depth[edges[:, 1]] + 1)
    if np.array_equal(depth, before):
      break
  return np.where(np.isfinite(depth), depth, 0)


def _draw_edges(ax, points, edges, weight, depth, shades, curved):
  u, v = edges.T
  if len(edges) > _MAX_EDGES:
    chosen = np.sort(np.argsort(-weight[u], kind="stable")[:_MAX_EDGES])
    u, v = u[chosen], v[chosen]
  if curved:
    curves, codes = geodesics(points[u], points[v]), [path.Path.MOVETO] + [path.Path.CURVE4] * 6
  else:
    curves, codes = points[np.stack([u, v], axis=1)], [path.Path.MOVETO, path.Path.LINETO]
  thin = 0.35 if len(u) > 2000 else 0.55
  ax.add_collection(
    collections.PathCollection(
      [path.Path(curve, codes) for curve in curves],
      facecolors="none",
      edgecolors=np.c_[shades.to_rgba(depth[u])[:, :3], 0.35 + 0.3 * weight[u]],
      linewidths=thin + 1.1 * weight[u] ** 2,
      zorder=1,
    )
  )


def _draw_points(ax, points, weight, depth, shades):
  order = np.argsort(weight, kind="stable")  # general ones on top
  many = len(points) > _MAX_VECTORS
  ax.scatter(
    *points[order].T,
    s=_area(weight[order], least=0.6 if many else 5),
    c=shades.to_rgba(depth[order]),
    linewidths=0 if many else 0.3,
    edgecolors="white",
    zorder=2,
    rasterized=many,
  )


def _area(weight, least=5):
  """Size of points, in squares of 1/72 inch."""
  return least + 75 * weight**3


def _draw_legend(fig, shades, depth):
  cax = fig.add_axes((0.79, 0.035, 0.17, 0.012))
  bar = fig.colorbar(shades, cax=cax, orientation="horizontal")
  bar.outline.set_visible(False)
  top = int(shades.norm.vmax)
  cax.set_xticks([0, top], ["0", f"{top}+" if depth.max(initial=0) > top else f"{top}"])
  cax.tick_params(length=0, pad=2, labelsize=8, labelcolor=_SOFT)
  _text(fig, 0.96, 0.053, "depth (edges from the root)", fontsize=8, color=_SOFT, ha="right")


def _draw_labels(fig, ax, points, names, wanted, room, weight):
  """Labels in the order wanted, each where it covers no other, or not at all."""
  renderer = fig.canvas.get_renderer()
  places = ax.transData.transform(points)
  frame = ax.get_window_extent(renderer)
  scale = fig.dpi / 72
  # Boxes [left, bottom, right, top] that a label leaves free, in pixels: first the larger points.
  big = wanted[weight[wanted] > 0.4]
  radius = scale * np.sqrt(_area(weight[big]))[:, None] / 2
  taken, placed = np.concatenate([places[big] - radius, places[big] + radius], axis=1), 0
  for i in wanted:
    if placed == room:
      break
    name = _WORDNET.sub("", names[i]).replace("_", " ")
    label = ax.annotate(
      name if len(name) <= 40 else name[:39] + "…",
      points[i],
      xytext=(0, 0),
      textcoords="offset points",
      ha="center",
      va="center",
      fontsize=7.5 + 4 * weight[i] ** 2,
      color=_INK,
      parse_math=False,
      bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
      zorder=3,
    )
    size = label.get_window_extent(renderer)
    half = np.array([size.width / 2 + 3 * scale, size.height / 2 + scale])
    gap = scale * (2 + 4 * weight[i] ** 1.5)
    for side in np.array(_SIDES):
      offset = side * (half + gap * np.abs(side) / np.linalg.norm(side))
      box = np.concatenate([places[i] + offset - half, places[i] + offset + half])
      inside = box[0] > frame.x0 and box[1] > frame.y0 and box[2] < frame.x1 and box[3] < frame.y1
      apart = (
        (taken[:, 0] > box[2])
        | (taken[:, 2] < box[0])
        | (taken[:, 1] > box[3])
        | (taken[:, 3] < box[1])
      )
      if inside and apart.all():
        label.set_position(offset / scale)
        taken, placed = np.concatenate([taken, box[None]]), placed + 1
        break
    else:
      label.remove()


def _metric(key):
  return re.sub(r"\bmap\b", "MAP", key.replace("_", " "))


def _text(fig, x, y, s, **style):
  if s:
    fig.text(x, y, s, parse_math=False, **{"color": _INK, **style})
