"""Where bytes live: paths and URLs, and replacing them whole."""
