"""Errors of data preparation; `celltune.errors` shows the whole tree."""

from __future__ import annotations

from celltune.errors import InputError


class DataError(InputError):
    """A data set, a file of it, or one of its rows can't be used."""


class DataLostError(DataError):
    """Published data aren't in the cluster any more; whoever has them can publish them again."""
