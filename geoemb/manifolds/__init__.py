"""Geometries: modules of pure functions with the same names, and `make` to bind one by name."""

import difflib

from geoemb.manifolds import (
  euclidean,
  gaussian,
  halfspace,
  horospherical,
  klein,
  lorentz,
  poincare,
  product,
  sphere,
  stereographic,
)
from geoemb.manifolds.base import Manifold
from geoemb.typing import Scalar

_MODULES = {
  "euclidean": euclidean, "halfspace": halfspace, "horospherical": horospherical,
  "klein": klein, "lorentz": lorentz, "poincare": poincare, "sphere": sphere,
  "stereographic": stereographic,
}  # fmt: skip

NAMES = tuple(_MODULES)
_MODULES["gaussian"] = gaussian  # a product, which has tests of its own


def make(name: str, c: Scalar = 1.0) -> Manifold:
  """The manifold `name` at curvature c > 0, which is |K|; for "stereographic" any c, which is −K.

  A name with digits, such as "h5 x s3 x e2", is a product's signature, and c may be a tuple.

  Raises:
    ValueError: no such manifold.
  """
  if any(letter.isdigit() for letter in name):
    return product.manifold(name, c)
  if name not in _MODULES:
    near = difflib.get_close_matches(name, _MODULES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"manifold must be one of {', '.join(_MODULES)}, got {name!r}{hint}")
  return _MODULES[name].manifold(c)
