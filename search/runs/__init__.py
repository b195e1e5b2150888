"""Runs of experiments: launch, resume, stop, and status."""
