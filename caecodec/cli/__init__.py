"""The command line: data on stdout, messages on stderr, one clear line for every error."""
