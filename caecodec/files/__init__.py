"""Where bytes live: paths, pipes and URLs, and replacing files whole."""
