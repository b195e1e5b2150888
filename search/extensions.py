"""Extension points of `celltune.search` and their built-in implementations."""
