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
from tests.search.support import RAW, make_config, make_controller, start_ledger, steps


def earlier(tmp_path: Path) -> ExperimentState:
    with start_ledger(tmp_path / "earlier.jsonl") as ledger:
        conductor = make_controller(make_config(seed=8), ledger)
        list(steps(conductor))
        return conductor.state


def with_space(**space: Any) -> SearchConfig:
    return make_config(space={**RAW["space"], **space})


def test_the_same_space_learns_from_every_trial_that_ended(tmp_path: Path) -> None:
    state, config = earlier(tmp_path), make_config()
    event = warm_start_event("old", state, config.space, config.metric, at=1.0)
    assert [prior.number for prior in event.trials] == list(range(12))
    assert event.outside == 0
    assert event.parameters_left_out == ["embedding_size"]
    for prior, trial in zip(event.trials, state.trials, strict=True):
        assert {**prior.params, "embedding_size": 8} == trial.params
        assert prior.status == trial.status
        assert list(prior.values.values()) == [e.metrics["valid_accuracy"] for e in trial.epochs]


def test_what_lies_outside_the_new_space_is_counted_and_left_out(tmp_path: Path) -> None:
    state = earlier(tmp_path)
    config = with_space(cell="gru", hidden_size={"low": 8, "high": 64}, dropout=[0.0, 0.2])
    event = warm_start_event("old", state, config.space, config.metric, at=1.0)
    inside = [trial for trial in state.trials if trial.params["hidden_size"] >= 8]  # type: ignore[operator]
    assert [prior.number for prior in event.trials] == [trial.number for trial in inside]
    assert event.outside == 12 - len(inside) > 0
    assert event.parameters_left_out == ["cell", "embedding_size"]
    assert all(prior.params["dropout"] == 0.0 for prior in event.trials)
    assert describe_warm_start(event) == (
        f"Warm start: {len(inside)} trials of 'old' are known; {event.outside} lie outside the new "
        "space and were left out; parameters not searched here: cell, embedding_size"
    )
    other = describe_warm_start(event.model_copy(update={"same_data": False}))
    assert other.endswith("it searched on other data, so its values may not compare with these")


@pytest.mark.parametrize(
    "space",
    [
        {"learning_rate": {"low": 2.0, "high": 3.0}},
        {"num_layers": [3, 4]},
        {"hidden_size": {"low": 65, "high": 80}},
        {"dropout": [True, False]},
    ],
)
def test_nothing_to_learn_is_told(space: dict[str, Any], tmp_path: Path) -> None:
    if "dropout" in space:
        space = {"bidirectional": [True, False], "batch_size": [5, 6]}
    config = with_space(**space)
    with pytest.raises(ConfigError, match=r"12 of its trials ended .* none of them lies in the"):
        warm_start_event("old", earlier(tmp_path), config.space, config.metric, at=1.0)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, 12))
def test_a_warm_started_search_cut_anywhere_is_the_uncut_one(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("warm")
    config = make_config(budget={"trials": 5, "max_epochs": 4})
    event = warm_start_event("old", earlier(folder), config.space, config.metric, at=1.0)

    def run(name: str, reports: int | None) -> Any:
        with start_ledger(folder / name) as ledger:
            if len(ledger.events) == 1:
                ledger.append(event)
            conductor = make_controller(config, ledger)
            for index, _ in enumerate(steps(conductor)):
                if index == reports:
                    break
            return conductor

    uncut = run("uncut.jsonl", None)
    run("cut.jsonl", cut)
    again = run("cut.jsonl", None)
    assert again.state.trials == uncut.state.trials
    assert len(uncut.study.trials) == 12 + 5
    told_first = [trial.state for trial in uncut.study.trials[:12]]
    assert set(told_first) <= {TrialState.COMPLETE, TrialState.PRUNED}


def test_the_knowledge_changes_what_is_proposed(tmp_path: Path) -> None:
    config = make_config(budget={"trials": 3, "max_epochs": 4})
    event = warm_start_event("old", earlier(tmp_path), config.space, config.metric, at=1.0)
    proposed = []
    for name, events in (("cold", []), ("warm", [event])):
        with start_ledger(tmp_path / f"{name}.jsonl") as ledger:
            ledger.append(*events)
            list(steps(conductor := make_controller(config, ledger)))
            proposed.append([trial.params for trial in conductor.state.trials])
    assert proposed[0] != proposed[1]
    with Ledger(tmp_path / "warm.jsonl") as ledger:
        assert isinstance(ledger.events[1], WarmStarted)
