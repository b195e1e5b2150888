"""Linear baselines, which every search is compared with: n-grams, models, and the comparison."""
