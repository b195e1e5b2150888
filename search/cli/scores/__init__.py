"""The commands that read the test split, and their tables."""
