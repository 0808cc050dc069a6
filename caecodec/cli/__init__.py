"""The command line (layer 5): data on stdout, words on stderr, one clear line for every error."""
