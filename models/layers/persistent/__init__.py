"""Recurrent loops as one GPU kernel each, which keeps the recurrent weights on the chip."""
