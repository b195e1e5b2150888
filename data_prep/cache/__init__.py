"""Prepared data on the disk and in the object store of a Ray cluster."""
