"""Which trial runs next, and when a trial or a search ends."""
