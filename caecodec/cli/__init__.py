"""The command line: data on stdout, words on stderr, one clear line for every error."""
