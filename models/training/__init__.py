"""Training of a classifier: epochs, optimizers, checkpoints."""
