"""Preparation of a data set: from a source to tensorized splits."""
