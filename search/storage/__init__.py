"""Storages, and the experiments and checkpoints in them."""
