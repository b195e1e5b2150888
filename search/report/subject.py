"""The experiment that a report describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import Event
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.ranking import ranking_of
from celltune.search.storage.base import Experiment


@dataclass(frozen=True)
class Subject:
    """What a report describes: the config, events and state of one experiment."""

    name: str
    config: SearchConfig
    events: Sequence[Event]
    state: ExperimentState
    running: bool = False

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The leaderboard."""
        return ranking_of(self.config, self.state, running=self.running)


def read_subject(folder: Experiment) -> Subject:
    """Read an experiment for a report; works while the search runs.

    Raises:
        LedgerError: the ledger is damaged.
    """
    now = folder.snapshot()
    return Subject(now.name, now.config, now.events, now.state, now.running)
