"""A first placement of a hierarchy in hyperbolic space: every node over a cap of the sphere.

In curvature −1, a point at radius r is nearer than the origin to those far points that lie within
an angle θ ≈ 2e^(−r/2) of it, its cap, and to no others. A hierarchy whose every node's cap holds
the node's descendants, and no one else, is therefore ranked as it should be: nearest to a node are
its ancestors. Caps of children are packed into that of their parent as [sala2018tradeoffs] §3 packs
them on a sphere, from [sarkar2011delaunay]; there a child stands at a distance of its parent, here
its radius follows from its cap. Nodes with several parents make the tree a graph: who has
descendants outside of its cap gets another, that reaches them.
"""

from typing import NamedTuple

import numpy as np

_DENSITY = 0.5  # share of a cap that its children's caps fill
_WIDEST = 0.6  # of a child's cap, in its parent's
_CANDIDATES = 32  # places tried for each child
_MET = 256  # siblings that a place is compared with, the largest; the rest are placed at once
_REACH = 0.5  # of the angle to the farthest descendant; training corrects the rest, see `place`
_LARGEST = 1.9  # radians; a cap of 2 belongs to the origin
_LEAST = 1e-150  # where a very deep hierarchy's caps underflow; a radius of 690
_PART = 1 << 22  # numbers of a temporary array: 32 MB


class Polar(NamedTuple):
  """Points by direction and distance from the origin, at curvature −1."""

  direction: np.ndarray  # [n, d] float64, of length 1
  radius: np.ndarray  # [n] float64, 0 for the only root


def place(edges: np.ndarray, n: int, dim: int, *, seed: int = 0) -> Polar:
  """Directions and radii for the n nodes of a closed hierarchy.

  A node is put into the cap of the most special of its ancestors, and the caps' sizes go by the
  number of nodes below. A node with descendants elsewhere then moves over the mean of those that
  have none themselves, with a cap of half the angle to the farthest: a wider one would take in many
  more nodes that are not its descendants.

  Args:
    edges: [m, 2] int, (u, v) for every ancestor v of u. Others do no harm, but mean less.
    n: number of nodes.
    dim: d, at least 2.
    seed: of the random places that are tried.

  Raises:
    ValueError: dim < 2.
  """
  if dim < 2:
    raise ValueError(f"caps need at least 2 dimensions, got {dim}")
  rng = np.random.default_rng(seed)
  parent = _tree(edges, n)
  levels = _levels(parent)
  volume = _volumes(parent, levels)
  direction, theta = np.zeros((n, dim)), np.full(n, _LARGEST)
  direction[:, 0] = 1
  top = int(len(levels[0]) == 1)  # a single root stays at the origin; several share the sphere
  for depth, nodes in enumerate(levels[top:]):
    _pack(nodes, volume, parent if depth else None, direction, theta, rng)
  _cover(edges, n, direction, theta)
  radius = 2 * np.log(2 / np.clip(theta, _LEAST, _LARGEST))
  if top:
    radius[levels[0]] = 0
  return Polar(direction, radius)


def _tree(edges: np.ndarray, n: int) -> np.ndarray:
  """The most special target of each node, [n]; −1 for roots.

  An ancestor has fewer ancestors than its descendant. Where that is not so, the edges are not
  closed, or have a cycle, and such a target is not taken: what results is a forest in any case.
  """
  count = np.bincount(edges[:, 0], minlength=n)
  up = edges[count[edges[:, 1]] < count[edges[:, 0]]].astype(np.int64)
  up = up[np.lexsort((up[:, 1], -count[up[:, 1]], up[:, 0]))]
  first = np.r_[True, up[1:, 0] != up[:-1, 0]][: len(up)]
  parent = np.full(n, -1, np.int64)
  parent[up[first, 0]] = up[first, 1]
  return parent


def _levels(parent: np.ndarray) -> list[np.ndarray]:
  """Nodes by their depth in the forest, roots first."""
  depth, above = np.zeros(len(parent), np.int64), parent
  while np.any(above >= 0):
    depth += above >= 0
    above = np.where(above >= 0, parent[above], -1)
  order = np.argsort(depth, kind="stable")
  return np.split(order, np.cumsum(np.bincount(depth))[:-1])


def _volumes(parent: np.ndarray, levels: list[np.ndarray]) -> np.ndarray:
  """Size of the cap that a node needs, [n], in caps of a leaf."""
  volume = np.ones(len(parent))
  for nodes in levels[:0:-1]:
    np.add.at(volume, parent[nodes], volume[nodes] / _DENSITY)
    np.minimum(volume, 1e200, out=volume)  # of deep chains; sums and shares stay finite
  return volume


