"""A run of a search from start to end."""
