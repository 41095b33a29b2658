"""Minimisers for small smooth problems, each one compiled loop with the same signature."""
