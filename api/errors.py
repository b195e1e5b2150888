"""The exceptions of celltune, all in one tree.

::

    CelltuneError
    ├── InputError               what a person gave can't be used: exit code 2, nothing was changed
    │   ├── DataError            a data set, a file or a row              (data_prep)
    │   │   └── DataLostError    published data whose node is gone: publish them again
    │   ├── ConfigError          a config file or an override             (search.errors)
    │   ├── OptionError          a filter, a column, a format, an output  (search.errors)
    │   ├── ModelError           a bundle, its trial, or a text for it    (search.errors)
    │   ├── ExperimentError      a name that is taken, unknown or in use  (search.errors)
    │   ├── LedgerError          a damaged ledger                         (search.errors)
    │   └── ResourceError        more than the cluster can ever give      (search.errors)
    ├── StorageError             checkpoints can't be written: the run ends  (search.errors)
    └── TrialError               one trial failed; the search goes on     (models.errors)
        ├── DivergedError        a loss that is no longer a number        (models.errors)
        └── CheckpointError      a checkpoint that can't be used          (models.errors)

After a StorageError nothing is lost: mend the storage, then resume.
An InputError is never retried: the same input fails again. A TrialError ends one trial only.
"""

from __future__ import annotations


class CelltuneError(Exception):
    """Everything that celltune raises on purpose."""


class InputError(CelltuneError):
    """What a person gave can't be used; the message says what, where, allowed and the mend."""
