from __future__ import annotations

from pathlib import Path

import pytest

from celltune.search.interactive.notebook_view import NotebookView
from celltune.search.runs.view import View
from celltune.search.storage.local import LocalExperiment
from tests.search.hostile_text import EVERYTHING, assert_printable
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps


class Notebook:
    """An output of a cell, and a clock."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.now = 0.0
        self.view: View = NotebookView(self.shown.append, lambda: self.now)


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def test_messages_stay_while_stages_and_progress_are_replaced(notebook: Notebook) -> None:
    notebook.view.stage("Starting a local Ray cluster")
    notebook.view.message("One line.")
    notebook.now = 1.0
    notebook.view.progress("read", 10, 40)
    assert ">One line.</div>" in notebook.shown[-1]
    assert "Starting a local Ray cluster ..." in notebook.shown[-1]
    assert 'Reading documents <progress value="10" max="40"></progress> 10' in notebook.shown[-1]
    notebook.now = 2.0
    notebook.view.progress("tokenize", 1000, None)
    assert "<progress></progress> 1,000" in notebook.shown[-1]
    notebook.view.stage("Searching")
    assert "One line." in notebook.shown[-1]
    assert "Starting" not in notebook.shown[-1]
    assert "progress" not in notebook.shown[-1]


def test_only_the_last_messages_remain(notebook: Notebook) -> None:
    for number in range(30):
        notebook.view.message(f"line {number}.")
    assert "line 9." not in notebook.shown[-1]
    assert "line 10." in notebook.shown[-1]


def test_updates_are_at_least_half_a_second_apart(notebook: Notebook) -> None:
    for tenth in range(50):
        notebook.now = tenth / 10
        notebook.view.progress("read", tenth, None)
    assert len(notebook.shown) == 10


def test_the_table_of_a_search_is_updated_and_remains(notebook: Notebook, tmp_path: Path) -> None:
    folder = LocalExperiment(tmp_path / "demo")
    folder.path.mkdir()
    with start_ledger(folder.ledger) as ledger:
        controller = make_controller(make_config(), ledger)
        controller.observe(notebook.view.event)
        with notebook.view.running(folder, make_config(), controller.state):
            assert "0 of 12 trials done" in notebook.shown[-1]
            assert "Interrupting the kernel stops cleanly" in notebook.shown[-1]
            list(steps(controller))
            assert "0 of 12 trials done" in notebook.shown[-1]
            notebook.now = 75.0
            notebook.view.tick()
            assert "12 of 12 trials done" in notebook.shown[-1]
            assert "1:15" in notebook.shown[-1]
            notebook.view.stage("Waiting up to 30 s for a linear baseline")
        assert "<pre " in notebook.shown[-1]
        assert "12 of 12 trials done" in notebook.shown[-1]
        assert f"Results are in {folder.location}" in notebook.shown[-1]
        assert "Interrupting" not in notebook.shown[-1]
        assert "Waiting" not in notebook.shown[-1]


def test_text_of_data_is_escaped(notebook: Notebook) -> None:
    notebook.view.message(EVERYTHING)
    notebook.view.stage(f"<script>{EVERYTHING}")
    notebook.now = 1.0
    notebook.view.progress(f"<b>{EVERYTHING}", 1, None)
    assert "<script>" not in notebook.shown[-1]
    assert "<b>" not in notebook.shown[-1]
    for line in notebook.shown[-1].split("\n"):
        assert_printable(line)
