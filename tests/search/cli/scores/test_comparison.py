from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from celltune.search.cli.scores.comparison import COLUMNS, describe_rest, render
from celltune.search.errors import OptionError
from celltune.search.evaluation.comparison import Comparison, compare
from celltune.search.evaluation.published_models import PublishedModel, Training
from celltune.search.results.tables import TextTable
from tests.search.evaluation.published import (
    load_one,
    record_epochs,
    record_result,
    write_config,
)


def cells_of(model: PublishedModel, seeds: int) -> dict[str, object]:
    drawn = render(compare([model], seeds=seeds).records, "table")
    assert isinstance(drawn, TextTable)
    assert [column.title for column in drawn.columns] == list(COLUMNS)
    return dict(zip(COLUMNS, drawn.rows[0], strict=True))


def test_every_format_contains_reported_and_measured_values(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path, scale=0.5)
    record_result(model)
    assert cells_of(model, seeds=1) == {
        "model": "old",
        "test accuracy": "90.00 % / 100.00 %",
        "difference": "+10.00 points",
        "seeds": "1",
        "cross-entropy": "- / -",
        "train accuracy": "- / 100.00 %",
        "parameters": "100 / 123,456",
        "time": "- / 0:01:15",
        "scale": "0.5",
        "data": "synthetic",
    }
    records = compare([model]).records
    assert "| old | 90.00 % / 100.00 % |" in str(render(records, "md"))
    assert "- The models were trained and tested on 50 % of" in str(render(records, "md"))
    assert json.loads(str(render(records, "json"))) == records
    (row,) = csv.DictReader(str(render(records, "csv")).splitlines())
    assert row["measured_seconds"] == "75.4"
    with pytest.raises(OptionError, match=r"'xls' is not a format.*table, md, csv, json"):
        render(records, "xls")


def test_table_has_the_spread_over_seeds(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    record_result(model, seed=1, correct=4)
    record_result(model, seed=2, correct=2)
    cells = cells_of(model, seeds=2)
    assert cells["test accuracy"] == "90.00 % / 75.00 ± 35.36 %"
    assert (cells["difference"], cells["seeds"]) == ("-15.00 points", "2")


def interrupted(*models: PublishedModel, reason: str | None = "interrupted") -> Comparison:
    """Return a comparison of models that have one seed or none."""
    finished = [model for model in models if model.results()]
    left = [Training(model, 1) for model in models if model not in finished]
    records = compare(finished).records if finished else []
    return Comparison(records, left, reason)  # type: ignore[arg-type]


def test_rest_of_a_stopped_comparison_names_the_epochs_done(tmp_path: Path) -> None:
    models = [load_one(write_config(tmp_path, name), tmp_path) for name in ("a", "b", "c")]
    record_result(models[0])
    record_epochs(models[1], [90.0])
    text = "\n".join(describe_rest(interrupted(*models), "celltune compare configs"))
    assert text == (
        "Interrupted. 1 of 3 trainings are done.\n"
        "Left: b with seed 1 (1 of 2 epochs done, about 90 s), c with seed 1.\n"
        "Continue with: celltune compare configs"
    )


def test_rest_after_the_time_limit_estimates_later_seeds(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    record_result(model, seconds=600.0)
    records = compare([model]).records
    text = "\n".join(describe_rest(Comparison(records, [Training(model, 2)], "time"), "again"))
    assert "The time limit was reached. 1 of 2 trainings are done." in text
    assert "Left: old with seed 2 (about 10 min)." in text


def test_unfinished_row_is_shown_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "celltune.search.evaluation.comparison._train", lambda *arguments: "interrupted"
    )
    model = load_one(write_config(tmp_path), tmp_path)
    cells = cells_of(model, seeds=3)
    assert (cells["test accuracy"], cells["seeds"]) == ("90.00 % / -", "0 of 3")
    record_result(model)
    cells = cells_of(model, seeds=3)
    assert (cells["test accuracy"], cells["seeds"]) == ("90.00 % / 100.00 %", "1 of 3")
