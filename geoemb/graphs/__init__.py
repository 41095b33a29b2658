"""Sampling on graphs, and first placements of them."""
