from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import celltune
from celltune import Result
from celltune.search.errors import ExperimentError, ModelError, OptionError
from celltune.search.interactive import plots
from celltune.search.interactive.result import read_result
from celltune.search.ledger.events import RunEnded, RunStarted
from celltune.search.storage.local import LocalExperiment
from tests.search.hostile_text import assert_printable, hostile_experiment
from tests.search.simulated_search import make_config, make_controller, start_ledger, steps


@pytest.fixture
def result(trained: LocalExperiment) -> Result:
    return celltune.experiment("small")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A search of 24 simulated trials."""
    folder = LocalExperiment(tmp_path_factory.mktemp("simulated") / "demo")
    folder.path.mkdir()
    config = make_config(budget={"trials": 24, "max_epochs": 4})
    with start_ledger(folder.ledger) as ledger:
        controller = make_controller(config, ledger)
        list(steps(controller))
        return Result(folder, config, controller.state, "finished", "finished")


@pytest.fixture
def empty(trained: LocalExperiment, tmp_path: Path) -> Result:
    """A search that has not finished an epoch."""
    config = trained.config()
    folder = LocalExperiment(tmp_path / "empty")
    created = trained.events()[0]
    folder.create(config.model_copy(update={"name": "empty"}), created)
    return read_result(folder)


def test_the_best_trial_and_its_best_epoch(result: Result) -> None:
    best, row = result.best, result.leaderboard.iloc[0]
    assert (best.number, best.metric, best.status) == (0, "valid_accuracy", "completed")
    assert best.value == best.metrics["valid_accuracy"] == row["valid_accuracy"]
    assert best.epoch == row["best_epoch"]
    assert best.params["cell"] == "gru"


def test_tables_have_a_row_for_every_trial_and_epoch(result: Result) -> None:
    assert list(result.leaderboard["trial"]) == [0, 1, 2]
    assert list(result.trials.index) == [0, 1, 2]
    assert list(result.trials["epochs"]) == [3, 1, 0]
    assert result.trials.loc[2, "error"] == "it broke"
    curves = result.curves
    assert list(zip(curves["trial"], curves["epoch"], strict=True)) == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 1),
    ]
    assert curves["valid_accuracy"].max() == result.best.value
    assert {"train_loss", "valid_loss", "seconds"} <= set(curves.columns)


def test_a_search_without_epochs_has_empty_tables_and_no_figures(empty: Result) -> None:
    assert list(empty.trials.columns) == list(empty.leaderboard.columns) == []
    assert empty.trials.index.name == "trial"
    assert list(empty.curves.columns) == ["trial", "epoch"]
    with pytest.raises(ExperimentError, match="No trial of 'empty' has finished an epoch yet, so"):
        _ = empty.best
    for plot in (empty.plot_curves, empty.plot_parallel, empty.plot_slices):
        with pytest.raises(ExperimentError, match=r"so there is nothing to draw. Wait for the"):
            plot()
    with pytest.raises(ModelError, match="No trial of 'empty' has finished an epoch yet"):
        empty.plot_confusion()
    with pytest.raises(ExperimentError, match="no evaluation of its best trial on the test split"):
        empty.confusion(split="test")
    assert "0 of 3 trials done" in repr(empty)


def test_the_confusion_of_the_validation_split_agrees_with_the_ledger(result: Result) -> None:
    table = result.confusion()
    assert table.index.name == "true"
    assert list(table.index) == list(table.columns)
    accuracy = np.trace(table.to_numpy()) / table.to_numpy().sum()
    assert accuracy == pytest.approx(result.best.value)
    other = result.confusion(1).to_numpy()
    assert np.trace(other) / other.sum() == pytest.approx(result.trials.loc[1, "valid_accuracy"])


def test_the_confusion_of_the_test_split_needs_an_evaluation(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExperimentError, match="'small' has no evaluation of trial 0 on the test"):
        result.confusion(split="test")
    records = [
        {"kind": "baseline", "trial": None},
        {"kind": "trial", "trial": 0, "test_confusion": [[3, 1], [0, 4]], "classes": ["a", "b"]},
    ]
    from celltune.search.evaluation import summaries

    monkeypatch.setattr(summaries, "summaries", lambda state, metric: records)
    assert result.confusion(split="test").loc["a"].to_dict() == {"a": 3, "b": 1}
    (heatmap,) = result.plot_confusion(split="test").data
    assert [list(row) for row in heatmap.z] == [[0.75, 0.25], [0.0, 1.0]]
    with pytest.raises(OptionError, match=r"`split` is 'train'. Allowed: valid, test."):
        result.confusion(split="train")


def test_figures_are_those_of_the_report_with_literal_labels(simulated: Result) -> None:
    curves = simulated.plot_curves()
    best = simulated.best.number
    assert f"best (trial {best})" in [trace.name for trace in curves.data]
    assert any("<br>" in text for text in curves.data[0].hovertext)
    assert len(simulated.plot_parallel().data[0].dimensions) > 2
    assert simulated.plot_importance().data[0].orientation == "h"
    assert len(simulated.plot_slices().data) > 1


def test_figures_of_too_few_or_equal_trials_say_why(result: Result) -> None:
    with pytest.raises(ExperimentError, match="fewer than 10 trials can be compared, or too many"):
        result.plot_importance()
    fixed = make_config(space={"cell": "gru"})
    with pytest.raises(ExperimentError, match="had no hyperparameters to vary, so there is"):
        plots.slices(fixed, result.state)


def test_predictions_keep_the_index_of_a_series(result: Result) -> None:
    texts = pd.Series(["the plot was great", "qqqq"], index=["x", "y"])
    table = result.predict(texts)
    (expected,) = result.model().predict(["the plot was great"])
    assert list(table.index) == ["x", "y"]
    assert table.loc["x", "label"] == expected.label
    assert table.loc["x", "probability"] == pytest.approx(expected.probability)
    assert table.filter(like="p_").loc["x"].sum() == pytest.approx(1)
    assert table.loc["y", "note"].startswith("contains no word")
    assert list(result.predict("the plot was great")["label"]) == [expected.label]
    assert len(result.predict([])) == 0


def test_a_model_is_exported_and_an_ensemble_is_loaded_by_name(
    result: Result, tmp_path: Path
) -> None:
    result.export(tmp_path / "bundle", trial=1)
    exported = celltune.load_model(tmp_path / "bundle").predict(["great"])
    assert exported == result.model(1).predict(["great"])
    with pytest.raises(ExperimentError, match="ensemble"):
        result.model(ensemble=True)


def test_the_status_is_that_of_the_last_run(small: LocalExperiment) -> None:
    assert (read_result(small).status, read_result(small).reason) == ("finished", None)
    with small.locked(), small.open_ledger() as ledger:
        ledger.append(RunStarted(at=9.0, resumed=True, celltune="1", host="h", pid=1))
        running = read_result(small)
        ledger.append(RunEnded(at=9.0, reason="interrupted"))
    assert (running.status, running.reason, running.interrupted) == ("running", None, False)
    stopped = read_result(small)
    assert (stopped.reason, stopped.interrupted) == ("interrupted", True)


def test_representations_are_short_and_safe(result: Result, tmp_path: Path) -> None:
    assert repr(result).startswith("Result(small: finished, 3 of 3 trials done, 1 failed, best ")
    assert repr(result).endswith("% in trial 0)")
    html = result._repr_html_()
    assert html.count("<tr>") == 4
    assert '<th scope="col">parameters</th>' in html
    hostile_experiment(tmp_path)
    hostile = celltune.experiment("hostile", storage=tmp_path)
    assert_printable(repr(hostile))
    assert "<script" not in hostile._repr_html_()
    for line in hostile._repr_html_().split("\n"):
        assert_printable(line)
