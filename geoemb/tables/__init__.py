"""Embedding tables: named points, and updates of the rows a step touches."""
