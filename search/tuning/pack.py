"""Trials of one shape that are trained as one batched model. Uses neither Ray nor Optuna.

Each trial has its own hyperparameters, seed, order of batches, metrics and checkpoints, which are
those of the trial alone: `run_trial` continues a trial of a pack, and a pack one of `run_trial`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.search.tuning.trial import (
    TrialTask,
    epoch_metrics,
    report_epoch,
    restore,
    trial_configs,
    trial_seed,
)
from celltune.search.tuning.valid_predictions import in_document_order
from celltune.search.types import EpochReport

if TYPE_CHECKING:
    from celltune.models.packed.trainer import PackedMember
    from celltune.models.training.metrics import EpochMetrics, Predictions


@dataclass
class _Member:
    """A trial of a pack."""

    task: TrialTask
    trained: PackedMember
    warnings: tuple[str, ...]
    """Warnings that the next report contains."""


class Pack:
    """A `TrialGroup` whose trials have one shape (see `celltune.models.config.pack_shape`)."""

    def __init__(self, data: PreparedData, *, device: str) -> None:
        """Create an empty pack.

        Args:
            data: training and validation split.
            device: a torch device name.

        Raises:
            DataError: the data cannot be used.
        """
        # Importing torch takes seconds, and a worker may be stopped before it trains.
        from celltune.models.packed.trainer import PackedTrainer

        self._data = data
        self._trainer = PackedTrainer(data, device=device)
        self._members: dict[int, _Member] = {}

    def add(self, task: TrialTask) -> None:
        """Add a trial, which continues from its newest usable checkpoint.

        Raises:
            TrialError: the trial has another shape, or its model cannot be built.
            StorageError: a checkpoint cannot be read.
        """
        model, training = trial_configs(task.params, self._data)
        seed = trial_seed(task.seed, task.number)
        trained = self._trainer.add(model, training, seed=seed)
        try:
            warnings = restore(trained, task)
        except BaseException:
            self._trainer.remove(trained)
            raise
        self._members[task.number] = _Member(task, trained, warnings)

    def remove(self, number: int) -> None:
        """Remove a trial."""
        member = self._members.pop(number)
        # The trainer itself removes trials whose loss is not finite.
        if member.trained in self._trainer.members:
            self._trainer.remove(member.trained)

    def run_epoch(self) -> dict[int, EpochReport | Exception]:
        """Train all trials for an epoch.

        Returns:
            By the trial's number: the report of the epoch, or the error that ended the trial, for
            example because its loss is not finite. Such a trial has to be removed.
        """
        from celltune.models.training.metrics import Predictions

        predictions = {member.trained: Predictions() for member in self._members.values()}
        outcomes = self._trainer.run_epoch(predictions)
        return {
            number: self._finish(member, outcomes[member.trained], predictions[member.trained])
            for number, member in self._members.items()
        }

    def _finish(
        self, member: _Member, outcome: EpochMetrics | Exception, predictions: Predictions
    ) -> EpochReport | Exception:
        """Compute the metrics of a trial's epoch and write its checkpoint."""
        if isinstance(outcome, Exception):
            return outcome
        warnings, member.warnings = member.warnings, ()
        try:
            metrics = epoch_metrics(outcome, member.task.metrics, predictions, member.task.fit)
            logs = in_document_order(predictions, self._data.valid)
            return report_epoch(member.trained, member.task, metrics, logs, warnings)
        except Exception as error:  # noqa: BLE001 (any error ends this trial, not its neighbours)
            return error
