"""The exceptions of celltune.

    CelltuneError
    ├── InputError               invalid input; a retry would fail too (exit code 2)
    │   ├── ExtensionError       an unknown or unusable extension       (registry)
    │   ├── DataError            an invalid dataset, file or row        (data_prep.errors)
    │   │   └── DataLostError    published data that a cluster lost     (data_prep.errors)
    │   ├── DeviceError          a GPU that cannot train a model        (models.errors)
    │   ├── ConfigError          an invalid config or override          (search.errors)
    │   ├── OptionError          an invalid argument of a function      (search.errors)
    │   ├── ModelError           an unusable model or text              (search.errors)
    │   ├── ExperimentError      a name that is taken, unknown, in use  (search.errors)
    │   ├── LedgerError          a damaged or unwritable ledger         (search.errors)
    │   └── ResourceError        resources that the nodes do not have   (search.errors)
    ├── StorageError             checkpoints or a ledger lost           (search.errors)
    └── TrialError               a trial failed; the search continues   (models.errors)
        ├── DivergedError        the loss became NaN or infinite        (models.errors)
        ├── CheckpointError      an unusable checkpoint                 (models.errors)
        └── WorkerDiedError      a task lost its worker     (search.cluster.task_pool)

An InputError is not retried, because the same input fails again. Most are raised before anything is
changed. A few end a search that is running: a LedgerError if the ledger cannot be written, for
example because the disk is full, and any InputError that a worker raises. Recorded events are safe;
resume the experiment after the fix. DataLostError is the exception: the driver publishes the data
again and retries the trial. A StorageError ends the run. If checkpoints cannot be written, no
progress is lost: make the storage writable and resume the experiment. If the experiment's folder
was removed, its message says what is lost. A TrialError ends one trial.
"""

from __future__ import annotations

from celltune.printable import printable


class CelltuneError(Exception):
    """Base class of all errors that celltune raises deliberately.

    A message may quote data. It is printable, because Python shows it in tracebacks as it is.
    """

    def __init__(self, *args: object) -> None:
        """Create an error.

        Args:
            args: of the exception; texts become printable.
        """
        super().__init__(*(printable(arg) if isinstance(arg, str) else arg for arg in args))

    @property
    def lines(self) -> list[str]:
        """The message as lines: one, unless a subclass lists several problems."""
        return [str(self)]


class InputError(CelltuneError):
    """Raised if an input, or a file or service that is used, is invalid or unavailable.

    The message says what is wrong and where, and lists the allowed values or the fix.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and Jupyter show instead of a traceback: the message says it all."""
        first, *others = self.lines
        return [f"{type(self).__name__}: {first}", *others]

    def __init__(self, message: str, *problems: str) -> None:
        """Create an error.

        Args:
            message: what is invalid.
            problems: all problems, if the message announces a list of them.
        """
        super().__init__(message, *problems)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """The message, and a line for each problem."""
        return [self.args[0], *(f"  {problem}" for problem in self.args[1:])]
