from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from celltune.search.cli.comparison_tables import COLUMNS, render
from celltune.search.config.loading import load_config
from celltune.search.errors import ConfigError, OptionError
from celltune.search.evaluation.comparison import Entry, _record, compare, entries, notes
from celltune.search.evaluation.metrics import combine_scores, score_split
from celltune.search.ledger.events import (
    EvaluationFailed,
    EvaluationReported,
    ExperimentCreated,
    TrialCreated,
)
from celltune.search.results.tables import TextTable
from tests.integration.conftest import REPOSITORY

RAW: dict[str, Any] = {
    "name": "old",
    "data": {"source": "synthetic", "reviews": 40, "test_size": 10},
    "space": {"cell": "gru", "hidden_size": 4, "embedding_size": 4},
    "budget": {"trials": 1, "max_epochs": 2},
    "early_stopping": None,
    "published": {"source": "A paper", "reported": {"test_accuracy": 0.9, "parameters": 100}},
}


def write(folder: Path, name: str = "old", **changes: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**RAW, "name": name, **changes}))
    return path


def entry(path: Path, storage: Path, scale: float = 1.0) -> Entry:
    (found,) = entries(path, scale=scale, storage=storage)
    return found


def ledger_of(found: Entry) -> Path:
    return Path(found.folder.location) / "ledger.jsonl"


def finish(found: Entry, *, seconds: float = 75.4) -> None:
    """Write what training would have."""
    found.folder.create(found.config, ExperimentCreated(at=0.0, fingerprint="f"))
    labels = np.array([0, 1, 1, 0])
    part = score_split(labels, labels, None, 2)
    metrics = {"seconds": seconds, "parameters": 123456.0, "vector_coverage": 0.8}
    content = vars(combine_scores(part, part, metrics))
    with found.folder.open_ledger() as ledger:
        ledger.append(
            TrialCreated(at=0.0, number=0, params={"cell": "gru"}, max_epochs=2),
            EvaluationFailed(at=0.0, number=0, seed=1, on="train", error="first try"),
            EvaluationReported(
                at=0.0,
                number=0,
                seed=1,
                epoch=2,
                on="train",
                classes=["a", "b"],
                test_fingerprint="t",
                **content,
            ),
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"published": None}, r"old.yaml has no section published, so there is nothing"),
        (
            {"space": {**RAW["space"], "hidden_size": [4, 8], "cell": ["gru", "rnn"]}},
            "searches cell, hidden_size; a published model is one model",
        ),
        ({"published": {"source": ""}}, "published.source: "),
        ({"published": {"source": "x", "reported": {"test_acuracy": 0.9}}}, "Did you mean 'test_"),
        (
            {"published": {"source": "x", "reported": {"test_accuracy": 90}}},
            r"published.reported.test_accuracy: .*less than or equal to 1",
        ),
    ],
)
def test_what_is_no_published_model_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    space = changes.get("space", RAW["space"])
    path = write(tmp_path, **{**changes, "space": {**space, "hidden_size": 4}})
    if "space" in changes:
        path = write(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        entries(path, scale=1.0, storage=tmp_path)


def test_an_empty_folder_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"There is no \.yaml file in .*configs/seeds"):
        entries(tmp_path, scale=1.0)
    write(tmp_path)
    with pytest.raises(OptionError, match=r"no config 'odl' in .*Did you mean 'old'"):
        entries(tmp_path, scale=1.0, only=["odl"])


