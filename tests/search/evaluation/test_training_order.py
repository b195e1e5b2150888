from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from celltune.search.evaluation import training_order
from celltune.search.evaluation.published_models import Training, load_published_models
from celltune.search.evaluation.training_order import Costs
from tests.search.evaluation.published import (
    RAW,
    load_one,
    record_epochs,
    record_result,
    write_config,
)


def ordered(folder: Path, seed: int = 1) -> list[str]:
    """Return the names of the configs in a folder, ordered for training."""
    models = load_published_models(folder, scale=1.0, storage=folder)
    trainings = Costs(lambda *_: None).cheapest_first([Training(each, seed) for each in models])
    return [training.model.config.name for training in trainings]


@pytest.mark.parametrize(
    ("changes", "costlier"),
    [
        ({"space": {**RAW["space"], "hidden_size": 5}}, True),
        ({"space": {**RAW["space"], "num_layers": 2}}, True),
        ({"space": {**RAW["space"], "cell": "rnn"}}, False),
        ({"budget": {"trials": 1, "max_epochs": 3}}, True),
        ({"data": {**RAW["data"], "reviews": 60}}, True),
        ({"space": {**RAW["space"], "batch_size": 15}}, True),
        ({"space": {**RAW["space"], "batch_size": 16}}, None),
        ({"data": {**RAW["data"], "max_tokens": 5}}, False),
        ({"data": {**RAW["data"], "vocabulary_size": 9}}, None),
    ],
)
def test_models_without_results_are_ordered_by_their_work(
    changes: dict[str, Any], costlier: bool | None, tmp_path: Path
) -> None:
    write_config(tmp_path, "m")
    for name in ("a", "z"):
        write_config(tmp_path, name, **changes)
    # Equal costs keep the order by name.
    expected = {True: ["m", "a", "z"], False: ["a", "z", "m"], None: ["a", "m", "z"]}
    assert ordered(tmp_path) == expected[costlier]


def test_recorded_times_decide_and_models_without_them_come_last(tmp_path: Path) -> None:
    for name, seconds in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        record_result(load_one(write_config(tmp_path, name), tmp_path), seconds=seconds)
    write_config(tmp_path, "tiny", space={**RAW["space"], "hidden_size": 1})
    missing = {"source": "csv", "path": str(tmp_path / "missing.csv"), "test_size": 10}
    write_config(tmp_path, "broken", data=missing)
    assert ordered(tmp_path, seed=2) == ["b", "c", "a", "tiny", "broken"]


def test_epochs_of_an_interrupted_training_cost_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_config(tmp_path, name)
    record_epochs(load_one(tmp_path / "b.yaml", tmp_path), [12.0])
    assert ordered(tmp_path) == ["b", "a"]
    assert ordered(tmp_path, seed=2) == ["a", "b"]


def test_documents_of_the_same_source_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Sequence[str]] = []
    load_documents = training_order.load_documents

    def recorded(source: Any, splits: Any, progress: Any) -> Any:
        reads.append(splits)
        return load_documents(source, splits, progress)

    monkeypatch.setattr(training_order, "load_documents", recorded)
    for name, tokens in (("a", 30), ("b", 20), ("c", 10)):
        write_config(tmp_path, name, data={**RAW["data"], "max_tokens": tokens})
    assert ordered(tmp_path) == ["c", "b", "a"]
    assert reads == [("train",)]
