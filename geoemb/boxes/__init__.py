"""Axis-aligned boxes: parametrisations, intersections and log-volumes, in log space."""
