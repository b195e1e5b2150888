"""What a search cost, and what early stopping saved. Pure: no files, no plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celltune.search.ledger.events import Event, RunEnded, RunStarted
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.ranking import training_seconds


@dataclass(frozen=True)
class Cost:
    """The cost of a search, and the estimated cost that early stopping avoided."""

    epochs: int
    """Trained epochs of all trials."""
    seconds: float
    """Training and validation time, summed over all workers."""
    saved_epochs: int
    """Epochs of their budget that trials which ended early did not train."""
    saved_seconds: float
    """Estimated time of these epochs, from the mean time of an epoch of the same trial."""
    wall_seconds: float
    """Wall-clock time of all runs; a killed run lasts until its last event."""

    @property
    def saved_fraction(self) -> float:
        """The fraction of the total time without early stopping that was saved, 0 to 1."""
        total = self.seconds + self.saved_seconds
        return self.saved_seconds / total if total else 0.0


def cost(state: ExperimentState, events: Sequence[Event]) -> Cost:
    """Return the cost of a search.

    Args:
        state: the state of the experiment.
        events: all events of its ledger, in order.
    """
    saved_epochs, saved_seconds = 0, 0.0
    for trial in state.trials:
        if trial.status in ("completed", "pruned") and trial.epochs:
            remaining = trial.max_epochs - trial.epochs_done
            saved_epochs += remaining
            saved_seconds += remaining * training_seconds(trial.epochs) / trial.epochs_done
    return Cost(
        epochs=sum(trial.epochs_done for trial in state.trials),
        seconds=sum(training_seconds(trial.epochs) for trial in state.trials),
        saved_epochs=saved_epochs,
        saved_seconds=saved_seconds,
        wall_seconds=_wall_seconds(events),
    )


def _wall_seconds(events: Sequence[Event]) -> float:
    started_at: float | None = None
    last_at = total = 0.0
    for event in events:
        if isinstance(event, RunStarted):
            # The previous run was killed: it has no end, so its last event counts.
            total += last_at - started_at if started_at is not None else 0.0
            started_at = event.at
        last_at = event.at
        if isinstance(event, RunEnded) and started_at is not None:
            total += last_at - started_at
            started_at = None
    return total + (last_at - started_at if started_at is not None else 0.0)
