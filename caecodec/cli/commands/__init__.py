"""The commands and their options; the work is beside this package."""
