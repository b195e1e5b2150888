"""The state machine of a search: which trial runs next, which trials continue, when it ends.

Every decision is made here and recorded in the ledger; there is no Ray, no thread and no process,
and the clock is an argument. The engine in `search.cluster` passes the reports of running trials to
the controller and carries out its decisions. A resumed controller replays the ledger through the
same methods, so an interrupted search decides like an uninterrupted one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.causes import CAUSES, Cause
from celltune.search.ledger.events import (
    BaselineValidated,
    BudgetChanged,
    EndReason,
    EpochReported,
    Event,
    RunEnded,
    RunStarted,
    TrialCreated,
    TrialFailed,
    TrialStopped,
    WorkerLost,
)
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.storage.snapshot import with_budget
from celltune.search.tuning.base import make_rule, make_sampler
from celltune.search.tuning.first_trials import (
    as_failed,
    given_by_config,
    is_withheld,
    seen_by_sampler,
)
from celltune.search.tuning.packing import PackShape, ShapePlanner
from celltune.search.tuning.stopping import (
    SearchEnd,
    end_reason,
    no_new_trials_reason,
    stagnates,
)
from celltune.search.tuning.untried import Untried, planned_trials
from celltune.search.types import EpochReport, ParameterValue, is_wide_only, max_epochs_of

Observer = Callable[[Event, ExperimentState], None]
"""Is called with each event after it was written to the ledger and applied to the state."""


@dataclass(frozen=True)
class Assignment:
    """A trial for a worker to train."""

    number: int
    params: dict[str, ParameterValue]
    max_epochs: int
    checkpoints: tuple[str, ...]
    """Names of the recorded checkpoints, the newest first; empty for a new trial."""
    alone: bool = False
    """True if no other trial may share the worker: this is the wide part alone, or the last retry
    of a trial that lost its workers, possibly due to another trial."""


class SearchController:
    """The state machine of a search.

    Invariants: an event is in the ledger before it takes effect; a trial is assigned to one worker
    at a time; a trial that ended is never assigned again.

    Attributes:
        state: the experiment's state after the last event.
        sampler: the sampler that proposes hyperparameters.
    """

    def __init__(
        self,
        config: SearchConfig,
        ledger: Ledger,
        *,
        clock: Callable[[], float],
        trials_per_worker: int = 1,
    ) -> None:
        """Restore the search from the ledger.

        Args:
            config: the experiment's config.
            ledger: the experiment's ledger, open for writing.
            clock: returns the seconds since 1970, for the events' time stamps.
            trials_per_worker: the maximum number of trials that a worker trains together; above 1,
                the sampler must pass `packing.check_sampler`.
        """
        self.state = ExperimentState(ledger)
        self._config = config = with_budget(config, self.state)
        self._packed = trials_per_worker > 1
        self._ledger = ledger
        self._clock = clock
        self._observers: list[Observer] = []
        prior = tuple(self.state.prior.trials) if self.state.prior else ()
        self.sampler = make_sampler(config, prior)
        self._rule = make_rule(config)
        self._end_interrupted(self._replay_rule())
        self.sampler.replay(seen_by_sampler(config, self.state))
        self._planner = ShapePlanner(config, self.state, trials_per_worker)
        self._untried = Untried(config, self.state)
        self._waiting = deque(t.number for t in self.state.trials if t.status == "unfinished")

    def observe(self, observer: Observer) -> None:
        """Call `observer` with every event from now on."""
        self._observers.append(observer)

    def start(
        self, *, celltune: str, host: str, pid: int, versions: Mapping[str, str] | None = None
    ) -> None:
        """Record the start of a run.

        Args:
            celltune: the version of celltune.
            host: the name of the driver's machine.
            pid: the driver's process id.
            versions: versions of Python and of the libraries that affect results.
        """
        self._record(
            RunStarted(
                at=self._clock(),
                resumed=self.state.run is not None,
                celltune=celltune,
                host=host,
                pid=pid,
                versions=dict(versions or {}),
            )
        )

    def record_baseline(self, event: BaselineValidated) -> None:
        """Record the score of a baseline, on which no decision of the search depends."""
        self._record(event)

    def end(self, reason: EndReason) -> None:
        """Record the end of a run."""
        self._record(RunEnded(at=self._clock(), reason=reason))

    @property
    def end_reason(self) -> SearchEnd | None:
        """The reason why the search has ended; None while trials run or wait."""
        return end_reason(self._config, self.state)

    def next(self, shape: PackShape | None = None) -> Assignment | None:
        """Return the next trial to train; None if there is none at the moment.

        Unfinished trials come first, then new ones. A new trial is recorded in the ledger before
        it is returned.

        Args:
            shape: the shape that the trial must have, which is the shape of an earlier trial; None
                for any shape. With a shape, None is also returned if no further trial of this shape
                should start now; the worker then asks without a shape when its trials have ended.
        """
        waiting = self._take_waiting(shape)
        if waiting is not None:
            return self._assignment(self.state.trials[waiting])
        if no_new_trials_reason(self._config, self.state):
            return None
        number = len(self.state.trials)
        first = given_by_config(self._config, number)
        if shape is not None and not self._planner.continues(shape, first):
            return None
        given = None
        if first is not None or shape is not None or self._packed:
            given = self._planner.given(shape, first)
        if given and first is None and not self._untried.allows(given):
            if shape is not None:
                return None
            given = {}  # The shape was drawn at random.
        self._create(number, self._untried.propose(self.sampler, number, given))
        return self._assignment(self.state.trials[number])

    def _create(self, number: int, params: dict[str, ParameterValue]) -> None:
        epochs = max_epochs_of(params, self._config.budget.max_epochs)
        self._record(
            TrialCreated(at=self._clock(), number=number, params=params, max_epochs=epochs)
        )
        trial = self.state.trials[number]
        if is_withheld(self._config, trial):
            self.sampler.finish(as_failed(trial, self._config.space))

    @property
    def trials_to_start(self) -> int:
        """Number of trials that wait for a worker, or that the budget allows to create."""
        planned = planned_trials(self._config, self.state)
        return len(self._waiting) + planned - len(self.state.trials)

    def report(self, number: int, reports: Sequence[EpochReport]) -> bool:
        """Record finished epochs of one trial; see `report_together`.

        Args:
            number: the trial's number.
            reports: the epochs, in their order.

        Returns:
            True if the trial continues, False if it has ended.
        """
        return number not in self.report_together({number: reports})

    def report_together(self, reports: Mapping[int, Sequence[EpochReport]]) -> set[int]:
        """Record finished epochs of the trials of a worker with a single write to the ledger.

        A crash leaves all or none of them in the ledger, so that the trials stay in step. Epochs
        that the ledger already holds are skipped: a trial that was restored from an older
        checkpoint repeats them with the same metrics. Epochs after the one that ends a trial are
        skipped too.

        Args:
            reports: the epochs of each trial, in their order, by the trial's number.

        Returns:
            The numbers of the trials that have ended.
        """
        events = [
            event
            for number, epochs in reports.items()
            for event in self._decide(self.state.trials[number], epochs)
        ]
        if not events:
            return set()
        self._record(*events)
        for event in events:
            if is_withheld(self._config, self.state.trials[event.number]):
                continue
            if isinstance(event, EpochReported):
                value = event.metrics[self._config.metric]
                self.sampler.report(event.number, event.epoch, value)
            else:
                self.sampler.finish(self.state.trials[event.number])
        return {event.number for event in events if isinstance(event, TrialStopped)}

    def _decide(
        self, trial: TrialRecord, reports: Sequence[EpochReport]
    ) -> list[EpochReported | TrialStopped]:
        """Return the events that result from finished epochs of a trial."""
        events: list[EpochReported | TrialStopped] = []
        values = self._values(trial)
        for report in reports:
            if report.epoch > trial.epochs_done:
                event = self._epoch_event(trial.number, report)
                events.append(event)
                values.append(event.metrics[self._config.metric])
                outcome = self._outcome(trial, values, self._continues(event))
                if outcome is not None:
                    return [*events, TrialStopped(at=event.at, number=trial.number, reason=outcome)]
        return events

    def fail(self, number: int, error: str, details: str = "") -> None:
        """Record that a trial has failed.

        Args:
            number: the trial's number.
            error: the reason, in one sentence.
            details: the traceback, if there is one.
        """
        self._record(TrialFailed(at=self._clock(), number=number, error=error, details=details))
        trial = self.state.trials[number]
        if not is_withheld(self._config, trial):
            self.sampler.finish(trial)

    def retry_or_fail(
        self, numbers: Sequence[int], cause: Cause, error: str, details: str = ""
    ) -> None:
        """Put trials that lost their worker back in the queue; fail those without retries left.

        Their events have the same time, by which `ExperimentState` recognizes a worker.

        Args:
            numbers: the numbers of the trials of the worker.
            cause: why the worker was lost.
            error: the reason, in one sentence.
            details: the traceback, if there is one.
        """
        at = self._clock()
        for number in numbers:
            losses = self.state.trials[number].losses
            if losses >= self._config.retries:
                self.fail(number, _no_retries_left(losses + 1, cause, error), details)
                continue
            self._record(
                WorkerLost(at=at, number=number, error=error, cause=cause, details=details)
            )
            self._waiting.append(number)

    def _take_waiting(self, shape: PackShape | None) -> int | None:
        """Remove and return the first waiting trial, of a shape if one is given."""
        for number in self._waiting:
            if shape is None or self._may_join(number, shape):
                self._waiting.remove(number)
                return number
        return None

    def _may_join(self, number: int, shape: PackShape) -> bool:
        alone = self._trains_alone(self.state.trials[number])
        return not alone and self._planner.shape(number) == shape

    def _trains_alone(self, trial: TrialRecord) -> bool:
        last_retry = 0 < trial.losses >= self._config.retries
        return self._packed and (last_retry or is_wide_only(trial.params))

    def _record(self, *events: Event) -> None:
        self._ledger.append(*events)
        for event in events:
            self.state.apply(event)
            for observer in self._observers:
                observer(event, self.state)

    def _assignment(self, trial: TrialRecord) -> Assignment:
        newest_first = reversed(trial.epochs)
        names = tuple(epoch.checkpoint for epoch in newest_first if epoch.checkpoint is not None)
        return Assignment(
            trial.number, dict(trial.params), trial.max_epochs, names, self._trains_alone(trial)
        )

    def _epoch_event(self, number: int, report: EpochReport) -> EpochReported:
        return EpochReported(
            at=self._clock(),
            number=number,
            epoch=report.epoch,
            metrics=report.metrics,
            checkpoint=report.checkpoint,
        )

    def _continues(self, event: EpochReported) -> bool:
        if is_wide_only(self.state.trials[event.number].params):
            return True  # It was not trained, so no trial is compared with it.
        return self._rule is None or self._rule.take(event.number, event.epoch, event.metrics)

    def _values(self, trial: TrialRecord) -> list[float]:
        return [epoch.metrics[self._config.metric] for epoch in trial.epochs]

    def _outcome(
        self, trial: TrialRecord, values: Sequence[float], continues: bool
    ) -> Literal["completed", "pruned"] | None:
        """Return how a trial ends after its last epoch; None if it continues.

        Args:
            trial: the trial.
            values: the metric after each of its epochs.
            continues: whether the early-stopping rule lets it continue.
        """
        patience = self._config.budget.epoch_patience
        if len(values) >= trial.max_epochs or stagnates(values, self._config.metric, patience):
            return "completed"
        return None if continues else "pruned"

    def _replay_rule(self) -> dict[int, bool]:
        """Replay the early-stopping rule; return whether each trial continues, by number."""
        continues: dict[int, bool] = {}
        for event in self._ledger:
            if isinstance(event, EpochReported):
                continues[event.number] = self._continues(event)
            elif isinstance(event, BudgetChanged):
                continues.update(dict.fromkeys([*event.extended, *event.retried], True))
        return continues

    def _end_interrupted(self, continues: Mapping[int, bool]) -> None:
        """End the trials whose last epoch was recorded, but not the end that it caused."""
        for trial in self.state.trials:
            if trial.status == "unfinished" and trial.epochs:
                outcome = self._outcome(trial, self._values(trial), continues[trial.number])
                if outcome is not None:
                    self._record(
                        TrialStopped(at=self._clock(), number=trial.number, reason=outcome)
                    )


def _no_retries_left(losses: int, cause: Cause, error: str) -> str:
    retries = losses - 1
    if retries == 0:
        return error
    times = "once" if retries == 1 else f"{retries} times"
    return (
        f"The trial was retried {times} and failed, the last time because {CAUSES[cause]}: {error}"
    )
