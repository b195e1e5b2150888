"""Errors of training. The tree of all errors is in `celltune.errors`."""

from __future__ import annotations

from celltune.errors import CelltuneError, InputError


class DeviceError(InputError):
    """Raised if torch cannot train on the device, or the device lacks a precision."""


class TrialError(CelltuneError):
    """A trial failed; the search continues without it."""


class DivergedError(TrialError):
    """A loss is NaN or infinite. A retry would diverge again."""


class CheckpointError(TrialError):
    """A checkpoint is missing, damaged, or belongs to another model."""
