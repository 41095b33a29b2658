"""Fewer dimensions: components and projections of points on manifolds."""
