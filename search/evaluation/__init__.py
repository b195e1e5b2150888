"""Retrain the best trials and measure them on the test split."""
