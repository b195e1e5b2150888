"""Evaluation on the test split: retrained trials, baselines, and published models."""
