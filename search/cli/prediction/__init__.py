"""The command that predicts: its input and its output."""
