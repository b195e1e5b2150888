"""Prepared data on disk and in the object store of a Ray cluster."""
