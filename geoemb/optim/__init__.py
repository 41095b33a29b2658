"""Riemannian optimizers as optax chains."""
