"""The first event of an experiment, and what is checked before Ray starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.errors import DataError
from celltune.search.runs import launch as runs
from celltune.search.runs.launch import _created_event, _end_note
from tests.models.random_data import make_data, make_split
from tests.search.simulated_search import RAW, make_config


def _labelled(labels: list[int]) -> TensorizedSplit:
    return replace(make_split(len(labels), 1), labels=np.array(labels))


DATA = make_data(_labelled([0, 0, 0, 1]), _labelled([0, 0, 1, 1]))


@pytest.mark.parametrize(("wide", "expected"), [({"valid_accuracy": 0.75}, 0.75), (None, None)])
def test_the_accuracy_of_the_wide_part_is_recorded(wide: Any, expected: float | None) -> None:
    info = {} if wide is None else {"wide": wide}
    event = _created_event(make_config(), replace(DATA, info=info), 1.0)
    assert event.wide_accuracy == expected
    assert (event.majority_class, event.valid_reviews) == ("0", 4)
    assert event.majority_scores == {}


def test_the_scores_of_the_majority_class_by_the_metric_are_recorded() -> None:
    event = _created_event(make_config(metric="valid_balanced_accuracy"), DATA, 1.0)
    assert event.majority_scores == {"valid_balanced_accuracy": 0.5}
    assert event.majority_score("valid_balanced_accuracy") == 0.5
    assert event.majority_score("valid_accuracy") == event.majority_accuracy


def test_problems_of_data_are_found_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(name: str, rows: list[str]) -> str:
        (tmp_path / name).write_text("\n".join(["text,label", *rows]))
        return str(tmp_path / name)

    monkeypatch.setattr(runs, "starting_cluster", lambda *_, **__: pytest.fail("Ray starts"))
    train = write("train.csv", [f"text {number},{number % 2}" for number in range(40)])
    for name, rows, message in (
        ("other.csv", ["a,0", "b,2"], r"other\.csv, row 2 .* is '2'\. Allowed are '0', '1'"),
        ("empty.csv", ["a,", "b,"], r"empty\.csv has 2 problems:\n  2 labels are empty"),
    ):
        data = {"path": train, "test_path": write(name, rows)}
        with pytest.raises(DataError, match=message):
            runs.launch({**RAW, "data": data}, storage=tmp_path / "storage")
    assert not (tmp_path / "storage").exists()


def test_a_search_that_ends_before_its_budget_says_so() -> None:
    space = {"cell": ["gru", "lstm"], "hidden_size": 8}
    assert _end_note(make_config(space=space)).startswith("Space: 2 configurations, 12 trials: no")
    assert _end_note(make_config(space=space, budget={"trials": 2})) == ""
    assert _end_note(make_config(space=space, budget={"trials": 9, "repeat": True})) == ""
    assert _end_note(make_config()) == ""
