"""The state of an experiment: a pure function of its events, in order.

This module depends on neither Ray, torch, Optuna nor a clock, so that results are read instantly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from celltune.search.ledger.ensembles import EnsembleMember
from celltune.search.ledger.evaluations import (
    BaselineReported,
    EnsembleReported,
    Evaluated,
    EvaluationFailed,
    EvaluationReported,
    TestSplitRead,
)
from celltune.search.ledger.events import (
    BaselineValidated,
    BudgetChanged,
    CheckpointsKept,
    EnsembleSelected,
    EpochReported,
    Event,
    ExperimentCreated,
    RunEnded,
    RunStarted,
    TrialCreated,
    TrialFailed,
    TrialStopped,
    WarmStarted,
    WorkerLost,
)
from celltune.search.ledger.order import Standing, sort_keys
from celltune.search.objective import sign
from celltune.search.types import Metric, ParameterValue, max_epochs_of

Status = Literal["unfinished", "completed", "pruned", "failed"]


@dataclass
class TrialRecord:
    """A trial as of the last event."""

    number: int
    params: Mapping[str, ParameterValue]
    max_epochs: int
    created_at: float
    """Seconds since 1970."""
    epochs: list[EpochReported] = field(default_factory=list)
    status: Status = "unfinished"
    error: str = ""
    """Why the trial failed, in one sentence."""
    details: str = ""
    """Traceback of a failed trial."""
    losses: int = 0
    """Number of lost workers since the trial was created or last retried by a user."""

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.epochs)

    def best(self, metric: Metric) -> EpochReported | None:
        """Return the epoch with the best value, the earliest of several; None if there are none."""
        direction = sign(metric)
        return max(
            self.epochs,
            key=lambda epoch: (direction * epoch.metrics[metric], -epoch.epoch),
            default=None,
        )

    def best_value(self, metric: Metric) -> float | None:
        """Return the best value of the metric so far; None before the first epoch."""
        best = self.best(metric)
        return None if best is None else best.metrics[metric]


class ExperimentState:
    """An experiment after a sequence of events.

    Invariants: trials are numbered 0, 1, 2, ...; the epochs of a trial are 1, 2, 3, ...; a trial
    that ended reports nothing more, unless a change of the budget reopens it. An event that
    violates one of them raises a `ValueError` and changes nothing.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        """Start with an empty state and apply `events`."""
        self.trials: list[TrialRecord] = []
        self.created: ExperimentCreated | None = None
        self.run: RunStarted | None = None
        self.ended: RunEnded | None = None
        self.budget: BudgetChanged | None = None
        self.prior: WarmStarted | None = None
        self.evaluations: list[EvaluationReported | EvaluationFailed] = []
        self.baselines: list[BaselineReported] = []
        """Baselines on the test split."""
        self.validated: dict[str, BaselineValidated] = {}
        """Baselines on the validation split, by name."""
        self.ensemble: EnsembleSelected | None = None
        """The ensemble that was selected last."""
        self.ensemble_scores: EnsembleReported | None = None
        """Scores of this ensemble on the test split; None if it was not evaluated."""
        self.kept_for: dict[str, CheckpointsKept] = {}
        """Checkpoints that ensembles of other experiments need, by the name of the experiment."""
        self.test_reads = 0
        """Number of times that the test split was read."""
        self.workers_lost = 0
        """Number of lost workers. Ledgers of older releases count as one per trial."""
        self.last_loss: WorkerLost | None = None
        self.updated_at = 0.0
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Apply the next event.

        Raises:
            ValueError: the event contradicts the events before it.
        """
        if isinstance(event, ExperimentCreated):
            self.created = event
        elif isinstance(event, RunStarted):
            self.run, self.ended = event, None
        elif isinstance(event, RunEnded):
            self.ended = event
        elif isinstance(event, BudgetChanged):
            self._change_budget(event)
        elif isinstance(event, WarmStarted):
            self.prior = event
        elif isinstance(event, TrialCreated):
            self._create_trial(event)
        elif isinstance(event, TestSplitRead):
            self.test_reads += 1
        elif isinstance(event, BaselineValidated):
            self.validated[event.name] = event
        elif isinstance(event, (EnsembleSelected, EnsembleReported)):
            self._update_ensemble(event)
        elif isinstance(event, CheckpointsKept):
            self.kept_for[event.owner] = event
        elif isinstance(event, BaselineReported):
            self._check_same_test(event)
            self.baselines.append(event)
        elif isinstance(event, (EvaluationReported, EvaluationFailed)):
            self._trial(event.number)
            if isinstance(event, EvaluationReported):
                self._check_same_test(event)
            self.evaluations.append(event)
        else:
            self._update_trial(event)
        self.updated_at = event.at

    def _create_trial(self, event: TrialCreated) -> None:
        if event.number != len(self.trials):
            raise ValueError(
                f"trial {event.number} cannot be created: the next number is {len(self.trials)}"
            )
        self.trials.append(
            TrialRecord(event.number, dict(event.params), event.max_epochs, event.at)
        )

    def _trial(self, number: int) -> TrialRecord:
        if not 0 <= number < len(self.trials):
            raise ValueError(f"trial {number} was never created")
        return self.trials[number]

    def _update_ensemble(self, event: EnsembleSelected | EnsembleReported) -> None:
        best = [event.best] if isinstance(event, EnsembleSelected) else []
        for member in [*event.members, *best]:
            if member.experiment is None:
                self.check_member(member)
        if isinstance(event, EnsembleSelected):
            if self.ensemble is None or self.ensemble.members != event.members:
                self.ensemble_scores = None
            self.ensemble = event
        elif self.ensemble is None or self.ensemble.members != event.members:
            raise ValueError("the scores are not those of the ensemble that was selected last")
        else:
            self._check_same_test(event)
            self.ensemble_scores = event

    def _check_same_test(self, event: Evaluated) -> None:
        """Check that a model was scored on the documents that all others were scored on."""
        scored = [e for e in self.evaluations if isinstance(e, EvaluationReported)]
        for other in [*scored[:1], *self.baselines[:1]]:
            if (other.classes, other.documents) != (event.classes, event.documents):
                raise ValueError(
                    f"a model was scored on {event.documents} documents of {len(event.classes)} "
                    f"classes, another one on {other.documents} of {len(other.classes)}"
                )

    def check_member(self, member: EnsembleMember) -> None:
        """Check that a member of an ensemble is the model of a trial of this experiment.

        Raises:
            ValueError: it is not.
        """
        trial = self._trial(member.number)
        if member.epoch > trial.epochs_done:
            raise ValueError(
                f"a member of the ensemble is epoch {member.epoch} of trial {member.number}, "
                f"which has {trial.epochs_done}"
            )
        recorded = trial.epochs[member.epoch - 1].checkpoint
        if member.checkpoint != recorded or member.params != trial.params:
            raise ValueError(
                f"a member of the ensemble has another checkpoint or other hyperparameters than "
                f"epoch {member.epoch} of trial {member.number}"
            )

    def members_of_ensembles(self, number: int) -> set[str]:
        """Return the checkpoints of a trial that ensembles need, of this or other experiments."""
        own = self.ensemble.members if self.ensemble else []
        needed = {m.checkpoint for m in own if m.experiment is None and m.number == number}
        for event in self.kept_for.values():
            needed.update(event.checkpoints.get(number, ()))
        return needed

    def _change_budget(self, event: BudgetChanged) -> None:
        extended = [
            self._reopenable(n, "unfinished", "completed", "pruned") for n in event.extended
        ]
        retried = [self._reopenable(n, "failed") for n in event.retried]
        for trial in [*extended, *retried]:
            trial.status = "unfinished"
            trial.max_epochs = max_epochs_of(trial.params, event.max_epochs)
        for trial in retried:
            trial.losses, trial.error, trial.details = 0, "", ""
        self.budget = event

    def _reopenable(self, number: int, *allowed: Status) -> TrialRecord:
        trial = self._trial(number)
        if trial.status not in allowed:
            raise ValueError(f"trial {number} is {trial.status} and cannot continue")
        return trial

    def _update_trial(self, event: EpochReported | TrialStopped | TrialFailed | WorkerLost) -> None:
        trial = self._trial(event.number)
        if trial.status != "unfinished":
            raise ValueError(f"trial {event.number} is already {trial.status}")
        if isinstance(event, EpochReported):
            if event.epoch != trial.epochs_done + 1:
                raise ValueError(
                    f"trial {event.number} reports epoch {event.epoch} after {trial.epochs_done}"
                )
            if event.epoch > trial.max_epochs:
                raise ValueError(
                    f"trial {event.number} reports epoch {event.epoch} of {trial.max_epochs}"
                )
            trial.epochs.append(event)
        elif isinstance(event, TrialStopped):
            if not trial.epochs:
                raise ValueError(f"trial {event.number} is {event.reason} before its first epoch")
            trial.status = event.reason
        elif isinstance(event, WorkerLost):
            trial.losses += 1
            self._count_lost_worker(event)
        else:
            trial.status, trial.error, trial.details = "failed", event.error, event.details

    def _count_lost_worker(self, event: WorkerLost) -> None:
        """Count a worker once for all of its trials."""
        last = self.last_loss
        if last is None or (last.at, last.cause, last.error) != (
            event.at,
            event.cause,
            event.error,
        ):
            self.workers_lost += 1
        self.last_loss = event

    def beats_majority(self, trial: TrialRecord, metric: Metric) -> bool | None:
        """Return whether a trial's best epoch is better than always predicting one class.

        Args:
            trial: the trial.
            metric: metric that chooses the best epoch, and that is compared. Searches by the loss,
                and ledgers without this metric of the majority class, compare the accuracy.

        Returns:
            None if the trial has no epoch, or the ledger does not contain the majority class.
        """
        return beats_majority(self.created, trial.best(metric), metric)

    def beats_wide(self, trial: TrialRecord, metric: Metric) -> bool | None:
        """Return whether a trial improves on the wide part alone by more than noise.

        Args:
            trial: the trial.
            metric: the metric that ranks.

        Returns:
            None if the trial has no epoch or is the wide part alone, or the search has no such
            trial with an epoch.
        """
        keys = sort_keys([(self.created, other) for other in self.trials], metric)
        key, standings = keys[trial.number], {key[0] for key in keys if key is not None}
        if key is None or key[0] == Standing.REFERENCE or Standing.REFERENCE not in standings:
            return None
        return key[0] == Standing.BETTER

    def count(self, status: Status) -> int:
        """Return the number of trials with this status."""
        return sum(trial.status == status for trial in self.trials)

    def ranked(self, metric: Metric) -> list[TrialRecord]:
        """Return the trials with at least one epoch, the best first (see `order`).

        Trials with the same value are ordered by the validation loss, then by number.
        """
        keys = sort_keys([(self.created, trial) for trial in self.trials], metric)
        keyed = [(key, number) for number, key in enumerate(keys) if key is not None]
        return [self.trials[number] for _, number in sorted(keyed)]


def beats_majority(
    created: ExperimentCreated | None, epoch: EpochReported | None, metric: Metric
) -> bool | None:
    """Return whether an epoch is better than always predicting one class.

    Args:
        created: the event that contains the majority class.
        epoch: the epoch of a trial.
        metric: see `ExperimentState.beats_majority`.

    Returns:
        None if there is no epoch, or the ledger does not contain the majority class.
    """
    if epoch and created and metric in created.majority_scores and metric in epoch.metrics:
        return sign(metric) * (epoch.metrics[metric] - created.majority_scores[metric]) > 0
    accuracy = epoch.metrics.get("valid_accuracy") if epoch else None
    majority = created.majority_accuracy if created else None
    return None if accuracy is None or majority is None else accuracy > majority
