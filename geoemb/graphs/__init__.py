"""Sampling on graphs."""
