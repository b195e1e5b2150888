"""Ensembles of the models of one or several searches."""
