"""A package adds an early-stopping rule as docs/extending/early_stopping.md describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from celltune.search.cli.options import describe_plan
from celltune.search.errors import ConfigError
from celltune.search.leaderboard import leaderboard
from celltune.search.report.page import page
from celltune.search.tuning.budget_changes import Changes, budget_event
from tests.extensions.page import example
from tests.search.simulated_search import finished_search, make_config

EXAMPLE = example("early_stopping")

exec(EXAMPLE.suite)  # noqa: S102 - defines TestMedianRule, the contract suite of the page's example


@pytest.fixture(autouse=True, scope="module")
def _median(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with EXAMPLE.installed(tmp_path_factory.mktemp("site")):
        yield


SETTINGS = {"rule": "median", "by": "valid_accuracy", "min_trials": 2}


def test_a_search_uses_the_rule(tmp_path: Path) -> None:
    config = make_config(early_stopping=SETTINGS)
    experiment = finished_search(tmp_path, config)
    state = experiment.snapshot().state
    assert state.count("pruned") > 0
    stopped = leaderboard("demo", storage=tmp_path)["stopped"]
    assert any(text.startswith("by the median rule after epoch ") for text in stopped)
    event = budget_event(config, experiment.events(), state, Changes(max_epochs=9), at=2.0)
    completed = [trial.number for trial in state.trials if trial.status == "completed"]
    assert event is not None
    assert event.extended == completed, "by default, every completed trial is extended"


def test_messages_name_the_rule(tmp_path: Path) -> None:
    config = make_config(early_stopping=SETTINGS)
    expected = "the median rule by valid_accuracy of at least 2 trials"
    assert expected in "\n".join(describe_plan(config))
    text = page(finished_search(tmp_path, config).snapshot())
    assert "the median rule compares the trials by valid_accuracy after every epoch" in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "medium"}, "early_stopping.rule: 'medium' is not an early-stopping rule. Did"),
        ({"rule": "median", "grace_period": 2}, "early_stopping.grace_period is unknown."),
        ({"rule": "median", "by": "loss"}, "early_stopping.by: 'loss' is not a metric."),
    ],
)
def test_invalid_settings_are_rejected(settings: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(early_stopping=settings)
