"""Several stores as one."""

import jax
import numpy as np
import pytest

from geoemb.tables import oov, store
from geoemb.tables.concatenation import Concatenation


def make(path, keys, name, dim, c=1.0, dtype=np.float32):
  x = np.random.default_rng(0).standard_normal((len(keys), dim)) / 4
  if name == "sphere":
    x /= np.sqrt(c) * np.linalg.norm(x, axis=1, keepdims=True)
  if name == "spd":
    x = np.ones((1, 1, 1))
  store.write(path, keys, x.astype(dtype), name, c)
  return store.Store(path)


def test_points_are_those_of_the_product(tmp_path):
  a = make(tmp_path / "a", ["dog", "cat"], "lorentz", 3, 0.5)
  b = make(tmp_path / "b", ["cat", "cow", "dog"], "sphere", 3, 2.0)
  both = Concatenation(a, b)
  assert both.manifold == "h3 x s2" and both.c == (0.5, 2.0) and both.point == (6,)
  x = both.lookup(["dog", "cat"])
  np.testing.assert_array_equal(
    x, np.hstack([a.lookup(["dog", "cat"]), b.lookup(["dog", "cat"])]), strict=True
  )
  dist = jax.jit(both.geometry.dist)(x[0], x[1])
  lorentz = np.sqrt(2 + np.sum(x[:, :3] ** 2, axis=1)).prod() - x[0, :3] @ x[1, :3]
  d = [np.arccosh(0.5 * lorentz) / np.sqrt(0.5), np.arccos(2 * x[0, 3:] @ x[1, 3:]) / np.sqrt(2)]
  np.testing.assert_allclose(dist, np.hypot(*d), rtol=1e-5)


def test_missing_keys_are_made_up_by_each_or_refused(tmp_path):
  a = make(tmp_path / "a", ["dog", "cat"], "euclidean", 3)
  b = make(tmp_path / "b", ["cat", "dot"], "euclidean", 5, dtype=np.float64)
  both = Concatenation(a, b)
  assert (both.manifold, both.c, both.point) == ("euclidean", 1.0, (8,))
  found = both.lookup(["dog", "cat"])
  assert found.dtype == np.float64
  np.testing.assert_array_equal(found[:, :3], a.lookup(["dog", "cat"]))
  np.testing.assert_array_equal(found[:, 3:], oov.lookup(b, ["dog", "cat"]))
  assert ("cat" in both, "dog" in both) == (True, False)
  with pytest.raises(ValueError, match=r"b has no key 'dog'"):
    Concatenation(a, b, missing="refuse").lookup(["dog", "cat"])


def test_refuses(tmp_path):
  with pytest.raises(ValueError, match="got none"):
    Concatenation()
  a = make(tmp_path / "a", ["dog"], "spd", 2)
  with pytest.raises(ValueError, match="no products with spd"):
    Concatenation(a)
  with pytest.raises(ValueError, match="oov or refuse"):
    Concatenation(a, missing="zero")
