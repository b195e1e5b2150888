"""Recurrent cells and the layer implementations that run them."""
