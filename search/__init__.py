"""Hyperparameter search: what is tried, where it runs and what it found."""
