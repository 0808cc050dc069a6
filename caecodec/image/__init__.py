"""Pixels: reading, writing, alpha, metrics."""
