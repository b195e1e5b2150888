"""Training of a classifier and its checkpoints."""
