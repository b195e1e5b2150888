"""Interface through which a run reports its progress to a user interface.

A view only reads events; it does not influence the run.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import Event
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment


class View(Protocol):
    """Display of a run.

    All methods are called from the driver's main thread, and must return quickly.
    """

    def stage(self, text: str) -> None:
        """Show what the run does now, such as "Starting a local Ray cluster"."""

    def message(self, line: str) -> None:
        """Show one line of output that remains visible."""

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Show how many steps of a stage are done; `total` is None if it is unknown."""

    def running(
        self, experiment: Experiment, config: SearchConfig, state: ExperimentState
    ) -> AbstractContextManager[None]:
        """Return a context manager that shows the search while it is open.

        `state` changes while the search runs; a view may read it at any time.
        """

    def event(self, event: Event, state: ExperimentState) -> None:
        """Show an event that has been written to the ledger and applied to the state."""

    def tick(self) -> None:
        """Show the time that passed. Is called several times a second while trials run."""


class SilentView:
    """View that shows nothing; a base class for views that show a part."""

    def stage(self, text: str) -> None:
        """Ignore the stage."""

    def message(self, line: str) -> None:
        """Ignore the line."""

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Ignore the progress."""

    def running(
        self,
        experiment: Experiment,  # noqa: ARG002
        config: SearchConfig,  # noqa: ARG002
        state: ExperimentState,  # noqa: ARG002
    ) -> AbstractContextManager[None]:
        """Return a context manager that does nothing."""
        return nullcontext()

    def event(self, event: Event, state: ExperimentState) -> None:
        """Ignore the event."""

    def tick(self) -> None:
        """Ignore the time."""
