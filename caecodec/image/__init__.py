"""Images: what is accepted, image files, alpha, metadata, metrics."""
