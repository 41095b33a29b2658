"""The library's only type aliases."""

from typing import Any

import jax
from jax.typing import ArrayLike as ArrayLike

Array = jax.Array
Key = jax.Array  # a typed PRNG key, from jax.random.key
PyTree = Any
Scalar = float | jax.Array
