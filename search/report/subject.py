"""The experiment that a report describes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import Event
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.ranking import rows
from celltune.search.storage import base as folders
from celltune.search.storage.base import ExperimentFolder
from celltune.search.storage.snapshot import with_budget

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Subject:
    """What a report is about."""

    name: str
    config: SearchConfig
    events: Sequence[Event]
    state: ExperimentState
    running: bool = False
    figures: list[str] = field(default_factory=list)
    """Names of the figures drawn so far."""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The leaderboard."""
        return rows(self.state, self.config.metric, running=self.running)

    def figure(self, drawn: Figure, name: str, caption: str) -> str:
        """Give a figure as HTML; `caption` says in words what is seen, also to those who can't."""
        import plotly.io

        drawn.update_layout(
            template="plotly_white",
            margin_t=60,
            legend={"orientation": "h", "yref": "container", "y": 1, "yanchor": "top"},
            font={"family": "system-ui, sans-serif", "size": 13},
        )
        self.figures.append(name)
        shown = plotly.io.to_html(
            drawn,
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{len(self.figures)}",
            config={"displaylogo": False, "responsive": True, "displayModeBar": False},
        )
        label = html.escape(f"{name}. {caption}", quote=True)
        return (
            f'<figure><div role="img" aria-label="{label}">{shown}</div>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )


def subject_of(folder: ExperimentFolder) -> Subject:
    """Read what a report is about; works while the search runs.

    Raises:
        LedgerError: the ledger is damaged.
    """
    running = folder.is_locked()
    events = folder.events()
    state = folders.state_of(folder.where, events)
    return Subject(folder.name, with_budget(folder.config(), state), events, state, running)
