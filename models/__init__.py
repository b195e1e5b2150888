"""Recurrent text classifiers: cells, training, checkpoints; imports nothing of search."""
