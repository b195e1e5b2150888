"""An experiment at one moment, and the config that is in force then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celltune.search.config.schema import SearchConfig
from celltune.search.errors import LedgerError
from celltune.search.ledger.events import Event, ExperimentCreated
from celltune.search.ledger.state import ExperimentState


@dataclass(frozen=True)
class Snapshot:
    """An experiment at one moment."""

    name: str
    config: SearchConfig
    """The config in force: the launched one with the budget of the ledger."""
    events: Sequence[Event]
    """All events of the ledger."""
    state: ExperimentState
    """The state after the last event."""
    running: bool
    """True if a driver was running the experiment; False also if this was not checked."""


def with_budget(config: SearchConfig, state: ExperimentState) -> SearchConfig:
    """Return the config with the budget in force: the last one that the ledger records, if any."""
    if state.budget is None:
        return config
    changes = state.budget.model_dump(include={"trials", "max_epochs", "target", "patience"})
    if state.budget.repeat is not None:
        changes["repeat"] = state.budget.repeat
    return config.model_copy(update={"budget": config.budget.model_copy(update=changes)})


def first_event(events: Sequence[Event], location: str) -> ExperimentCreated:
    """Return the event that created an experiment.

    Args:
        events: all events of its ledger.
        location: the ledger's address, for messages.

    Raises:
        LedgerError: there is none.
    """
    if not events or not isinstance(events[0], ExperimentCreated):
        raise LedgerError(
            f"The ledger of {location} is empty, but even a new experiment has a first event. "
            "Restore the ledger from a copy, or remove the experiment."
        )
    return events[0]


def replay(events: Sequence[Event], location: str) -> ExperimentState:
    """Return the state after all events.

    Args:
        events: all events of a ledger.
        location: the ledger's address, for messages.

    Raises:
        LedgerError: there is no event, or one contradicts the events before it.
    """
    first_event(events, location)
    state = ExperimentState()
    for index, event in enumerate(events):
        try:
            state.apply(event)
        except ValueError as error:
            raise LedgerError(
                f"The ledger of {location} contradicts itself in line {index + 1}: {error}. "
                "Nothing was changed. Restore the ledger from a copy."
            ) from error
    return state
