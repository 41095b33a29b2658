"""Models: what is trained, as pure functions over tables and flax modules."""
