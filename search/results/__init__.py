"""Results of searches: ranking, filtering, formats and export to Optuna."""
