"""A search in TensorBoard: a run for each trial, with its scalars and its hyperparameters."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from search.events import (
    EpochReported,
    Event,
    TrialFailed,
    TrialStopped,
)
from search.state import ExperimentState, Metric

DONE = "whole"
"""A file that stands in a trial's folder once everything of the trial is there."""


class TensorBoardTracker:
    """Writes `<folder>/trial-<number>/`.

    A trial that isn't whole is written anew from its first epoch; TensorBoard hides what an earlier
    file holds of it, because the new one says that it begins again at step 1.
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

    def take(self, event: Event) -> None:
        """Take in an event, or pass over it if its trial is whole."""
        self._state.apply(event)
        if isinstance(event, EpochReported) and not self._done(event.number).exists():
            writer = self._writer(event.number)
            for name, value in event.metrics.items():
                writer.add_scalar(name, value, event.epoch, walltime=event.at)
            writer.flush()
        elif (
            isinstance(event, (TrialStopped, TrialFailed)) and not self._done(event.number).exists()
        ):
            self._finish(event.number, event.at)

    def _done(self, number: int) -> Path:
        return self._folder / f"trial-{number}" / DONE

    def _writer(self, number: int) -> SummaryWriter:
        if number not in self._writers:
            folder = self._done(number).parent
            self._writers[number] = SummaryWriter(str(folder), purge_step=1)
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
        self._done(number).touch()

    def close(self) -> None:
        """Write what is still held back; trials that aren't whole go on with the next resume."""
        for writer in self._writers.values():
            writer.close()
