"""Geometries: modules of pure functions with the same names, and `make` to bind one by name."""

import difflib

from geoemb.manifolds import (
  euclidean,
  gaussian,
  grassmann,
  halfspace,
  horospherical,
  klein,
  log_euclidean,
  lorentz,
  poincare,
  product,
  so,
  spd,
  sphere,
  stereographic,
  stiefel,
)
from geoemb.manifolds.base import Manifold
from geoemb.typing import Scalar

_MODULES = {
  "euclidean": euclidean, "halfspace": halfspace, "horospherical": horospherical,
  "klein": klein, "lorentz": lorentz, "poincare": poincare, "sphere": sphere,
  "stereographic": stereographic,
}  # fmt: skip

_MATRIX_MODULES = {
  "grassmann": grassmann, "log_euclidean": log_euclidean, "so": so, "spd": spd, "stiefel": stiefel,
}  # fmt: skip

NAMES = tuple(_MODULES)  # points are vectors
MATRIX_NAMES = tuple(_MATRIX_MODULES)  # points are matrices, and c has no effect
_ALL = _MODULES | _MATRIX_MODULES | {"gaussian": gaussian}


def make(name: str, c: Scalar = 1.0) -> Manifold:
  """The manifold `name` at curvature c > 0, which is |K|; for "stereographic" any c, which is −K.

  A name with digits, such as "h5 x s3 x e2", is a product's signature, and c may be a tuple.

  Raises:
    ValueError: no such manifold.
  """
  if any(letter.isdigit() for letter in name):
    return product.manifold(name, c)
  if name not in _ALL:
    near = difflib.get_close_matches(name, _ALL, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"manifold must be one of {', '.join(_ALL)}, got {name!r}{hint}")
  return _ALL[name].manifold(c)
