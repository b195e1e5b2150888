"""Recording of a search in TensorBoard and MLflow while it runs."""
