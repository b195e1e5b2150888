"""The state of an experiment: a pure function of its ledger's events, in their order.

Nothing here knows Ray, torch, Optuna or the clock, so that reading results is instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from celltune.search.ledger.events import (
    BaselineReported,
    BudgetChanged,
    EpochReported,
    EvaluationFailed,
    EvaluationReported,
    Event,
    ExperimentCreated,
    RunEnded,
    RunStarted,
    TestSplitRead,
    TrialCreated,
    TrialFailed,
    TrialStopped,
    WarmStarted,
    WorkerLost,
)
from celltune.search.objective import sign
from celltune.search.types import Metric, ParameterValue

Status = Literal["unfinished", "completed", "pruned", "failed"]


@dataclass
class TrialRecord:
    """What is known of one trial."""

    number: int
    params: Mapping[str, ParameterValue]
    max_epochs: int
    created_at: float
    epochs: list[EpochReported] = field(default_factory=list)
    status: Status = "unfinished"
    error: str = ""
    details: str = ""
    losses: int = 0
    """How often it was set back since it began or was retried (see `events.Cause`)."""

    @property
    def epochs_done(self) -> int:
        """Epochs that count: acknowledged by the ledger."""
        return len(self.epochs)

    def best(self, metric: Metric) -> EpochReported | None:
        """The epoch with the best value, the earlier one of equals; None before the first."""
        return max(
            self.epochs,
            key=lambda epoch: (sign(metric) * epoch.metrics[metric], -epoch.epoch),
            default=None,
        )

    def best_value(self, metric: Metric) -> float | None:
        """The best value of the metric so far; None before the first epoch."""
        best = self.best(metric)
        return None if best is None else best.metrics[metric]


class ExperimentState:
    """Folds events into what they mean.

    Invariants: trial numbers are 0, 1, 2, ...; epochs of a trial are 1, 2, 3, ...; a trial that
    ended reports nothing more, unless a change of the budget let it go on. An event that breaks
    one is a ValueError and changes nothing.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        """Start from the beginning and apply `events`."""
        self.trials: list[TrialRecord] = []
        self.created: ExperimentCreated | None = None
        self.run: RunStarted | None = None
        self.ended: RunEnded | None = None
        self.budget: BudgetChanged | None = None
        self.prior: WarmStarted | None = None
        self.evaluations: list[EvaluationReported | EvaluationFailed] = []
        self.baselines: list[BaselineReported] = []
        self.test_reads = 0
        """How often the test split was read."""
        self.updated_at = 0.0
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in the next event.

        Raises:
            ValueError: the event can't follow what came before it.
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
            self._create(event)
        elif isinstance(event, TestSplitRead):
            self.test_reads += 1
        elif isinstance(event, BaselineReported):
            self.baselines.append(event)
        elif isinstance(event, (EvaluationReported, EvaluationFailed)):
            self._known(event.number)
            self.evaluations.append(event)
        else:
            self._continue(event)
        self.updated_at = event.at

    def _create(self, event: TrialCreated) -> None:
        if event.number != len(self.trials):
            raise ValueError(
                f"trial {event.number} can't be created, the next one is {len(self.trials)}"
            )
        self.trials.append(
            TrialRecord(event.number, dict(event.params), event.max_epochs, event.at)
        )

    def _known(self, number: int) -> TrialRecord:
        if not 0 <= number < len(self.trials):
            raise ValueError(f"trial {number} was never created")
        return self.trials[number]

    def _change_budget(self, event: BudgetChanged) -> None:
        extended = [self._reopenable(n, "unfinished", "completed") for n in event.extended]
        retried = [self._reopenable(n, "failed") for n in event.retried]
        for trial in [*extended, *retried]:
            trial.status, trial.max_epochs = "unfinished", event.max_epochs
        for trial in retried:
            trial.losses, trial.error, trial.details = 0, "", ""
        self.budget = event

    def _reopenable(self, number: int, *possible: Status) -> TrialRecord:
        trial = self._known(number)
        if trial.status not in possible:
            raise ValueError(f"trial {number} is {trial.status} and can't go on")
        return trial

    def _continue(self, event: EpochReported | TrialStopped | TrialFailed | WorkerLost) -> None:
        trial = self._known(event.number)
        if trial.status != "unfinished":
            raise ValueError(f"trial {event.number} is {trial.status} already")
        if isinstance(event, EpochReported):
            if event.epoch != trial.epochs_done + 1:
                raise ValueError(
                    f"trial {event.number} reports epoch {event.epoch} after {trial.epochs_done}"
                )
            trial.epochs.append(event)
        elif isinstance(event, TrialStopped):
            trial.status = event.reason
        elif isinstance(event, WorkerLost):
            trial.losses += 1
        else:
            trial.status, trial.error, trial.details = "failed", event.error, event.details

    def count(self, status: Status) -> int:
        """How many trials have this status."""
        return sum(trial.status == status for trial in self.trials)

    def finished(self, trials: int) -> bool:
        """Whether a budget of so many trials is used up and all of them ended."""
        return len(self.trials) >= trials and self.count("unfinished") == 0

    def ranked(self, metric: Metric) -> list[TrialRecord]:
        """Trials with at least one epoch, the best first; the earlier one of equals leads."""
        direction = sign(metric)

        def key(trial: TrialRecord) -> tuple[float, int]:
            value = trial.best_value(metric)
            return (float("inf") if value is None else -direction * value, trial.number)

        return sorted((trial for trial in self.trials if trial.epochs), key=key)
