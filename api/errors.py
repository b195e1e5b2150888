"""The exceptions of celltune.

    CelltuneError
    ├── InputError               invalid input; nothing was changed (exit code 2)
    │   ├── ExtensionError       an unknown or unusable extension       (registry)
    │   ├── DataError            an invalid dataset, file or row        (data_prep.errors)
    │   │   └── DataLostError    shared data whose node was lost        (data_prep.errors)
    │   ├── ConfigError          an invalid config or override          (search.errors)
    │   ├── OptionError          an invalid argument of a function      (search.errors)
    │   ├── ModelError           an unusable model or text              (search.errors)
    │   ├── ExperimentError      a name that is taken, unknown, in use  (search.errors)
    │   ├── LedgerError          a damaged ledger                       (search.errors)
    │   └── ResourceError        resources that no node has             (search.errors)
    ├── StorageError             checkpoints cannot be written          (search.errors)
    └── TrialError               a trial failed; the search continues   (models.errors)
        ├── DivergedError        the loss became NaN or infinite        (models.errors)
        └── CheckpointError      an unusable checkpoint                 (models.errors)

An InputError is never retried, because the same input fails again. A StorageError ends the run but
loses no progress: make the storage writable and resume the experiment. A TrialError ends one trial.
"""

from __future__ import annotations


class CelltuneError(Exception):
    """Base class of all errors that celltune raises deliberately."""


class InputError(CelltuneError):
    """Raised if an input is invalid.

    The message says what is wrong and where, and lists the allowed values or the fix.
    """
