"""Several stores as one whose points are theirs one after another [patel2018magnitude].

both = Concatenation(words, relations)
both.lookup(["dog", "cat"])  # [2, d_1 + d_2]
"""

from collections.abc import Sequence

import numpy as np

from geoemb import manifolds
from geoemb.manifolds import product
from geoemb.tables import oov
from geoemb.tables.store import Curvature, Store


class Concatenation:
  """A view of stores of vectors; nothing is copied before it is looked up.

  It lies on the product of their manifolds, or in flat space if they all do.

  Attributes:
    stores: the stores, in the order of coordinates.
    manifold: a name for `manifolds.make`.
    c: its curvature, a tuple for a product.
  """

  def __init__(self, *stores: Store, missing: str = "oov"):
    """Joins stores.

    Args:
      *stores: of vectors; their dimensions may differ.
      missing: what becomes of a key that one of them, or all, lack: "oov" has that store's
        `oov.lookup` make up for it, "refuse" makes it an error.

    Raises:
      ValueError: no store, matrices, or a geometry that has no products.
    """
    if not stores:
      raise ValueError("expected a store, got none")
    if missing not in ("oov", "refuse"):
      raise ValueError(f"missing must be oov or refuse, got {missing!r}")
    self.stores, self._missing = stores, missing
    if all(store.manifold == "euclidean" for store in stores):
      self.manifold: str = "euclidean"
      self.c: Curvature = 1.0
    else:
      self.manifold = " x ".join(map(_factor, stores))
      self.c = tuple(float(store.c) for store in stores)

  def __contains__(self, key: str) -> bool:
    """Whether every store has the key."""
    return all(key in store for store in self.stores)

  @property
  def point(self) -> tuple[int, ...]:
    """The shape of a point."""
    return (sum(store.point[0] for store in self.stores),)

  @property
  def geometry(self) -> manifolds.Manifold:
    """The manifold at its curvature."""
    return manifolds.make(self.manifold, self.c)

  def lookup(self, keys: Sequence[str]) -> np.ndarray:
    """Keys' points, [b, d_1 + d_2 + …], in the stores' dtype, the wider one of float32 and float64.

    Raises:
      ValueError: there is no such key, or no vector can be made up.
    """
    look = oov.lookup if self._missing == "oov" else Store.lookup
    parts = [look(store, keys) for store in self.stores]
    dtypes = {part.dtype for part in parts}
    if len(dtypes) > 1:
      wide = np.float64 if np.dtype(np.float64) in dtypes else np.float32
      parts = [part.astype(wide) for part in parts]
    return np.concatenate(parts, axis=-1)


def _factor(store: Store) -> str:
  """A store's part of the signature of a product."""
  letters = {ops: letter for letter, ops in product.LETTERS.items()}
  ops = store.geometry.ops
  if ops not in letters or len(store.point) > 1:
    raise ValueError(f"{store.path}: there are no products with {store.manifold}")
  beyond = product.Factor(ops, 1).size - 1  # coordinates beyond the dimension
  return f"{letters[ops]}{store.point[0] - beyond}"
