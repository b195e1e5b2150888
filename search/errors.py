"""Errors of a search; `celltune.errors` shows the whole tree."""

from __future__ import annotations

from celltune.errors import CelltuneError, InputError


class ConfigError(InputError):
    """Raised if a config or an override is invalid; the message lists all errors in it."""


class OptionError(InputError):
    """Raised if an argument is invalid, such as a filter, a column, a format or an output file."""


class ModelError(InputError):
    """Raised if a model cannot be exported, loaded or drawn, or cannot classify a text."""


class ExperimentError(InputError):
    """Raised if the name of an experiment is taken, unknown, or in use by another process."""


class LedgerError(InputError):
    """Raised if the ledger of an experiment is damaged, or cannot be read or written."""


class ResourceError(InputError):
    """Raised if a cluster cannot be used, or has no node whose resources a trial can train on."""


class StorageError(CelltuneError):
    """Raised if a run cannot write checkpoints, or if its ledger was removed or moved."""
