from __future__ import annotations

from pathlib import Path

import pytest

from celltune.registry import ExtensionError
from celltune.search.errors import ExperimentError, OptionError
from celltune.search.leaderboard import leaderboard as frame_of
from celltune.search.results.ranking import ranking_of
from celltune.search.results.searches import read_searches
from celltune.search.storage.locate import find_experiment
from tests.search.simulated_search import finished_search, make_config


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    finished_search(tmp_path, make_config())
    finished_search(tmp_path, make_config(name="other", metric="valid_loss", seed=4))
    return tmp_path


def test_trials_are_ranked_by_their_best_epoch(storage: Path) -> None:
    table = ranking_of(make_config(), find_experiment("demo", storage).state())
    accuracies = [row["valid_accuracy"] for row in table]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [row["rank"] for row in table] == list(range(1, 13))
    assert table[0]["status"] == "completed"
    assert table[0]["best_epoch"] == table[0]["epochs"] == 4
    assert table[0]["seconds"] == 2.0


def test_searches_with_different_metrics_need_a_metric(storage: Path) -> None:
    message = "'demo' valid_accuracy, 'other' valid_loss.*Set `metric` to valid_accuracy or"
    with pytest.raises(OptionError, match=message):
        read_searches(["demo", "other"], storage)
    with pytest.raises(
        ExtensionError, match=r"'accuracy' is not a metric. Did you mean 'valid_accu"
    ):
        read_searches(["demo"], storage, "accuracy")
    searches, metric = read_searches(["demo", "other", "demo"], storage, "valid_loss")
    assert [search.name for search in searches] == ["demo", "other"]
    assert metric == "valid_loss"
    assert read_searches(["other"], storage)[1] == "valid_loss"


def test_locked_experiment_is_reported_as_running(storage: Path) -> None:
    with find_experiment("demo", storage).locked():
        assert read_searches(["demo"], storage)[0][0].running
    assert not read_searches(["demo"], storage)[0][0].running


def test_leaderboard_returns_a_data_frame(storage: Path) -> None:
    frame = frame_of("demo", storage=storage, top=5)
    table = ranking_of(make_config(), find_experiment("demo", storage).state())[:5]
    assert list(frame["trial"]) == [row["trial"] for row in table]
    both = frame_of("demo", "other", storage=storage, metric="valid_accuracy", best_per=["cell"])
    assert sorted(both["cell"]) == ["gru", "lstm"]
    grus = frame_of("demo", storage=storage, where="cell == 'gru'")
    assert set(grus["cell"]) == {"gru"}


def test_leaderboard_rejects_missing_experiments(storage: Path) -> None:
    with pytest.raises(OptionError, match=r"`names` is empty\. Give the name of at least"):
        frame_of(storage=storage)
    with pytest.raises(ExperimentError, match=r"no experiment 'dmo'.*Did you mean 'demo'"):
        frame_of("demo", "dmo", storage=storage)
