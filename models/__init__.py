"""Recurrent text classifiers: cells, training, checkpoints. Does not import `celltune.search`."""
