"""The errors of a search. The whole tree of celltune's errors is drawn in `data_prep.errors`."""

from __future__ import annotations

from celltune.errors import CelltuneError, InputError


class ConfigError(InputError):
    """A config can't be used. The message lists every mistake in it, not only the first."""


class OptionError(InputError):
    """A command's option can't be used: a filter, a column, a format, a file to write."""


class ModelError(InputError):
    """A model can't be taken away, read or drawn, or a text can't be answered."""


class ExperimentError(InputError):
    """An experiment's name is taken, unknown, or in use by another process."""


class LedgerError(InputError):
    """The ledger of an experiment can't be read or written."""


class ResourceError(InputError):
    """A trial asks for more than any node of the cluster can ever give."""


class StorageError(CelltuneError):
    """A trial can't write its checkpoints: the run ends, its trials stay unfinished."""
