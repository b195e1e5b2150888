"""Where experiments are stored."""
