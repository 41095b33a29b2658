"""Hierarchies as edge lists: transitive closure, cycles, and the tables that sampling reads.

An edge (u, v) reads "u is a v": v is a parent of u, or, in a closure, an ancestor. Ids are int32 in
[0, n). Everything is numpy on the host and vectorised over a level of the hierarchy, so neither a
deep nor a wide one is slow, and nothing recurses.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

MAX_CLOSURE_EDGES = 200_000_000  # 1.6 GB of id pairs; `close` needs about twice that at its peak
MAX_TABLE_BYTES = 2_000_000_000  # of a padded table of ancestors
_PART = 1 << 22  # ancestors gathered at once: 32 MB of int64 keys


class Hierarchy(NamedTuple):
  """A hierarchy, closed or not; an edge (u, v) reads "u is a v"."""

  edges: np.ndarray  # [m, 2] int32 ids, sorted, no two alike
  names: tuple[str, ...]  # n names; row i of a table embeds names[i]
  weights: np.ndarray | None = None  # [m] float32, where the source has them


class CycleError(ValueError):
  """A hierarchy has a cycle; `cycle` is one, as ids, each a child of the next."""

  def __init__(self, cycle: Sequence[int], names: Sequence[str] | None = None):
    self.cycle = tuple(int(i) for i in cycle)
    super().__init__(f"the hierarchy has a cycle: {show_cycle(self.cycle, names)}")


def show_cycle(cycle: Sequence[int], names: Sequence[str] | None = None) -> str:
  """A cycle in one line, "a -> b -> a"; the middle of a long one is only counted."""
  shown = [str(i) if names is None else names[i] for i in cycle]
  if len(shown) > 10:
    shown[5:-4] = [f"({len(shown) - 9} more)"]
  return " -> ".join([*shown, shown[0]])


def unique(edges: np.ndarray, n: int) -> np.ndarray:
  """Edges sorted by (u, v), each once, [m, 2] int32."""
  edges = _checked(edges, n)
  (u, v), (next_u, next_v) = edges[:-1].T, edges[1:].T
  if not np.all((u < next_u) | ((u == next_u) & (v < next_v))):
    keys = _sorted_unique(edges[:, 0].astype(np.int64) * n + edges[:, 1])
    edges = np.stack(np.divmod(keys, n), axis=1)
  return edges.astype(np.int32, copy=False)


def csr(edges: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
  """Rows of targets: (offsets [n + 1] int64, targets [m] int32), ascending within a row.

  Row u, targets[offsets[u] : offsets[u + 1]], holds every v with an edge (u, v), once.
  """
  edges = unique(edges, n)
  offsets = np.zeros(n + 1, np.int64)
  np.cumsum(np.bincount(edges[:, 0], minlength=n), out=offsets[1:])
  return offsets, np.ascontiguousarray(edges[:, 1])


def ancestors(edges: np.ndarray, n: int, *, max_bytes: int = MAX_TABLE_BYTES) -> np.ndarray:
  """Targets of every node, [n, a] int32, ascending and then padded with n, an id no node has.

  a is the largest number of targets of a node, and at least 1; it is 34 for WordNet's nouns. One
  node with very many targets makes the whole table wide, so its size is bounded by `max_bytes`;
  `csr` has no such bound.
  """
  offsets, targets = csr(edges, n)
  counts = np.diff(offsets)
  width = max(1, int(counts.max(initial=0)))
  if 4 * n * width > max_bytes:
    raise ValueError(
      f"a padded table of ancestors must stay under {max_bytes / 1e9:.3g} GB, got {n} nodes x "
      f"{width} (the targets of node {counts.argmax()}) x 4 bytes = {4e-9 * n * width:.3g} GB"
    )
  table = np.full((n, width), n, np.int32)
  table[np.arange(width) < counts[:, None]] = targets
  return table


def induced(hierarchy: Hierarchy, keep: np.ndarray) -> Hierarchy:
  """The hierarchy on the nodes of the mask `keep`, [n] bool, renumbered in their old order."""
  new_id = np.cumsum(keep, dtype=np.int32) - 1
  inside = keep[hierarchy.edges].all(axis=1)
  names = tuple(hierarchy.names[i] for i in np.flatnonzero(keep))
  weights = None if hierarchy.weights is None else hierarchy.weights[inside]
  return Hierarchy(new_id[hierarchy.edges[inside]], names, weights)


def find_cycle(edges: np.ndarray, n: int) -> tuple[int, ...] | None:
  """One cycle as ids, each a child of the next, or None; a self edge is a cycle of one node.

  Always the same one, and it starts at its smallest id.
  """
  edges = unique(edges, n)
  selves = edges[edges[:, 0] == edges[:, 1], 0]
  if len(selves):
    return (int(selves[0]),)
  count, component = _components(edges, n)
  if count == n:
    return None
  inside = edges[component[edges[:, 0]] == component[edges[:, 1]]]
  first = np.r_[True, inside[1:, 0] != inside[:-1, 0]]
  towards = np.full(n, -1, np.int32)  # one way on, without leaving the component
  towards[inside[first, 0]] = inside[first, 1]
  seen = np.zeros(n, bool)
  node = inside[0, 0]
  while not seen[node]:
    seen[node] = True
    node = towards[node]
  cycle = [int(node)]
  while towards[cycle[-1]] != node:
    cycle.append(int(towards[cycle[-1]]))
  start = cycle.index(min(cycle))
  return tuple(cycle[start:] + cycle[:start])


def close(
  edges: np.ndarray,
  n: int,
  *,
  cyclic: bool = False,
  names: Sequence[str] | None = None,
  max_edges: int = MAX_CLOSURE_EDGES,
) -> np.ndarray:
  """Transitive closure, [m, 2] int32, sorted by (u, v) and without self edges.

  Works down from the roots, level by level, so that the parents of a level are closed before it.

  Args:
    edges: [m, 2] direct edges.
    n: number of nodes.
    cyclic: allow cycles; all nodes of one become ancestors of each other.
    names: what error messages call the nodes.
    max_edges: a larger closure is refused, before it is in memory.

  Raises:
    CycleError: there is a cycle, and not `cyclic`.
    ValueError: the closure has more than `max_edges` edges.
  """
  edges = unique(edges, n)
  cycle = find_cycle(edges, n)
  if cycle is None:
    return _close_acyclic(edges, n, max_edges)
  if not cyclic:
    raise CycleError(cycle, names)
  # Close the graph of the strong components, then put the members back.
  count, component = _components(edges, n)
  above = component[edges]
  above = unique(above[above[:, 0] != above[:, 1]], count)
  own = np.repeat(np.arange(count), 2).reshape(count, 2)
  above = np.concatenate([_close_acyclic(above, count, max_edges), own])
  offsets, above = csr(above, count)
  size = np.bincount(component, minlength=count)
  _check_size(np.sum(size * np.add.reduceat(size[above], offsets[:-1])) - n, max_edges)
  member_offsets, members = csr(np.stack([component, np.arange(n)], axis=1), n)
  row, over = _gather(above, offsets[component], np.diff(offsets)[component])
  column, v = _gather(members, member_offsets[over], size[over])
  closed = np.stack([row[column], v], axis=1)
  return unique(closed[closed[:, 0] != closed[:, 1]], n)


def reduce(closed: np.ndarray, n: int) -> np.ndarray:
  """Transitive reduction of an acyclic closure, [m, 2] int32: the edges no path implies."""
  offsets, over = csr(closed, n)
  count = np.diff(offsets)
  row = np.repeat(np.arange(n), count)
  keys = row * n + over
  kept = np.ones(len(keys), bool)
  for lo, hi in _parts(row, 1 + count[over], _PART):
    index, beyond = _gather(over, offsets[over[lo:hi]], count[over[lo:hi]])
    kept[np.searchsorted(keys, row[lo:hi][index] * n + beyond)] = False
  return np.stack([row, over], axis=1)[kept].astype(np.int32)


def _close_acyclic(edges, n, max_edges):
  """`close` of sorted edges that are known to have no cycle."""
  offsets, parents = csr(edges, n)
  degree = np.diff(offsets)
  levels, at_least = [], 0
  for depth, nodes in enumerate(_levels(edges, n)):
    at_least += depth * len(nodes)  # a node has an ancestor on each level above its own
    _check_size(at_least, max_edges)
    levels.append(nodes)
  flat = np.empty(4 * len(edges), np.int32)  # ancestors, in segments; grows
  start = np.zeros(n, np.int64)  # of the segment of a node that is closed,
  count = np.zeros(n, np.int64)  # and its length
  total = 0
  for nodes in levels[1:]:
    row, over = _gather(parents, offsets[nodes], degree[nodes])
    for lo, hi in _parts(row, 1 + count[over], _PART):
      part = nodes[row[lo] : row[hi - 1] + 1]
      found, found_count = _union(row[lo:hi] - row[lo], over[lo:hi], flat, start, count, n)
      _check_size(total + len(found), max_edges)
      if total + len(found) > len(flat):
        flat = np.concatenate([flat[:total], np.empty(total + len(found), np.int32)])
      flat[total : total + len(found)] = found
      count[part] = found_count
      start[part] = total + np.cumsum(found_count) - found_count
      total += len(found)
  closed = np.empty((total, 2), np.int32)
  closed[:, 0] = np.repeat(np.arange(n, dtype=np.int32), count)
  filled = 0
  for lo in range(0, n, 1 << 16):  # segments lie in the order of levels: back to that of ids
    part = slice(lo, lo + (1 << 16))
    _, above = _gather(flat, start[part], count[part])
    closed[filled : filled + len(above), 1] = above
    filled += len(above)
  return closed


def _union(row, over, flat, start, count, n):
  """Parents `over` of rows 0, 1, ..., and all above: (ids by row, ascending; how many each)."""
  rows = int(row[-1]) + 1
  if rows == 1 and count[over].sum() > _PART:  # one node that needs parts of its own
    mark = np.zeros(n, bool)
    mark[over] = True
    for lo, hi in _parts(np.arange(len(over)), count[over], _PART):
      mark[_gather(flat, start[over[lo:hi]], count[over[lo:hi]])[1]] = True
    found = np.flatnonzero(mark)
    return found, np.array([len(found)])
  index, beyond = _gather(flat, start[over], count[over])
  keys = _sorted_unique(np.concatenate([row, row[index]]) * n + np.concatenate([over, beyond]))
  row, found = np.divmod(keys, n)
  return found, np.bincount(row, minlength=rows)


def _levels(edges, n) -> Iterator[np.ndarray]:
  """Nodes of an acyclic graph by the length of their longest path to a root, ascending."""
  offsets, children = csr(edges[:, ::-1], n)
  degree = np.diff(offsets)
  waiting = np.bincount(edges[:, 0], minlength=n)  # for so many parents
  nodes = np.flatnonzero(waiting == 0)
  while len(nodes):
    yield nodes
    _, below = _gather(children, offsets[nodes], degree[nodes])
    below, times = np.unique(below, return_counts=True)
    waiting[below] -= times
    nodes = below[waiting[below] == 0]


def _components(edges, n):
  """Strong components: (how many, component [n] of each node)."""
  ones = np.ones(len(edges), np.int8)
  graph = sparse.csr_array((ones, (edges[:, 0], edges[:, 1])), shape=(n, n))
  return csgraph.connected_components(graph, connection="strong")


def _gather(values, start, count):
  """Concatenated values[start : start + count]: (which segment each is of, the values)."""
  index = np.repeat(np.arange(len(count)), count)
  shift = start - np.cumsum(count) + count
  return index, values[shift[index] + np.arange(len(index))]


def _parts(row, work, limit) -> Iterator[tuple[int, int]]:
  """Ranges of whole rows whose work sums to about `limit`, or one row of any work."""
  ends = np.flatnonzero(np.r_[row[1:] != row[:-1], True]) + 1
  done = np.r_[0, np.cumsum(work)[ends - 1]]  # at the end of so many rows
  lo, i = 0, 0
  while i < len(ends):
    i = max(i + 1, int(np.searchsorted(done, done[i] + limit, side="right")) - 1)
    yield lo, int(ends[i - 1])
    lo = int(ends[i - 1])


def _sorted_unique(keys):
  """np.unique by sorting: the hashing that numpy 2.3 took up is several times slower here."""
  keys = np.sort(keys)
  return keys[np.r_[True, keys[1:] != keys[:-1]][: len(keys)]]


def _checked(edges, n):
  edges = np.asarray(edges)
  if edges.ndim != 2 or edges.shape[1] != 2 or not np.issubdtype(edges.dtype, np.integer):
    raise ValueError(f"edges must be integers [m, 2], got {edges.dtype} {list(edges.shape)}")
  if len(edges) and not (0 <= edges.min() and edges.max() < n < 2**31):
    raise ValueError(f"ids must be in [0, n = {n}), got {edges.min()} to {edges.max()}")
  return edges


def _check_size(size, max_edges):
  if size > max_edges:
    raise ValueError(
      f"the closure would have at least {size} edges, more than {max_edges} "
      f"({8e-9 * max_edges:.2g} GB); use the plain edges, or a shallower hierarchy"
    )
