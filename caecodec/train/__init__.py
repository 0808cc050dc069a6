"""Training: data, optimisers, the loop, and export to shipped weights."""
