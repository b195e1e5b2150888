"""Completes data configs: what a config does not state is taken from the content of the files."""
