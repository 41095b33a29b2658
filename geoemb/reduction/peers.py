"""Reducers of other libraries in our shape: kernel PCA and UMAP.

Both keep the vectors they were fitted on, and look at them for every transform.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from geoemb.reduction import reducer
from geoemb.typing import Array, ArrayLike, Key


class Peer(NamedTuple):
  """A fitted model of another library; its transform runs on the host."""

  model: Any

  def transform(self, x: Array) -> Array:
    """Vectors [n, d] in fewer coordinates, [n, dim] float32."""
    return jnp.asarray(self.model.transform(np.asarray(x)), jnp.float32)


def kernel_pca(
  x: ArrayLike, dim: int, *, key: Key, kernel: str = "rbf", sample: int = 2000
) -> Peer:
  """Kernel PCA [scholkopf1998kernel] of scikit-learn.

  Args:
    x: [n, d].
    dim: coordinates.
    key: for the sample and the solver.
    kernel: a name that scikit-learn knows; for "rbf", γ is 1/d.
    sample: vectors the kernel is fitted on, at most; the time grows with its square.
  """
  try:
    from sklearn import decomposition
  except ImportError as error:
    raise ImportError(f"kernel PCA needs pip install 'geoemb[reduction]': {error}") from error
  x = reducer.check(x, dim, most=min(len(x), sample))
  key_sample, key_solver = jax.random.split(key)
  model = decomposition.KernelPCA(
    dim, kernel=kernel, eigen_solver="randomized", random_state=_seed(key_solver)
  )
  return Peer(model.fit(np.asarray(x[reducer.rows(key_sample, len(x), sample)])))


def umap(x: ArrayLike, dim: int, *, key: Key, neighbors: int = 15) -> Peer:
  """UMAP [mcinnes2018umap] of umap-learn, with cosine distances.

  Args:
    x: [n, d], n > neighbors.
    dim: coordinates.
    key: for umap-learn's draws, which a fixed seed makes it take on one thread.
    neighbors: its n_neighbors.
  """
  try:
    import umap as package
  except ImportError as error:
    raise ImportError(f"UMAP needs pip install 'geoemb[reduction]': {error}") from error
  x = reducer.check(x, dim)
  if len(x) <= max(neighbors, dim + 1):
    raise ValueError(f"UMAP needs more than {max(neighbors, dim + 1)} vectors, got {len(x)}")
  model = package.UMAP(
    n_neighbors=neighbors, n_components=dim, metric="cosine", random_state=_seed(key), n_jobs=1
  )
  return Peer(model.fit(np.asarray(x)))


def _seed(key: Key) -> int:
  return int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
