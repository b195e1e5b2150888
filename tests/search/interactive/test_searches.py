from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from pyarrow import parquet

import celltune
from celltune import Changes, EvaluationSettings
from celltune.search.cluster import shared_ray
from celltune.search.config.loading import parse_config
from celltune.search.errors import ExperimentError, OptionError
from celltune.search.evaluation import evaluate as evaluations
from celltune.search.interactive import searches
from celltune.search.runs import launch as runs
from celltune.search.runs.launch import RunResult
from celltune.search.storage.local import LocalExperiment

Patch = pytest.MonkeyPatch
CONFIG: dict[str, Any] = {
    "name": "mine",
    "data": {"source": "csv", "path": "old.csv", "max_tokens": 7, "classes": ["neg", "pos"]},
    "space": {"cell": "gru", "hidden_size": [4, 8], "learning_rate": 0.01, "embedding_size": 4},
}
FRAME = pd.DataFrame({"review": ["good", "bad"], "stars": ["pos", "neg"], "film": ["a", "b"]})


@pytest.fixture
def calls(
    trained: LocalExperiment, tmp_path: Path, monkeypatch: Patch
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of the runs, which are not run: the result is the trained experiment's."""
    received: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    snapshot = trained.snapshot()

    def run(*arguments: Any, **settings: Any) -> RunResult:
        received.append((arguments, settings))
        return RunResult(trained, snapshot.config, snapshot.state, "interrupted")

    monkeypatch.setattr(runs, "launch", run)
    monkeypatch.setattr(runs, "resume", run)
    monkeypatch.setattr(shared_ray.SHARED, "wanted", False)
    monkeypatch.setenv("CELLTUNE_CACHE", str(tmp_path / "cache"))
    return received


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    for name in celltune.__all__:
        assert getattr(celltune, name).__name__ in (name, "Result")
    assert set(celltune.__all__) <= set(dir(celltune))
    with pytest.raises(AttributeError, match="module 'celltune' has no attribute 'search_all'"):
        _ = celltune.search_all  # type: ignore[attr-defined]


def test_a_launch_returns_the_result_of_the_run(calls: list[Any]) -> None:
    result = celltune.launch(CONFIG, name="other", overrides=["seed=2"], view=None)
    assert (result.name, result.status, result.interrupted) == ("small", "stopped", True)
    (arguments, settings) = calls[0]
    assert arguments == (CONFIG,)
    assert (settings["name"], settings["overrides"]) == ("other", ["seed=2"])
    assert shared_ray.SHARED.wanted


@pytest.mark.parametrize("form", ["dict", "config", "file"])
def test_a_frame_replaces_the_files_of_any_config(
    form: str, calls: list[Any], tmp_path: Path
) -> None:
    config: Any = CONFIG
    if form == "config":
        config = parse_config(CONFIG)
    elif form == "file":
        config = tmp_path / "mine.yaml"
        config.write_text(yaml.safe_dump(CONFIG))
    celltune.launch(config, data=FRAME, test=FRAME[:1], text="review", label="stars", view=None)
    (given,) = calls[0][0]
    data = given["data"]
    assert (given["name"], data["source"], data["max_tokens"]) == ("mine", "parquet", 7)
    assert (data["text_column"], data["label_column"]) == ("review", "stars")
    stored = parquet.read_table(data["path"]).to_pydict()
    assert stored == {"review": ["good", "bad"], "stars": ["pos", "neg"]}
    assert parquet.read_table(data["test_path"]).num_rows == 1
    assert CONFIG["data"]["path"] == "old.csv"


def test_columns_that_the_config_names_are_stored_with_the_frame(calls: list[Any]) -> None:
    columns = {"text_column": "review", "label_column": "stars", "group_column": "film"}
    config = {**CONFIG, "data": {**CONFIG["data"], **columns}}
    celltune.launch(config, data=FRAME, view=None)
    stored = parquet.read_table(calls[0][0][0]["data"]["path"])
    assert stored.column_names == ["review", "stars", "film"]


def test_arguments_that_describe_a_missing_frame_are_rejected(calls: list[Any]) -> None:
    for argument in ("text", "label"):
        with pytest.raises(OptionError, match=r"`label` describe `data`, which is missing. Give a"):
            celltune.launch(CONFIG, view=None, **{argument: "x"})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"`data` is a dict. Give a pandas DataFrame."):
        celltune.launch(CONFIG, data={"text": []}, text="text", label="y", view=None)  # type: ignore[arg-type]
    assert calls == []


def test_a_resume_takes_its_changes_separately_or_as_one_object(calls: list[Any]) -> None:
    celltune.resume("small", trials="+4", target="none", retry_failed=True, view=None)
    celltune.resume("small", changes=Changes(max_epochs=9), view=None)
    celltune.resume("small", view=None)
    expected = [
        Changes(trials="+4", target="none", retry_failed=True),
        Changes(max_epochs=9),
        Changes(),
    ]
    assert [settings["changes"] for _, settings in calls] == expected
    message = (
        "`changes` is given together with `trials`, `max_epochs`, `target`, `patience`, `repeat` or"
    )
    with pytest.raises(OptionError, match=message):
        celltune.resume("small", trials=5, changes=Changes(), view=None)


def test_a_result_goes_on_in_its_own_storage(calls: list[Any], trained: LocalExperiment) -> None:
    result = celltune.experiment("small").resume(trials="+1", view=None)
    arguments, settings = calls[0]
    assert arguments == ("small",)
    assert settings["storage"] == str(trained.storage)
    assert settings["changes"] == Changes(trials="+1")
    assert result.status == "stopped"


def test_an_evaluation_passes_its_arguments_on(
    calls: list[Any], trained: LocalExperiment, monkeypatch: Patch
) -> None:
    received = []
    monkeypatch.setattr(evaluations, "evaluate", lambda *a, **k: received.append((a, k)))
    chosen = EvaluationSettings(top=1, seeds=2)
    result = celltune.experiment("small").evaluate(chosen, view=None)
    ((arguments, settings),) = received
    assert arguments == ("small", chosen)
    assert settings["storage"] == str(trained.storage)
    assert (result.name, result.status) == ("small", "finished")


def test_an_experiment_that_does_not_exist_is_reported(trained: LocalExperiment) -> None:
    with pytest.raises(ExperimentError, match=r"has no experiment 'smal'. Did you mean 'small'?"):
        celltune.experiment("smal")


def test_a_shutdown_without_a_cluster_does_nothing(monkeypatch: Patch) -> None:
    monkeypatch.setattr(shared_ray.SHARED, "cluster", None)
    searches.shutdown()
