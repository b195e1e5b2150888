"""Tensorized splits, their vocabulary and their batches."""
