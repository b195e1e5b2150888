"""What can go wrong with one trial; the whole tree is drawn in ``data_prep.errors``."""

from __future__ import annotations

from celltune.errors import CelltuneError


class TrialError(CelltuneError):
    """One trial failed; the search goes on without it."""


class DivergedError(TrialError):
    """A loss is no longer a number; trying the same again gives the same."""


class CheckpointError(TrialError):
    """A checkpoint is missing, damaged, or belongs to another model."""
