"""From a source to tensorized splits."""
