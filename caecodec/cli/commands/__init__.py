"""The commands and their options; their implementation is in caecodec/cli."""
