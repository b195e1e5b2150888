"""Record a search in TensorBoard: one run per trial, with its metrics and hyperparameters."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from celltune.search.ledger.events import EpochReported, Event, TrialFailed, TrialStopped
from celltune.search.ledger.state import ExperimentState
from celltune.search.types import Metric

WRITTEN = "epochs-written"
"""File in a trial's folder with the number of epochs that are recorded completely."""


class TensorBoardTracker:
    """A tracker that writes `<folder>/trial-<number>/`.

    Epochs that the trial's folder does not mark as complete are written again in a new file. The
    file declares its first step, so TensorBoard hides what older files contain from there on.
    """

    def __init__(self, folder: Path, metric: Metric) -> None:
        """Write to `folder`, which is created if it is missing.

        Args:
            folder: the folder of this experiment's runs.
            metric: the metric that is optimized; its best value is shown with the hyperparameters.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._metric = metric
        self._state = ExperimentState()
        self._writers: dict[int, SummaryWriter] = {}
        self._complete_epochs: dict[int, int] = {}

    def record(self, event: Event) -> None:
        """Record an event, or skip it if the trial's folder contains it already."""
        self._state.apply(event)
        if not isinstance(event, (EpochReported, TrialStopped, TrialFailed)):
            return
        if self._state.trials[event.number].epochs_done <= self._epochs_recorded(event.number):
            return
        if isinstance(event, EpochReported):
            self._write_epoch(event)
        else:
            self._finish(event.number, event.at)

    def _epochs_recorded(self, number: int) -> int:
        """Return the number of completely recorded epochs of a trial; -1 if it is unknown."""
        if number not in self._complete_epochs:
            marker = self._folder / f"trial-{number}" / WRITTEN
            self._complete_epochs[number] = int(marker.read_text()) if marker.exists() else -1
        return self._complete_epochs[number]

    def _write_epoch(self, event: EpochReported) -> None:
        writer = self._writer(event.number)
        for name, value in event.metrics.items():
            writer.add_scalar(name, value, event.epoch, walltime=event.at)
        writer.flush()

    def _writer(self, number: int) -> SummaryWriter:
        if number not in self._writers:
            # SummaryWriter would create a folder again that a user has removed or renamed.
            if not self._folder.is_dir():
                raise FileNotFoundError(f"the folder {self._folder} was removed")
            first = max(0, self._epochs_recorded(number)) + 1
            # File names contain the current second. The suffix keeps a writer that starts within
            # the same second from replacing an earlier file.
            self._writers[number] = SummaryWriter(
                str(self._folder / f"trial-{number}"),
                purge_step=first,
                filename_suffix=f".{first}",
            )
        return self._writers[number]

    def _finish(self, number: int, at: float) -> None:
        trial, writer = self._state.trials[number], self._writer(number)
        best = trial.best_value(self._metric)
        name = f"best_{self._metric}"
        params = {key: "none" if value is None else value for key, value in trial.params.items()}
        for summary in hparams({**params, "status": trial.status}, {name: best}):
            writer.file_writer.add_summary(summary)
        if best is not None:
            writer.add_scalar(name, best, trial.epochs_done, walltime=at)
        writer.close()
        del self._writers[number]
        self._complete_epochs[number] = trial.epochs_done
        (self._folder / f"trial-{number}" / WRITTEN).write_text(str(trial.epochs_done))

    def close(self) -> None:
        """Flush and close all files. The next resume continues unfinished trials."""
        for writer in self._writers.values():
            writer.close()
