"""Geometries: modules of pure functions with the same names, and `make` to bind one by name."""

import difflib

from geoemb.manifolds import (
  euclidean,
  grassmann,
  halfspace,
  horospherical,
  klein,
  log_euclidean,
  lorentz,
  poincare,
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


def make(name: str, c: Scalar = 1.0) -> Manifold:
  """The manifold `name` at curvature c > 0, which is |K|; for "stereographic" any c, which is −K.

  Raises:
    ValueError: no such manifold.
  """
  modules = _MODULES | _MATRIX_MODULES
  if name not in modules:
    near = difflib.get_close_matches(name, modules, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"manifold must be one of {', '.join(modules)}, got {name!r}{hint}")
  return modules[name].manifold(c)
