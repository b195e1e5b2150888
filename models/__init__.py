"""One sentiment model, many recurrent cells: built, trained, saved. Knows nothing of searches."""
