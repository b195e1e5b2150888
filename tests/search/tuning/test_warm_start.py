from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import WarmStarted
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.tuning.warm_start import describe_warm_start, warm_start_event
from tests.search.simulated_search import (
    RAW,
    make_config,
    make_controller,
    start_ledger,
    steps,
    study_of,
)


def earlier(tmp_path: Path) -> ExperimentState:
    with start_ledger(tmp_path / "earlier.jsonl") as ledger:
        controller = make_controller(make_config(seed=8), ledger)
        list(steps(controller))
        return controller.state


def with_space(**space: Any) -> SearchConfig:
    return make_config(space={**RAW["space"], **space})


def test_every_ended_trial_is_used_in_the_same_space(tmp_path: Path) -> None:
    state, config = earlier(tmp_path), make_config()
    event = warm_start_event("old", state, config.space, config.metric, at=1.0)
    assert [prior.number for prior in event.trials] == list(range(12))
    assert event.outside == 0
    assert event.parameters_left_out == ["embedding_size"]
    for prior, trial in zip(event.trials, state.trials, strict=True):
        assert {**prior.params, "embedding_size": 8} == trial.params
        assert prior.status == trial.status
        assert list(prior.values.values()) == [e.metrics["valid_accuracy"] for e in trial.epochs]


def test_trials_outside_the_new_space_are_counted_and_dropped(tmp_path: Path) -> None:
    state = earlier(tmp_path)
    config = with_space(cell="gru", hidden_size={"low": 8, "high": 64}, dropout=[0.0, 0.2])
    event = warm_start_event("old", state, config.space, config.metric, at=1.0)
    inside = [trial for trial in state.trials if trial.params["hidden_size"] >= 8]  # type: ignore[operator]
    assert [prior.number for prior in event.trials] == [trial.number for trial in inside]
    assert event.outside == 12 - len(inside) > 0
    assert event.parameters_left_out == ["cell", "embedding_size"]
    assert all(prior.params["dropout"] == 0.0 for prior in event.trials)
    assert describe_warm_start(event, "valid_loss") == (
        f"The warm start uses {len(inside)} trials of 'old'. It omits {event.outside} trials that "
        "are outside the new space or have no valid_loss. Not searched here: cell, embedding_size."
    )


def test_the_summary_has_only_the_sentences_that_apply(tmp_path: Path) -> None:
    state = earlier(tmp_path)
    config = make_config()
    event = warm_start_event("old", state, config.space, config.metric, at=1.0)
    changes = {"trials": event.trials[:1], "outside": 1, "parameters_left_out": []}
    assert describe_warm_start(event.model_copy(update=changes), "valid_loss") == (
        "The warm start uses 1 trial of 'old'. It omits 1 trial that is outside the new space or "
        "has no valid_loss."
    )
    changes = {**changes, "outside": 0, "same_data": False}
    assert describe_warm_start(event.model_copy(update=changes), "valid_loss") == (
        "The warm start uses 1 trial of 'old'. The experiments used different data, so the values "
        "may not be comparable."
    )


@pytest.mark.parametrize(
    "space",
    [
        {"learning_rate": {"low": 2.0, "high": 3.0}},
        {"num_layers": [3, 4]},
        {"hidden_size": {"low": 65, "high": 80}},
        {"dropout": [True, False]},
    ],
)
def test_a_warm_start_without_usable_trials_is_rejected(
    space: dict[str, Any], tmp_path: Path
) -> None:
    if "dropout" in space:
        space = {"bidirectional": [True, False], "batch_size": [5, 6]}
    config = with_space(**space)
    with pytest.raises(
        ConfigError,
        match=r"`warm_start` names 'old', but none of its 12 .* is within the new space",
    ):
        warm_start_event("old", earlier(tmp_path), config.space, config.metric, at=1.0)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, 12))
def test_an_interrupted_warm_start_equals_an_uninterrupted_one(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("warm")
    config = make_config(budget={"trials": 5, "max_epochs": 4})
    event = warm_start_event("old", earlier(folder), config.space, config.metric, at=1.0)

    def run(name: str, reports: int | None) -> Any:
        with start_ledger(folder / name) as ledger:
            if len(ledger.events) == 1:
                ledger.append(event)
            controller = make_controller(config, ledger)
            for index, _ in enumerate(steps(controller)):
                if index == reports:
                    break
            return controller

    uncut = run("uncut.jsonl", None)
    run("cut.jsonl", cut)
    again = run("cut.jsonl", None)
    assert again.state.trials == uncut.state.trials
    assert len(study_of(uncut).trials) == 12 + 5
    prior_states = [trial.state for trial in study_of(uncut).trials[:12]]
    assert set(prior_states) <= {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_warm_start_changes_the_proposals(tmp_path: Path) -> None:
    config = make_config(budget={"trials": 3, "max_epochs": 4})
    event = warm_start_event("old", earlier(tmp_path), config.space, config.metric, at=1.0)
    proposed = []
    for name, events in (("cold", []), ("warm", [event])):
        with start_ledger(tmp_path / f"{name}.jsonl") as ledger:
            ledger.append(*events)
            list(steps(controller := make_controller(config, ledger)))
            proposed.append([trial.params for trial in controller.state.trials])
    assert proposed[0] != proposed[1]
    with Ledger(tmp_path / "warm.jsonl") as ledger:
        assert isinstance(ledger.events[1], WarmStarted)
