"""Several trials of one shape, trained side by side as one batched model."""
