"""Export of metrics to TensorBoard and MLflow while a search runs."""
