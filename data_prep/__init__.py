"""Data preparation: from raw texts to tensorized, cached splits."""
