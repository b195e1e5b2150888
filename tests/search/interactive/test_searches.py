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
from celltune.search.runs.session import checked_config
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


def test_the_end_of_a_run_is_shown_in_one_line(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    celltune.resume("small", view="lines")
    line = capsys.readouterr().out
    assert line.startswith("small: stopped, 3 of 3 trials done, 1 failed, best valid_accuracy ")
    assert line.endswith("% in trial 0. Continue it with celltune.resume('small').\n")


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
    assert (given["name"], data.get("source"), data["max_tokens"]) == ("mine", None, 7)
    assert (data["text_column"], data["label_column"]) == ("review", "stars")
    stored = parquet.read_table(data["path"]).to_pydict()
    assert stored == {"review": ["good", "bad"], "stars": ["pos", "neg"]}
    assert parquet.read_table(data["test_path"]).num_rows == 1
    assert CONFIG["data"]["path"] == "old.csv"


def test_an_ordered_categorical_gives_the_order_of_the_classes(calls: list[Any]) -> None:
    labels = pd.Categorical(["mid", "low"], ["low", "mid", "high"], ordered=True)
    config = {**CONFIG, "data": {}}
    given = pd.DataFrame({"text": ["a", "b"], "size": labels})
    celltune.launch(config, data=given, text="text", label="size", view=None)
    assert calls[0][0][0]["data"]["classes"] == ["low", "mid"]
    celltune.launch(CONFIG, data=given, text="text", label="size", view=None)
    assert calls[1][0][0]["data"]["classes"] == ["neg", "pos"]
    unordered = given.assign(size=labels.as_unordered())
    celltune.launch(config, data=unordered, text="text", label="size", view=None)
    assert "classes" not in calls[2][0][0]["data"]


def test_columns_that_the_config_names_are_stored_with_the_frame(calls: list[Any]) -> None:
    columns = {"text_column": "review", "label_column": "stars", "group_column": "film"}
    config = {**CONFIG, "data": {**CONFIG["data"], **columns}}
    celltune.launch(config, data=FRAME, view=None)
    stored = parquet.read_table(calls[0][0][0]["data"]["path"])
    assert stored.column_names == ["review", "stars", "film"]


def test_files_and_columns_replace_those_of_a_config(calls: list[Any]) -> None:
    celltune.launch(CONFIG, text="review", valid="v.csv", view=None)
    data = calls[0][0][0]["data"]
    new = {"text_column": "review", "valid_path": "v.csv"}
    assert data == {**CONFIG["data"], **new}
    celltune.launch(CONFIG, data=Path("new.tsv"), view=None)
    assert calls[1][0][0]["data"] == {
        "path": "new.tsv",
        "max_tokens": 7,
        "classes": ["neg", "pos"],
    }


def test_without_a_config_one_is_proposed_for_a_frame(calls: list[Any]) -> None:
    reviews = pd.DataFrame(
        {
            "review": [f"a {word} film number {n}" for n in range(50) for word in ("good", "bad")],
            "stars": [1, 0] * 50,
        }
    )
    settings: dict[str, Any] = {"overrides": ["data.max_tokens=9"], "time": "5m", "view": None}
    celltune.launch(reviews, text="review", label="stars", name="mine", **settings)
    ((given,), received) = calls[0]
    assert received["overrides"] == ["data.max_tokens=9", "budget.time=5m"]
    assert (given["name"], given["data"]["max_tokens"]) == ("mine", 9)
    assert (given["data"]["text_column"], given["data"]["label_column"]) == ("review", "stars")
    assert given["space"]
    assert parquet.read_table(given["data"]["path"]).num_rows == 100
    checked_config(given, received["overrides"])


def test_without_names_the_columns_of_a_frame_are_recognized(calls: list[Any]) -> None:
    texts = [f"The plot number {n} was {word}." for n in range(50) for word in ("good", "bad")]
    celltune.launch(pd.DataFrame({"id": range(100), "body": texts, "kind": ["x", "y"] * 50}))
    (given,) = calls[0][0]
    assert (given["data"]["text_column"], given["data"]["label_column"]) == ("body", "kind")
    assert given["name"].startswith("search-20")


def test_a_file_is_proposed_for_under_its_own_name(calls: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "films.csv"
    lines = [f"{word} {n},{word}" for n in range(50) for word in ("good", "bad")]
    file.write_text("text,label\n" + "\n".join(lines))
    celltune.launch(str(file), view=None)
    (given,) = calls[0][0]
    assert (given["name"], given["data"]["path"]) == ("films", str(file))


def test_data_that_is_given_twice_or_is_no_table_is_rejected(calls: list[Any]) -> None:
    with pytest.raises(OptionError, match=r"`data` is given twice: as the first argument, too."):
        celltune.launch(FRAME, data=FRAME, view=None)
    with pytest.raises(OptionError, match=r"`test` is a dict\. Give a pandas DataFrame, or the"):
        celltune.launch(CONFIG, test={"text": []}, view=None)  # type: ignore[arg-type]
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
