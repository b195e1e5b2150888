from __future__ import annotations

import io
import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from celltune.search.cli.views import LiveView, PlainView
from celltune.search.errors import OptionError
from celltune.search.interactive import notebook_view
from celltune.search.interactive.notebook_view import NotebookView
from celltune.search.interactive.showing import in_notebook, shown
from celltune.search.runs.view import SilentView

Patch = pytest.MonkeyPatch


def pretend_ipython(patch: Patch, shell: Any) -> None:
    patch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("shell", "expected"),
    [(None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=object()), True)],
)
def test_only_the_shell_of_a_kernel_is_a_notebook(
    shell: Any, expected: bool, monkeypatch: Patch
) -> None:
    pretend_ipython(monkeypatch, shell)
    assert in_notebook() is expected


def test_scripts_stay_quiet_unless_they_ask_for_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: Patch
) -> None:
    pretend_ipython(monkeypatch, None)
    with shown("auto") as view:
        assert type(view) is SilentView
    with shown(None) as view:
        assert type(view) is SilentView
    with shown("lines") as view:
        assert type(view) is PlainView
        view.message("one")
    assert capsys.readouterr().out == "one\n"


def test_a_terminal_shows_a_live_table_whose_bars_are_removed_at_the_end(
    monkeypatch: Patch,
) -> None:
    pretend_ipython(monkeypatch, None)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with suppress(KeyboardInterrupt), shown("auto") as view:
        assert isinstance(view, LiveView)
        view.progress("read", 1, None)
        raise KeyboardInterrupt
    written = terminal.getvalue()
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1


def test_a_notebook_shows_the_output_of_a_cell(monkeypatch: Patch) -> None:
    pretend_ipython(monkeypatch, SimpleNamespace(kernel=object()))
    outputs: list[str] = []
    monkeypatch.setattr(notebook_view, "cell_output", lambda: outputs.append)
    with shown("auto") as view:
        assert isinstance(view, NotebookView)
        view.message("one")
        view.stage("Starting")
    assert "Starting ..." in outputs[-2]
    assert outputs[-1].endswith(">one</div>")


def test_a_view_is_used_as_it_is() -> None:
    own = SilentView()
    with shown(own) as view:
        assert view is own


def test_an_unknown_view_is_rejected() -> None:
    with (
        pytest.raises(OptionError, match=r"`view` is 'table'. It must be 'auto', 'lines', None or"),
        shown("table"),  # type: ignore[arg-type]
    ):
        pass
