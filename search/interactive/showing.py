"""Which view shows a run that a Python program started."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Literal

from celltune.printable import quoted
from celltune.search.errors import OptionError
from celltune.search.runs.view import SilentView, View

Shown = View | Literal["auto", "lines"] | None
"""A view, or what selects one: `auto` is a live table in a notebook and on a terminal, and nothing
elsewhere; `lines` prints a line per event; None shows nothing."""


@contextmanager
def shown(view: Shown) -> Iterator[View]:
    """Yield the view of a run, and remove what it left half drawn if the run fails.

    Raises:
        OptionError: there is no such view.
    """
    if not isinstance(view, str):
        yield view or SilentView()
        return
    if view not in ("auto", "lines"):
        raise OptionError(
            f"`view` is {quoted(view)}. It must be 'auto', 'lines', None or a view object."
        )
    if view == "lines":
        from celltune.search.cli.output import say
        from celltune.search.cli.views import PlainView

        yield PlainView(say)
    elif in_notebook():
        from celltune.search.interactive.notebook_view import NotebookView, cell_output

        with closing(NotebookView(cell_output())) as notebook, without_tqdm_warning():
            yield notebook
    elif sys.stdout is not None and sys.stdout.isatty():
        from celltune.search.cli.output import make_console
        from celltune.search.cli.views import LiveView

        with closing(LiveView(make_console())) as live:
            yield live
    else:
        yield SilentView()


def in_notebook() -> bool:
    """Return whether this code runs in a cell of a notebook, whose kernel has a display."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def without_tqdm_warning() -> Iterator[None]:
    """Suppress what tqdm says in a notebook when a library imports it: it draws no bar here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield
