"""Optimizers of parameters that lie on several manifolds, or only partly on one."""

from collections.abc import Callable

import jax
import optax

from geoemb.manifolds import Manifold, euclidean
from geoemb.typing import PyTree


def mixed(
  specs: PyTree, make: Callable[[Manifold], optax.GradientTransformation]
) -> optax.GradientTransformation:
  """A transformation of parameters each of which moves on its own manifold.

      tx = mixed({"table": manifolds.make("lorentz"), "bias": None}, lambda m: radam.radam(0.1, m))

  Every place of `specs` has a transformation and a state of its own, but those of flat space share
  one; what links of the others keep or measure across a tree stops at the place. A specs tree with
  traced curvatures may be bound anew in every step: the state's structure depends on names alone.

  Args:
    specs: a prefix of the parameters' tree whose leaves are manifolds, or None for flat space.
    make: from a manifold to a transformation of points on it.

  Raises:
    ValueError: a leaf of specs is no manifold.
  """
  is_leaf = lambda s: s is None or (hasattr(s, "name") and hasattr(s, "egrad2rgrad"))
  transforms = {}

  def label(path: tuple, spec: Manifold | None) -> str:
    if not is_leaf(spec):
      raise ValueError(
        f"specs{jax.tree_util.keystr(path)} must be a manifold or None, got {spec!r}"
      )
    if spec is None:
      name, spec = "flat", euclidean.manifold()
    else:
      name = f"{spec.name}{jax.tree_util.keystr(path)}"
    if name not in transforms:
      transforms[name] = make(spec)
    return name

  labels = jax.tree_util.tree_map_with_path(label, specs, is_leaf=is_leaf)
  return optax.partition(transforms, labels)
