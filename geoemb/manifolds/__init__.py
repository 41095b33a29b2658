"""Geometries: modules of pure functions with the same names, and `make` to bind one by name."""

import difflib

from geoemb.manifolds import (
  euclidean,
  halfspace,
  horospherical,
  klein,
  lorentz,
  poincare,
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


def make(name: str, c: Scalar = 1.0) -> Manifold:
  """The manifold `name` at curvature c > 0, which is |K|; for "stereographic" any c, which is −K.

  Raises:
    ValueError: no such manifold.
  """
  if name not in _MODULES:
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"manifold must be one of {', '.join(NAMES)}, got {name!r}{hint}")
  return _MODULES[name].manifold(c)
