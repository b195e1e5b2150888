"""The wide part: a linear model on n-grams of words and characters."""
