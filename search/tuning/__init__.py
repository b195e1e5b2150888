"""The decisions of a search: which trial runs next, and when a trial or the search ends."""
