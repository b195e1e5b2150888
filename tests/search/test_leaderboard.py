from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from search import folder as folders
from search import leaderboard as frame_of
from search.errors import ConfigError
from search.events import ExperimentCreated, TrialCreated, TrialFailed
from search.leaderboard import FORMATS, render, rows
from search.ledger import Ledger
from search.state import ExperimentState
from tests.search.support import make_conductor, make_config, steps


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = folders.reserve_name("demo", tmp_path)
    folders.create(folder, make_config(), ExperimentCreated(at=1.0, fingerprint="f"))
    with Ledger(folder.ledger) as ledger:
        list(steps(make_conductor(make_config(), ledger)))
        ledger.append(TrialCreated(at=1.0, number=12, params={"cell": "a|b"}, max_epochs=4))
        ledger.append(TrialFailed(at=1.0, number=12, error='it broke, "badly"\nat once'))
    return tmp_path


@pytest.fixture
def table(storage: Path) -> list[dict[str, Any]]:
    return rows(folders.find("demo", storage).state(), "valid_accuracy")


def test_the_best_epoch_ranks(table: list[dict[str, Any]]) -> None:
    ranked = [row for row in table if row["rank"] is not None]
    accuracies = [row["valid_accuracy"] for row in ranked]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [row["rank"] for row in ranked] == list(range(1, 13))
    assert ranked[0]["status"] == "completed"
    assert ranked[0]["best_epoch"] == ranked[0]["epochs"] == 4
    assert ranked[0]["seconds"] == 2.0


def test_a_failed_trial_comes_last_with_its_error(table: list[dict[str, Any]]) -> None:
    assert table[-1]["rank"] is None
    assert table[-1]["status"] == "failed"
    assert table[-1]["error"].startswith("it broke")
    assert table[0]["error"] is None


def test_only_the_top_is_given(storage: Path) -> None:
    state = folders.find("demo", storage).state()
    assert [row["rank"] for row in rows(state, "valid_loss", 3)] == [1, 2, 3]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_every_trial(form: str, table: list[dict[str, Any]]) -> None:
    drawn = render(table, form)
    if isinstance(drawn, Table):
        console = Console(width=200, file=io.StringIO())
        console.print(drawn)
        assert isinstance(console.file, io.StringIO)
        drawn = console.file.getvalue()
        assert drawn.count("\n") >= 13
    for row in table:
        assert str(row["trial"]) in drawn
    assert "failed" in drawn


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_bears_an_empty_search(form: str) -> None:
    render(rows(ExperimentState(), "valid_accuracy"), form)


def test_csv_and_json_keep_every_digit(table: list[dict[str, Any]]) -> None:
    text = render(table, "csv")
    assert isinstance(text, str)
    read = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["learning_rate"] or 0) for row in read[:12]] == [
        row["learning_rate"] for row in table[:12]
    ]
    assert read[-1]["error"] == table[-1]["error"]
    text = render(table, "json")
    assert isinstance(text, str)
    assert json.loads(text) == table


def test_a_cell_can_not_break_the_markdown(table: list[dict[str, Any]]) -> None:
    text = render(table, "md")
    assert isinstance(text, str)
    lines = text.splitlines()
    assert len(lines) == 2 + len(table)
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_an_unknown_format_is_told() -> None:
    with pytest.raises(ConfigError, match=r"'xls' is not a format. .*Allowed: table, md, csv"):
        render([], "xls")


def test_python_gets_a_data_frame(storage: Path, table: list[dict[str, Any]]) -> None:
    frame = frame_of("demo", storage=storage, top=5)
    assert list(frame["trial"]) == [row["trial"] for row in table[:5]]
