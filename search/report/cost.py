"""What a search came to, in numbers that say how sure they are. Pure: no files, no plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celltune.search.ledger.events import Event, RunEnded, RunStarted
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.ranking import training_seconds


@dataclass(frozen=True)
class Cost:
    """What a search took, and what it would have taken without early stopping."""

    epochs: int
    """That were trained."""
    seconds: float
    """That trials trained and validated, added up over all workers."""
    saved_epochs: int
    """That pruned trials had left of their budget."""
    saved_seconds: float
    """An estimate: those epochs, each as long as the mean of its trial's own."""
    wall_seconds: float
    """From each driver's start to its end or its last sign of life, added up."""

    @property
    def saved_share(self) -> float:
        """Of the whole that training every pruned trial to its end would have taken; 0 to 1."""
        whole = self.seconds + self.saved_seconds
        return self.saved_seconds / whole if whole else 0.0


def cost(state: ExperimentState, events: Sequence[Event]) -> Cost:
    """Add up what a search took.

    Args:
        state: of the experiment.
        events: of its ledger, in their order.
    """
    saved_epochs, saved_seconds = 0, 0.0
    for trial in state.trials:
        if trial.status == "pruned" and trial.epochs:
            left = trial.max_epochs - trial.epochs_done
            saved_epochs += left
            saved_seconds += left * training_seconds(trial.epochs) / trial.epochs_done
    return Cost(
        epochs=sum(trial.epochs_done for trial in state.trials),
        seconds=sum(training_seconds(trial.epochs) for trial in state.trials),
        saved_epochs=saved_epochs,
        saved_seconds=saved_seconds,
        wall_seconds=_wall_seconds(events),
    )


def _wall_seconds(events: Sequence[Event]) -> float:
    begun: float | None = None
    last = total = 0.0
    for event in events:
        if isinstance(event, RunStarted):
            # What a killed driver took ends with the last thing that it wrote.
            total += last - begun if begun is not None else 0.0
            begun = event.at
        last = event.at
        if isinstance(event, RunEnded) and begun is not None:
            total += last - begun
            begun = None
    return total + (last - begun if begun is not None else 0.0)
