"""Readers of tables: the cells of a file, whatever its format."""
