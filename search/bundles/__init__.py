"""Export of a trained model, and prediction with it."""
