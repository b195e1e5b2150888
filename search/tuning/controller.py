"""Decides what is tried next and which trials go on, and writes all of it into the ledger.

Pure decisions over an injected clock: no Ray, no thread, no process. The engine brings the
reports of running trials and carries out the answers. Live and after a resume the same methods
run over the same events, so a search that was cut decides like one that never was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import (
    CAUSES,
    BudgetChanged,
    Cause,
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
from celltune.search.tuning.asha import make_rungs
from celltune.search.tuning.stopping import SearchEnd, end_reason, no_new_trials_reason
from celltune.search.tuning.tpe import TPESampler
from celltune.search.types import EpochReport, ParameterValue

if TYPE_CHECKING:
    from optuna import Study

Observer = Callable[[Event, ExperimentState], None]
"""Is shown each event after it is on the disk and in the state."""


@dataclass(frozen=True)
class Assignment:
    """A trial that waits for a worker."""

    number: int
    params: dict[str, ParameterValue]
    max_epochs: int
    checkpoints: tuple[str, ...]
    """Acknowledged checkpoints, the newest first; empty for a new trial."""


class SearchController:
    """The state machine of a search.

    Invariants: an event is in the ledger before it has any effect; a trial is assigned to one
    worker at a time; a trial that ended is never assigned again.
    """

    def __init__(self, config: SearchConfig, ledger: Ledger, *, clock: Callable[[], float]) -> None:
        """Bring everything to where the ledger ends.

        Args:
            config: of the experiment.
            ledger: open for writing.
            clock: seconds since 1970, to stamp events with.
        """
        self.state = ExperimentState(ledger)
        self._config = config = with_budget(config, self.state)
        self._ledger = ledger
        self._clock = clock
        self._observers: list[Observer] = []
        self._tpe = TPESampler(
            config.space,
            metric=config.metric,
            seed=config.seed,
            startup_trials=config.sampler.startup_trials,
            prior=self.state.prior.trials if self.state.prior else (),
        )
        self._rungs = make_rungs(config)
        self._settle(self._replay())
        self._tpe.replay(self.state)
        self._waiting = deque(t.number for t in self.state.trials if t.status == "unfinished")

    def observe(self, observer: Observer) -> None:
        """Show every later event to `observer`."""
        self._observers.append(observer)

    @property
    def study(self) -> Study:
        """The Optuna study that mirrors the ledger."""
        return self._tpe.study

    def start(
        self, *, celltune: str, host: str, pid: int, versions: Mapping[str, str] | None = None
    ) -> None:
        """Record that a driver takes up the experiment."""
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

    def end(self, reason: EndReason) -> None:
        """Record that the driver leaves in good order."""
        self._record(RunEnded(at=self._clock(), reason=reason))

    @property
    def end_reason(self) -> SearchEnd | None:
        """Why the search is over; None while anything goes on."""
        return end_reason(self._config, self.state)

    def next(self) -> Assignment | None:
        """Give the next trial to run: unfinished ones first, then new ones; None when none is left.

        A new trial is in the ledger when this returns.
        """
        if self._waiting:
            return self._assignment(self.state.trials[self._waiting.popleft()])
        if no_new_trials_reason(self._config, self.state):
            return None
        number = len(self.state.trials)
        params = self._tpe.propose(number)
        self._record(
            TrialCreated(
                at=self._clock(),
                number=number,
                params=params,
                max_epochs=self._config.budget.max_epochs,
            )
        )
        return self._assignment(self.state.trials[number])

    def report(self, number: int, reports: Sequence[EpochReport]) -> bool:
        """Take in a trial's finished epochs, in their order, with one write to the disk.

        What the ledger holds already (a trial had to go back to an older checkpoint) is read over:
        its numbers are the same. What comes after the epoch that ends the trial is left out.

        Returns:
            True if the trial trains on, False if it ended.
        """
        trial = self.state.trials[number]
        events: list[Event] = []
        outcome = None
        for report in reports:
            if report.epoch > trial.epochs_done and outcome is None:
                at = self._clock()
                event = EpochReported(
                    at=at,
                    number=number,
                    epoch=report.epoch,
                    metrics=report.metrics,
                    checkpoint=report.checkpoint,
                )
                events.append(event)
                outcome = self._outcome(trial, report.epoch, self._stands(event))
                if outcome is not None:
                    events.append(TrialStopped(at=at, number=number, reason=outcome))
        if events:
            self._record(*events)
        for recorded in events:
            if isinstance(recorded, EpochReported):
                value = recorded.metrics[self._config.metric]
                self._tpe.report(number, recorded.epoch, value)
        if outcome is not None:
            self._tpe.finish(trial)
        return outcome is None

    def fail(self, number: int, error: str, details: str = "") -> None:
        """Take in that a trial broke."""
        self._record(TrialFailed(at=self._clock(), number=number, error=error, details=details))
        self._tpe.finish(self.state.trials[number])

    def retry_or_fail(self, number: int, cause: Cause, error: str, details: str = "") -> None:
        """Take in that a trial lost its worker: it waits again, or has lost too many."""
        trial = self.state.trials[number]
        if trial.losses >= self._config.retries:
            self.fail(number, _given_up(trial.losses + 1, cause, error), details)
            return
        self._record(
            WorkerLost(at=self._clock(), number=number, error=error, cause=cause, details=details)
        )
        self._waiting.append(number)

    def _record(self, *events: Event) -> None:
        self._ledger.append(*events)
        for event in events:
            self.state.apply(event)
            for observer in self._observers:
                observer(event, self.state)

    def _assignment(self, trial: TrialRecord) -> Assignment:
        newest_first = reversed(trial.epochs)
        names = tuple(epoch.checkpoint for epoch in newest_first if epoch.checkpoint is not None)
        return Assignment(trial.number, dict(trial.params), trial.max_epochs, names)

    def _stands(self, event: EpochReported) -> bool:
        return self._rungs is None or self._rungs.take(event.number, event.epoch, event.metrics)

    def _outcome(
        self, trial: TrialRecord, epochs: int, stands: bool
    ) -> Literal["completed", "pruned"] | None:
        if epochs >= trial.max_epochs:
            return "completed"
        return None if stands else "pruned"

    def _replay(self) -> dict[int, bool]:
        """Rebuild the rungs; say of each trial whether it stood after its last epoch."""
        stands: dict[int, bool] = {}
        for event in self._ledger:
            if isinstance(event, EpochReported):
                stands[event.number] = self._stands(event)
            elif isinstance(event, BudgetChanged):
                stands.update(dict.fromkeys([*event.extended, *event.retried], True))
        return stands

    def _settle(self, stands: dict[int, bool]) -> None:
        """End the trials whose last epoch was written but not the end that followed from it."""
        for trial in self.state.trials:
            if trial.status == "unfinished" and trial.epochs:
                outcome = self._outcome(trial, trial.epochs_done, stands[trial.number])
                if outcome is not None:
                    self._record(
                        TrialStopped(at=self._clock(), number=trial.number, reason=outcome)
                    )


def _given_up(times: int, cause: Cause, error: str) -> str:
    if times == 1:
        return error
    return f"The trial was set back {times} times, at last because {CAUSES[cause]}: {error}"
