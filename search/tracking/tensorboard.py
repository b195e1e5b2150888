"""A search in TensorBoard: a run for each trial, with its scalars and its hyperparameters."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from celltune.search.ledger.events import EpochReported, Event, TrialFailed, TrialStopped
from celltune.search.ledger.state import ExperimentState
from celltune.search.types import Metric

WRITTEN = "epochs-written"
"""A file in a trial's folder that says up to which epoch all of it is there."""


class TensorBoardTracker:
    """Writes `<folder>/trial-<number>/`.

    What a trial's folder doesn't say it has is written, from the first such epoch on; TensorBoard
    hides what an earlier file holds from there on, because the new one says where it begins again.
    """

    def __init__(self, folder: Path, metric: Metric) -> None:
        """Write below `folder`, which is made.

        Args:
            folder: of this experiment's runs.
            metric: what decides; its best value stands beside the hyperparameters.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._metric = metric
        self._state = ExperimentState()
        self._writers: dict[int, SummaryWriter] = {}
        self._written: dict[int, int] = {}

    def take(self, event: Event) -> None:
        """Take in an event, or pass over it if its trial's folder holds it."""
        self._state.apply(event)
        if not isinstance(event, (EpochReported, TrialStopped, TrialFailed)):
            return
        if self._state.trials[event.number].epochs_done <= self._known(event.number):
            return
        if isinstance(event, EpochReported):
            self._report(event)
        else:
            self._finish(event.number, event.at)

    def _known(self, number: int) -> int:
        """Up to which epoch all of a trial is there; -1 if it isn't known of any."""
        if number not in self._written:
            marker = self._folder / f"trial-{number}" / WRITTEN
            self._written[number] = int(marker.read_text()) if marker.exists() else -1
        return self._written[number]

    def _report(self, event: EpochReported) -> None:
        writer = self._writer(event.number)
        for name, value in event.metrics.items():
            writer.add_scalar(name, value, event.epoch, walltime=event.at)
        writer.flush()

    def _writer(self, number: int) -> SummaryWriter:
        if number not in self._writers:
            begins = max(0, self._known(number)) + 1
            # Files are named by the second: one that begins elsewhere mustn't take another's place.
            self._writers[number] = SummaryWriter(
                str(self._folder / f"trial-{number}"),
                purge_step=begins,
                filename_suffix=f".{begins}",
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
        self._written[number] = trial.epochs_done
        (self._folder / f"trial-{number}" / WRITTEN).write_text(str(trial.epochs_done))

    def close(self) -> None:
        """Write what is still held back; unfinished trials go on with the next resume."""
        for writer in self._writers.values():
            writer.close()
