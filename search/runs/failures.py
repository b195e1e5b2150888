"""What went wrong in the trials of an experiment, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celltune.search.ledger.causes import CAUSES
from celltune.search.ledger.events import BudgetChanged, Event, TrialFailed, WorkerLost


@dataclass(frozen=True)
class Failure:
    """A failure of a trial, the loss of its worker, or a retry that a user requested."""

    number: int
    at: float
    """Seconds since 1970."""
    summary: str
    """What happened, in one sentence."""
    details: str = ""
    """The traceback; empty if there is none."""


def failures(events: Sequence[Event], number: int | None = None) -> list[Failure]:
    """Return the failures of all trials, or of one.

    Args:
        events: all events of a ledger.
        number: the trial; None for all.
    """
    found: list[Failure] = []
    for event in events:
        if isinstance(event, TrialFailed):
            found.append(Failure(event.number, event.at, f"failed: {event.error}", event.details))
        elif isinstance(event, WorkerLost):
            summary = f"lost its worker, because {CAUSES[event.cause]}: {event.error}"
            found.append(Failure(event.number, event.at, summary, event.details))
        elif isinstance(event, BudgetChanged):
            found += [Failure(n, event.at, "was retried by a resume.") for n in event.retried]
    return [failure for failure in found if number is None or failure.number == number]
