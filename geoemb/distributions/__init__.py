"""Probability distributions on manifolds: densities by Riemannian volume, samples, entropies."""
