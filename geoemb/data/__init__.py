"""Loaders and their tiny generated twins: numpy in, numpy out, nothing is ever downloaded."""
