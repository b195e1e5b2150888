"""What a person sees while a search runs: a live table on a terminal, plain lines elsewhere.

A view is one more reader of the ledger's events; it never changes anything.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import (
    Event,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment


class View(Protocol):
    """Shows what happens. All methods are called from the driver's main thread."""

    def stage(self, text: str) -> None:
        """Say what is being done before trials run."""

    def tell(self, line: str) -> None:
        """Say what happened, in one line that stays."""

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Say how far a stage of the data's preparation is; total None: unknown."""

    def running(
        self, folder: Experiment, config: SearchConfig, state: ExperimentState
    ) -> AbstractContextManager[None]:
        """Show the search while the context is open."""

    def event(self, event: Event, state: ExperimentState) -> None:
        """Take in an event that is on the disk and in the state."""


class SilentView:
    """Shows nothing."""

    def stage(self, text: str) -> None:
        """Show nothing."""

    def tell(self, line: str) -> None:
        """Show nothing."""

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Show nothing."""

    def running(
        self,
        folder: Experiment,  # noqa: ARG002
        config: SearchConfig,  # noqa: ARG002
        state: ExperimentState,  # noqa: ARG002
    ) -> AbstractContextManager[None]:
        """Show nothing."""
        return nullcontext()

    def event(self, event: Event, state: ExperimentState) -> None:
        """Show nothing."""