def _pack(nodes, volume, parent, direction, theta, rng):
  """Places siblings, the largest first: each where it is farthest from those that stand already.

  Args:
    nodes: [k] of one level.
    volume: [n].
    parent: [n], whose caps they share; None where they are siblings on the whole sphere.
    direction: [n, d], where the nodes' are written.
    theta: [n], where the nodes' are written.
    rng: source of the places.
  """
  dim = direction.shape[1]
  family = np.zeros(len(nodes), np.int64) if parent is None else parent[nodes]
  order = np.lexsort((nodes, -volume[nodes], family))
  family, nodes = family[order], nodes[order]
  start = np.flatnonzero(np.r_[True, family[1:] != family[:-1]])
  size = np.diff(np.r_[start, len(nodes)])
  total = np.repeat(np.add.reduceat(volume[nodes], start), size)
  width = np.minimum((_DENSITY * volume[nodes] / total) ** (1 / (dim - 1)), _WIDEST)
  center = None if parent is None else direction[parent[nodes]]
  width = width if center is not None else np.minimum(2 * width, 1.2)  # then in radians
  places = np.zeros((len(nodes), dim))
  rank = np.arange(len(nodes)) - np.repeat(start, size)
  for met in range(min(size.max(), _MET + 1)):
    some = start[size > met] + met if met < _MET else np.flatnonzero(rank >= _MET)
    step = max(1, _PART // (_CANDIDATES * dim * max(1, met)))
    for i in range(0, len(some), step):
      at = some[i : i + step]
      z = rng.standard_normal((len(at), _CANDIDATES, dim))
      if center is not None:
        z -= np.sum(z * center[at, None], axis=-1, keepdims=True) * center[at, None]
      z /= np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-300)  # 0 at worst
      if center is not None:  # uniform in the ball that leaves the child inside
        inside = rng.uniform(size=(len(at), _CANDIDATES, 1)) ** (1 / (dim - 1))
        z *= inside * (1 - width[at, None, None])
      if met:
        others = (at - rank[at])[:, None] + np.arange(met)
        apart = np.linalg.norm(z[:, :, None] - places[others][:, None], axis=-1)
        if center is None:
          apart = 2 * np.arcsin(np.minimum(apart / 2, 1))
        best = np.argmax(np.min(apart - width[others][:, None], axis=-1), axis=-1)
      else:
        best = np.zeros(len(at), np.int64)
      places[at] = z[np.arange(len(at)), best]
  if center is None:
    direction[nodes], theta[nodes] = places, width
    return
  whole = theta[parent[nodes]]
  length = np.linalg.norm(places, axis=-1)
  angle = length * whole
  turn = places * (np.sin(angle) / np.where(length > 0, length, 1))[:, None]
  turned = np.cos(angle)[:, None] * center + turn
  direction[nodes] = turned / np.linalg.norm(turned, axis=-1, keepdims=True)
  theta[nodes] = width * whole


def _cover(edges, n, direction, theta):
  """Moves the nodes, in place, that have descendants outside of their caps."""
  u, v = edges[:, 0], edges[:, 1]
  leaf = np.bincount(v, minlength=n) == 0
  out = _farthest(u, v, direction, direction, n) > theta * (1 + 1e-6)
  out[np.bincount(u, minlength=n) == 0] = False  # roots
  mine = out[v]
  u, v = u[mine], v[mine]
  mean = np.zeros_like(direction)
  ends = leaf[u]
  np.add.at(mean, v[ends], direction[u[ends]])
  length = np.linalg.norm(mean, axis=-1)
  out &= length > 1e-6  # else it has no side of its own; only where edges are not closed
  mean = np.where(out[:, None], mean / np.where(length > 0, length, 1)[:, None], direction)
  angle = _REACH * _farthest(u, v, direction, mean, n)
  largest = np.zeros(n)
  np.maximum.at(largest, v, theta[u])
  direction[out] = mean[out]
  theta[out] = np.minimum(np.maximum(angle, 2 * largest), _LARGEST)[out]


def _farthest(u, v, x, y, n):
  """The largest angle between x of the sources and y of a target, [n]."""
  farthest = np.zeros(n)
  step = max(1, _PART // x.shape[1])
  for i in range(0, len(u), step):
    a, b = x[u[i : i + step]], y[v[i : i + step]]
    angle = 2 * np.arcsin(np.minimum(np.linalg.norm(a - b, axis=-1) / 2, 1))
    np.maximum.at(farthest, v[i : i + step], angle)
  return farthest
