"""Losses: distances (or affinities) in, one value per example out."""
