"""Search and ranking metrics."""
