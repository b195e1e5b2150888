"""Pretrained and learned word vectors."""
