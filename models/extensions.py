"""Extension points of `celltune.models` and their built-in implementations."""
