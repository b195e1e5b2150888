"""Data sources: readers of labelled documents."""
