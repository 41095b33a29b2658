"""How tests compile: nearly all their time goes there, and unoptimised code takes half of it."""

import functools

import jax

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# As users have it, for tests of accuracy and of what may overflow.
full_jit = functools.partial(
  jax.jit,
  compiler_options={
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
  },
)
