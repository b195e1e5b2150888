from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from celltune.search.cli.comparison_tables import COLUMNS, render
from celltune.search.cluster.task_pool import Job
from celltune.search.config.loading import load_config
from celltune.search.errors import ConfigError, OptionError
from celltune.search.evaluation import comparison
from celltune.search.evaluation.comparison import (
    PublishedModel,
    _record,
    compare,
    load_published_models,
    notes,
)
from celltune.search.ledger.events import (
    EvaluationFailed,
    EvaluationReported,
    ExperimentCreated,
    TrialCreated,
)
from celltune.search.metrics import combine_scores, score_split
from celltune.search.results.tables import TextTable
from celltune.search.storage.base import Experiment
from tests.integration.conftest import REPOSITORY

RAW: dict[str, Any] = {
    "name": "old",
    "data": {"source": "synthetic", "reviews": 40, "test_size": 10},
    "space": {"cell": "gru", "hidden_size": 4, "embedding_size": 4},
    "budget": {"trials": 1, "max_epochs": 2},
    "early_stopping": None,
    "published": {"source": "A paper", "reported": {"test_accuracy": 0.9, "parameters": 100}},
}


def write_config(folder: Path, name: str = "old", **changes: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**RAW, "name": name, **changes}))
    return path


def load_one(path: Path, storage: Path, scale: float = 1.0) -> PublishedModel:
    (model,) = load_published_models(path, scale=scale, storage=storage)
    return model


def ledger_of(model: PublishedModel) -> Path:
    return Path(model.experiment.location) / "ledger.jsonl"


def record_result(model: PublishedModel, *, seconds: float = 75.4) -> None:
    """Write the events of a finished training."""
    model.experiment.create(model.config, ExperimentCreated(at=0.0, fingerprint="f"))
    labels = np.array([0, 1, 1, 0])
    scores = score_split(labels, labels, None, 2)
    metrics = {"seconds": seconds, "parameters": 123456.0, "vector_coverage": 0.8}
    content = vars(combine_scores(scores, scores, metrics))
    with model.experiment.open_ledger() as ledger:
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
        ({"published": None}, r"old.yaml has no section 'published', so there are no"),
        (
            {"space": {**RAW["space"], "hidden_size": [4, 8], "cell": ["gru", "rnn"]}},
            "searches cell, hidden_size, but a published model has a single value",
        ),
        ({"published": {"source": ""}}, "published.source is ''"),
        ({"published": {"source": "x", "reported": {"test_acuracy": 0.9}}}, "Did you mean 'test_"),
        (
            {"published": {"source": "x", "reported": {"test_accuracy": 90}}},
            "published.reported.test_accuracy is 90. It must be at most 1",
        ),
    ],
)
def test_config_without_a_published_model_is_rejected(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    space = changes.get("space", RAW["space"])
    path = write_config(tmp_path, **{**changes, "space": {**space, "hidden_size": 4}})
    if "space" in changes:
        path = write_config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load_published_models(path, scale=1.0, storage=tmp_path)


def test_empty_folder_and_unknown_name_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"contains no \.yaml file.*configs/seeds"):
        load_published_models(tmp_path, scale=1.0)
    write_config(tmp_path)
    with pytest.raises(OptionError, match=r"`only` is 'odl', .*Did you mean 'old'"):
        load_published_models(tmp_path, scale=1.0, only=["odl"])


