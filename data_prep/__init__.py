"""Data preparation: from raw text to tensorized, cached batches; knows no model, no search."""
