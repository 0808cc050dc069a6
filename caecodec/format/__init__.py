"""The bytes of a `.cae` file, in FORMAT.md's order: no torch, no Pillow."""
