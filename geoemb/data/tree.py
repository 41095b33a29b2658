"""Generated hierarchies, known in closed form; for tests and first steps."""

import numpy as np

from geoemb.data import hierarchy


def balanced(branching: int = 3, depth: int = 3) -> hierarchy.Hierarchy:
  """Closure of a balanced tree: Σ_k b^k nodes and Σ_k k b^k edges, k = 0 ... depth.

  Ids are in the order of a breadth-first walk, the root is 0; a name is the way down, "root.2.0".
  """
  if branching < 1 or depth < 0:
    raise ValueError(
      f"branching must be at least 1 and depth at least 0, got {branching} and {depth}"
    )
  names, level = ["root"], ["root"]
  for _ in range(depth):
    level = [f"{name}.{i}" for name in level for i in range(branching)]
    names += level
  child = np.arange(1, len(names))
  edges = np.stack([child, (child - 1) // branching], axis=1)
  return hierarchy.Hierarchy(hierarchy.close(edges, len(names)), tuple(names))
