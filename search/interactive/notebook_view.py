"""Progress of a search in a notebook: one output of the cell, which is updated in place."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import ConsoleDimensions, Group

from celltune.search.cli.live_table import drawing
from celltune.search.cli.output import TextConsole
from celltune.search.cli.views import STAGES
from celltune.search.config.schema import SearchConfig
from celltune.search.escaping import html_text
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.view import SilentView
from celltune.search.storage.base import Experiment

Show = Callable[[str], None]
"""Shows HTML in the output of the cell, in the place of what it showed before."""

HINT = "Interrupting the kernel stops cleanly; all progress shown here is saved"
_SECONDS = 0.5
"""Shortest time between two updates: each one is stored in the notebook and drawn by a browser."""
_MESSAGES = 20
"""Messages that remain visible; a long search could have any number."""
_SIZE = ConsoleDimensions(width=110, height=24)
_PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.3;'
    'font-family:Menlo,Consolas,monospace;margin:0">{code}</pre>'
)
_MESSAGE = '<div style="white-space:pre-wrap">'
_SOFT = '<div style="opacity:.65">'


def cell_output() -> Show:
    """Return a function that shows HTML in the output of the cell that runs now."""
    from IPython.display import HTML, display

    handle: Any = None

    def show(html: str) -> None:
        nonlocal handle
        if handle is None:
            handle = display(HTML(html), display_id=True)
        else:
            handle.update(HTML(html))

    return show


class NotebookView(SilentView):
    """Shows messages, the stage, the progress of the preparation, and the table of a search."""

    def __init__(self, show: Show, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet.

        Args:
            show: see `cell_output`.
            clock: monotonic time in seconds.
        """
        self._show = show
        self._clock = clock
        self._shown_at = float("-inf")
        self._messages: list[str] = []
        self._stage = ""
        self._progress: dict[str, tuple[int, int | None]] = {}
        self._draw: Callable[[], Group] | None = None

    def stage(self, text: str) -> None:
        """Show the name of a stage in the place of the previous one."""
        self._stage = text and f"{text} ..."
        self._progress.clear()
        self._update(at_once=True)

    def message(self, line: str) -> None:
        """Add a line above the table."""
        self._messages = [*self._messages, line][-_MESSAGES:]
        self._update(at_once=True)

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Draw one progress bar per stage."""
        self._progress[STAGES.get(stage, stage)] = (done, total)
        self._update()

    @contextmanager
    def running(
        self, experiment: Experiment, config: SearchConfig, state: ExperimentState
    ) -> Iterator[None]:
        """Draw the search until the context exits; its last drawing remains."""
        start = self._clock()

        def draw(hint: str = HINT) -> Group:
            seconds = self._clock() - start
            return drawing(experiment, config, state, seconds, size=_SIZE, hint=hint)

        self._draw = draw
        self.stage("")
        try:
            yield
        finally:
            last = draw(f"Results are in {experiment.location}")
            self._draw = lambda: last
            self.stage("")

    def close(self) -> None:
        """Remove the stage and the progress bars; messages and the table remain."""
        if self._stage or self._progress:
            self.stage("")

    def tick(self) -> None:
        """Draw the search again, unless it was drawn a moment ago."""
        self._update()

    def _update(self, *, at_once: bool = False) -> None:
        now = self._clock()
        if at_once or now - self._shown_at >= _SECONDS:
            self._shown_at = now
            self._show(self._html())

    def _html(self) -> str:
        parts = [f"{_MESSAGE}{html_text(line)}</div>" for line in self._messages]
        if self._draw is not None:
            parts.append(_drawn_as_html(self._draw()))
        if self._stage:
            parts.append(f"{_SOFT}{html_text(self._stage)}</div>")
        for name, (done, total) in self._progress.items():
            limits = "" if total is None else f' value="{done}" max="{total}"'
            parts.append(f"{_SOFT}{html_text(name)} <progress{limits}></progress> {done:,}</div>")
        return "\n".join(parts)


def _drawn_as_html(group: Group) -> str:
    console = TextConsole(
        record=True,
        file=io.StringIO(),
        width=_SIZE.width,
        height=_SIZE.height,
        color_system="truecolor",
        force_terminal=True,
        force_jupyter=False,
    )
    console.print(group)
    return console.export_html(inline_styles=True, code_format=_PRE)