def test_configs_are_sorted_unless_they_are_named(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_config(tmp_path, name)
    names = [each.config.name for each in load_published_models(tmp_path, scale=1.0)]
    assert names == ["a", "b", "c"]
    selected = load_published_models(tmp_path, scale=1.0, only=["c", "a", "c"])
    assert [each.config.name for each in selected] == ["c", "a"]


def test_experiment_name_depends_on_what_affects_the_training(tmp_path: Path) -> None:
    first = load_one(write_config(tmp_path), tmp_path)
    assert str(first.experiment.storage) == str(tmp_path / "compared")
    reported = {**RAW["published"], "source": "Another", "reported": {}}
    assert (
        load_one(write_config(tmp_path, published=reported), tmp_path).experiment.location
        == first.experiment.location
    )
    others = [
        load_one(write_config(tmp_path), tmp_path, scale=0.5),
        load_one(write_config(tmp_path, seed=2), tmp_path),
        load_one(write_config(tmp_path, published={**RAW["published"], "keep": "best"}), tmp_path),
    ]
    assert len({each.experiment.location for each in [first, *others]}) == 4


def test_stand_in_replaces_missing_data(tmp_path: Path) -> None:
    existing = tmp_path / "existing.csv"
    existing.write_text("text,label\n")
    stand_in = {"source": "csv", "path": str(tmp_path / "other.csv")}
    published = {**RAW["published"], "stand_in": stand_in}
    data = {"source": "csv", "path": str(existing), "test_path": str(tmp_path / "missing.csv")}
    model = load_one(write_config(tmp_path, data=data, published=published), tmp_path)
    assert model.uses_stand_in
    assert model.config.data.path == tmp_path / "other.csv"
    (tmp_path / "missing.csv").write_text("text,label\n")
    model = load_one(write_config(tmp_path, data=data, published=published), tmp_path)
    assert (model.uses_stand_in, model.config.data.path) == (False, existing)
    vectors = {"path": str(tmp_path / "missing.txt")}
    changed = write_config(tmp_path, data={**data, "vectors": vectors}, published=published)
    assert load_one(changed, tmp_path).uses_stand_in


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run the tasks of a comparison in this process, without a cluster."""

    @contextmanager
    def connected_cluster(*arguments: Any) -> Iterator[int]:
        yield 1

    def submit(resources: Any, retries: int, call: Callable[..., Any], *arguments: Any) -> Any:
        return partial(call, *arguments)

    def run_jobs(jobs: Iterable[Job], slots: int, should_stop: Callable[[], bool]) -> None:
        for job in jobs:
            with closing(job), suppress(StopIteration):
                task = next(job)
                while True:
                    if should_stop():
                        raise KeyboardInterrupt
                    task = job.send(task())

    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(comparison, "connected_cluster", connected_cluster)
    monkeypatch.setattr("celltune.search.cluster.task_pool.run_jobs", run_jobs)
    monkeypatch.setattr("celltune.search.evaluation.evaluator.put", lambda value: value)
    monkeypatch.setattr("celltune.search.evaluation.evaluator.submit", submit)
    monkeypatch.setattr("celltune.search.runs.stop_requests._POLL_SECONDS", 0.0)


@pytest.mark.usefixtures("in_process")
def test_models_are_trained_although_the_data_of_one_are_missing(tmp_path: Path) -> None:
    missing = {"source": "csv", "path": str(tmp_path / "missing.csv"), "test_size": 10}
    write_config(tmp_path, "broken", data=missing)
    write_config(tmp_path, "fine")
    models = load_published_models(tmp_path, scale=1.0, storage=tmp_path)
    broken, fine = compare(models)
    assert "missing.csv" in broken["error"]
    assert broken["measured_test_accuracy"] is None
    assert (fine["error"], fine["epoch"]) == (None, 2)
    assert 0 <= fine["measured_test_accuracy"] <= 1
    assert compare(models)[1] == fine


@pytest.mark.usefixtures("in_process")
def test_comparison_stops_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    clear_stop = type(model.experiment).clear_stop

    def clear_and_request(experiment: Experiment) -> None:
        clear_stop(experiment)
        experiment.request_stop()

    monkeypatch.setattr(type(model.experiment), "clear_stop", clear_and_request)
    with pytest.raises(KeyboardInterrupt):
        compare([model])
    assert not model.experiment.is_locked()
    assert model.last_result() is None


def test_finished_model_is_not_trained_again(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    record_result(model)
    before = ledger_of(model).read_bytes()
    (record,) = compare([model])
    assert ledger_of(model).read_bytes() == before
    assert (record["reported_test_accuracy"], record["measured_test_accuracy"]) == (0.9, 1.0)
    assert (record["measured_parameters"], record["epoch"]) == (123456, 2)
    assert record["error"] is None


def test_every_format_contains_reported_and_measured_values(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path, scale=0.5)
    record_result(model)
    records = compare([model])
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
    assert "- The models were trained and tested on 50 % of" in str(render(records, "md"))
    assert json.loads(str(render(records, "json"))) == records
    (row,) = csv.DictReader(str(render(records, "csv")).splitlines())
    assert row["measured_seconds"] == "75.4"
    with pytest.raises(OptionError, match=r"'xls' is not a format.*table, md, csv, json"):
        render(records, "xls")


def test_notes_explain_the_limits_of_a_comparison(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    record_result(model)
    whole = compare([model])
    assert not [note for note in notes(whole) if "of the documents, so" in note]
    assert "cover 80.0 % of the tokens of the training split" in " ".join(notes(whole))
    other = {**whole[0], "stands_in": True, "data": "x.csv", "scale": 0.1, "error": "it broke"}
    text = " ".join(notes([*whole, other]))
    assert "10 % or 100 % of the documents, so" in text
    assert "old: trained on x.csv instead of the source's data" in text
    assert "old failed: it broke" in text


def test_failed_training_is_in_the_record(tmp_path: Path) -> None:
    model = load_one(write_config(tmp_path), tmp_path)
    model.experiment.create(model.config, ExperimentCreated(at=0.0, fingerprint="f"))
    with model.experiment.open_ledger() as ledger:
        ledger.append(TrialCreated(at=0.0, number=0, params={"cell": "gru"}, max_epochs=2))
        ledger.append(EvaluationFailed(at=0.0, number=0, seed=1, on="train", error="no number"))
    record = _record(model, None)
    assert (record["error"], record["measured_test_accuracy"]) == ("no number", None)


def test_shipped_configs_report_the_values_of_their_sources() -> None:
    """Spot checks; tests/integration checks that all models are there."""
    configs = {
        path.stem: load_config(path) for path in (REPOSITORY / "configs" / "seeds").glob("*.yaml")
    }
    reported = {name: config.published.reported for name, config in configs.items()}
    assert reported["perf-multilayer"].parameters == 3_393_641
    assert reported["zhao-gru"].test_accuracy == 0.8777
    assert reported["sahin-gruh"].seconds == 5 * 3600 + 31 * 60 + 48
    assert not any(reported["sayed-rnn"].model_dump().values())
