"""Training (layer 5): data, optimisers, the loop, and export to shipped weights."""