def test_a_folder_is_read_in_order_and_only_what_is_asked_for(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write(tmp_path, name)
    names = [each.config.name for each in entries(tmp_path, scale=1.0)]
    assert names == ["a", "b", "c"]
    few = entries(tmp_path, scale=1.0, only=["c", "a", "c"])
    assert [each.config.name for each in few] == ["c", "a"]


def test_what_shapes_the_training_names_the_folder_and_nothing_else(tmp_path: Path) -> None:
    first = entry(write(tmp_path), tmp_path)
    assert str(first.folder.storage) == str(tmp_path / "compared")
    reported = {**RAW["published"], "source": "Another", "reported": {}}
    assert (
        entry(write(tmp_path, published=reported), tmp_path).folder.location
        == first.folder.location
    )
    others = [
        entry(write(tmp_path), tmp_path, scale=0.5),
        entry(write(tmp_path, seed=2), tmp_path),
        entry(write(tmp_path, published={**RAW["published"], "keep": "best"}), tmp_path),
    ]
    assert len({each.folder.location for each in [first, *others]}) == 4


def test_other_data_stand_in_where_a_file_is_missing(tmp_path: Path) -> None:
    there = tmp_path / "there.csv"
    there.write_text("text,label\n")
    stand_in = {"source": "csv", "path": str(tmp_path / "other.csv")}
    published = {**RAW["published"], "stand_in": stand_in}
    data = {"source": "csv", "path": str(there), "test_path": str(tmp_path / "gone.csv")}
    found = entry(write(tmp_path, data=data, published=published), tmp_path)
    assert found.stands_in
    assert found.config.data.path == tmp_path / "other.csv"
    (tmp_path / "gone.csv").write_text("text,label\n")
    found = entry(write(tmp_path, data=data, published=published), tmp_path)
    assert (found.stands_in, found.config.data.path) == (False, there)
    vectors = {"path": str(tmp_path / "gone.txt")}
    changed = write(tmp_path, data={**data, "vectors": vectors}, published=published)
    assert entry(changed, tmp_path).stands_in


def test_what_was_trained_is_not_trained_again(tmp_path: Path) -> None:
    found = entry(write(tmp_path), tmp_path)
    finish(found)
    before = ledger_of(found).read_bytes()
    (record,) = compare([found])
    assert ledger_of(found).read_bytes() == before
    assert (record["reported_test_accuracy"], record["measured_test_accuracy"]) == (0.9, 1.0)
    assert (record["measured_parameters"], record["epoch"]) == (123456, 2)
    assert record["error"] is None


def test_every_format_shows_reported_beside_measured(tmp_path: Path) -> None:
    found = entry(write(tmp_path), tmp_path, scale=0.5)
    finish(found)
    records = compare([found])
    drawn = render(records, "table")
    assert isinstance(drawn, TextTable)
    assert [column.title for column in drawn.columns] == list(COLUMNS)
    assert dict(zip(COLUMNS, drawn.rows[0], strict=True)) == {
        "model": "old",
        "test accuracy": "90.00 % / 100.00 %",
        "cross-entropy": "- / -",
        "train accuracy": "- / 100.00 %",
        "parameters": "100 / 123,456",
        "time": "- / 0:01:15",
        "scale": "0.5",
        "data": "synthetic",
    }
    assert "| old | 90.00 % / 100.00 % |" in str(render(records, "md"))
    assert "- Trained and tested on 50 % of the reviews" in str(render(records, "md"))
    assert json.loads(str(render(records, "json"))) == records
    (row,) = csv.DictReader(str(render(records, "csv")).splitlines())
    assert row["measured_seconds"] == "75.4"
    with pytest.raises(OptionError, match=r"'xls' is not a format.*table, md, csv, json"):
        render(records, "xls")


def test_notes_say_what_must_not_be_claimed(tmp_path: Path) -> None:
    found = entry(write(tmp_path), tmp_path)
    finish(found)
    whole = compare([found])
    assert not [note for note in notes(whole) if "of the reviews" in note]
    assert "know 80.0 % of the training part" in " ".join(notes(whole))
    strange = {**whole[0], "stands_in": True, "data": "x.csv", "scale": 0.1, "error": "it broke"}
    said = " ".join(notes([*whole, strange]))
    assert "10 % or 100 % of the reviews, so this doesn't say that" in said
    assert "old: not the source's data but x.csv" in said
    assert "old failed: it broke" in said


def test_a_training_that_broke_is_told(tmp_path: Path) -> None:
    found = entry(write(tmp_path), tmp_path)
    found.folder.create(found.config, ExperimentCreated(at=0.0, fingerprint="f"))
    with found.folder.open_ledger() as ledger:
        ledger.append(TrialCreated(at=0.0, number=0, params={"cell": "gru"}, max_epochs=2))
        ledger.append(EvaluationFailed(at=0.0, number=0, seed=1, on="train", error="no number"))
    record = _record(found, None)
    assert (record["error"], record["measured_test_accuracy"]) == ("no number", None)


def test_the_shipped_rows_report_what_the_sources_do() -> None:
    """Spot checks of the data; which rows there are is held by the test that runs them."""
    found = {
        path.stem: load_config(path) for path in (REPOSITORY / "configs" / "seeds").glob("*.yaml")
    }
    reported = {name: config.published.reported for name, config in found.items()}
    assert reported["perf-multilayer"].parameters == 3_393_641
    assert reported["zhao-gru"].test_accuracy == 0.8777
    assert reported["sahin-gruh"].seconds == 5 * 3600 + 31 * 60 + 48
    assert not any(reported["sayed-rnn"].model_dump().values())
