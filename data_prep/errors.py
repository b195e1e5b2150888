"""Exceptions of data preparation; `celltune.errors` documents the complete hierarchy."""

from __future__ import annotations

from celltune.errors import InputError


class DataError(InputError):
    """A data set, one of its files or one of its documents is missing or invalid."""


class DataLostError(DataError):
    """Published data is no longer in the cluster; a process that has it can publish it again."""
