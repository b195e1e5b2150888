"""The interface for Python programs, interpreters and notebooks."""
