"""Export of trained models, and predictions with them."""
