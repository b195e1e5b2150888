"""Extension points of `celltune.data_prep` and their built-in implementations."""
