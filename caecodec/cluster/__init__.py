"""A folder of images on a Ray cluster."""
