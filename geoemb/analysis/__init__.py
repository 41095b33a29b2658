"""Looking at what was learned: pictures and measurements of embeddings."""
