"""Readers of labelled documents."""
