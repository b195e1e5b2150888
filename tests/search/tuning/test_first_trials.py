from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.ledger import Ledger
from celltune.search.results.optuna_study import mirror_study
from celltune.search.tuning.budget_changes import Changes, budget_event
from celltune.search.tuning.controller import SearchController
from celltune.search.tuning.first_trials import outside_note
from celltune.search.tuning.packing import shape_of
from celltune.search.tuning.warm_start import warm_start_event
from celltune.search.types import EpochReport
from tests.search.simulated_search import (
    RAW,
    formula,
    make_config,
    make_controller,
    start_ledger,
    steps,
    study_of,
)

FIRST: list[dict[str, Any]] = [
    {"wide": "only"},
    {"cell": "gru", "learning_rate": 0.01},
    {"hidden_size": 500, "num_layers": 2},
    {"embedding_size": 16, "weight_decay": 0.1},
]
"""The second is within the space, the others are not."""


def with_first(first: list[dict[str, Any]] = FIRST, **changes: Any) -> SearchConfig:
    wide = {"source": "synthetic", "reviews": 40, "wide": True}
    data = wide if {"wide": "only"} in first else RAW["data"]
    return make_config(first_trials=first, data=data, **changes)


def test_first_trials_outside_of_the_space_are_named() -> None:
    assert outside_note(with_first()) == (
        "Outside of the space, so that the sampler does not learn: first trials 2 (hidden_size "
        "500) and 3 (embedding_size 16 and weight_decay 0.1)."
    )
    assert outside_note(with_first(FIRST[:2])) == ""


def run(config: SearchConfig, path: Path, cuts: list[int]) -> SearchController:
    for cut in cuts:
        with start_ledger(path) as ledger:
            list(islice(steps(make_controller(config, ledger)), cut))
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        list(steps(controller))
        return controller


def study_trials(controller: SearchController) -> list[Any]:
    trials = study_of(controller).trials
    return [(t.number, t.state, t.values, t.params, t.intermediate_values) for t in trials]


def test_the_first_trials_have_the_given_values(tmp_path: Path) -> None:
    controller = run(with_first(), tmp_path / "ledger.jsonl", [])
    trials = controller.state.trials
    assert len(trials) == 12
    assert trials[0].params == {"wide": "only"}
    assert (trials[0].max_epochs, trials[0].epochs_done, trials[0].status) == (1, 1, "completed")
    for trial, given_values in zip(trials[1:4], FIRST[1:], strict=True):
        assert given_values.items() <= trial.params.items()
        assert {"cell", "hidden_size", "num_layers", "learning_rate"} <= set(trial.params)
    config = with_first()
    assert [config.space.contains(t.params) for t in trials[:4]] == [False, True, False, False]
    assert all(config.space.contains(t.params) for t in trials[4:])


def test_the_sampler_does_not_learn_from_trials_outside_of_the_space(tmp_path: Path) -> None:
    controller = run(with_first(), tmp_path / "ledger.jsonl", [])
    outside = [study_of(controller).trials[number] for number in (0, 2, 3)]
    assert [trial.state for trial in outside] == [TrialState.FAIL] * 3
    assert all(trial.values is None and not trial.intermediate_values for trial in outside)
    inside = study_of(controller).trials[1]
    assert inside.state in (TrialState.COMPLETE, TrialState.PRUNED)
    assert inside.params["learning_rate"] == 0.01


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.integers(0, 8), max_size=4))
def test_an_interrupted_search_equals_an_uninterrupted_one(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("first")
    config = with_first(budget={"trials": 9, "max_epochs": 4})
    uncut = run(config, folder / "uncut.jsonl", [])
    cut = run(config, folder / "cut.jsonl", cuts)
    assert cut.state.trials == uncut.state.trials
    assert study_trials(cut) == study_trials(uncut)


def test_a_study_that_is_replayed_equals_the_live_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for cut in range(8):
        path.unlink(missing_ok=True)
        with start_ledger(path) as ledger:
            live = make_controller(with_first(), ledger)
            list(islice(steps(live, workers=3), cut))
        with Ledger(path) as ledger:
            assert study_trials(make_controller(with_first(), ledger)) == study_trials(live)


def test_a_small_budget_takes_the_first_ones_and_a_larger_one_the_others(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    config = with_first(budget={"trials": 2, "max_epochs": 4})
    controller = run(config, path, [])
    assert len(controller.state.trials) == 2
    with Ledger(path) as ledger:
        event = budget_event(
            config, ledger, controller.state, Changes(trials="+2", max_epochs=5), at=1.0
        )
        assert event is not None
        assert event.extended == [1], "the wide part alone has a single epoch"
        ledger.append(event)
        list(steps(make_controller(config, ledger)))
    with Ledger(path) as ledger:
        trials = make_controller(config, ledger).state.trials
        assert trials[2].params["hidden_size"] == 500
        assert trials[3].params["embedding_size"] == 16


def test_a_failed_wide_part_is_retried_with_one_epoch(tmp_path: Path) -> None:
    config = with_first(budget={"trials": 1, "max_epochs": 4})
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        controller.next()
        controller.fail(0, "it broke")
        event = budget_event(config, ledger, controller.state, Changes(retry_failed=True), at=1.0)
        assert event is not None
        ledger.append(event)
        again = make_controller(config, ledger).next()
        assert again is not None
        assert again.max_epochs == 1


def test_first_trials_follow_a_warm_start(tmp_path: Path) -> None:
    earlier = run(make_config(seed=8), tmp_path / "earlier.jsonl", [])
    config = with_first()
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append(warm_start_event("old", earlier.state, config.space, config.metric, at=1.0))
        controller = make_controller(config, ledger)
        list(steps(controller))
    assert controller.state.trials[0].params == {"wide": "only"}
    assert len(study_of(controller).trials) == 24
    # The wide part alone says nothing about other hyperparameters; a size that is not searched
    # does not matter.
    event = warm_start_event("again", controller.state, config.space, config.metric, at=1.0)
    assert [prior.number for prior in event.trials] == [1, *range(3, 12)]


def test_packed_first_trials_join_a_worker_only_if_they_have_its_shape(tmp_path: Path) -> None:
    first = [{"wide": "only"}, {"cell": "gru", "hidden_size": 16, "num_layers": 1}]
    same = {"cell": "gru", "learning_rate": 0.01}
    config = with_first([*first, same, {"hidden_size": 500}])
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        search = SearchController(config, ledger, clock=lambda: 1.0, trials_per_worker=4)
        wide = search.next()
        assert wide is not None
        assert wide.alone
        assert search.next(shape_of(wide.params)) is None
        given_shape = search.next()
        assert given_shape is not None
        assert not given_shape.alone
        shape = shape_of(given_shape.params)
        joined = search.next(shape)
        assert joined is not None
        assert joined.params.items() >= {**same, "hidden_size": 16, "num_layers": 1}.items()
        assert search.next(shape) is None, "the next first trial has another shape"
        outside = search.next()
        assert outside is not None
        assert outside.params["hidden_size"] == 500
        assert search.next(shape_of(outside.params)) is None, "no proposal has this shape"
        later = [search.next() for _ in range(3)]
        assert all(a is not None and config.space.contains(a.params) for a in later)


def test_the_exported_study_contains_trials_outside_of_the_space(tmp_path: Path) -> None:
    config = with_first(early_stopping=None)
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        search = make_controller(config, ledger)
        for _ in range(3):
            search.next()
        search.report(0, [EpochReport(1, formula({"wide": "only"}, 1), "epoch-1")])
        study = mirror_study(config, search.state)
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE,
        TrialState.RUNNING,
        TrialState.RUNNING,
    ]
    assert (study.trials[0].params, study.trials[0].value) == ({}, 0.7)
    assert "hidden_size" not in study.trials[2].params
    assert study.trials[2].params["num_layers"] == 2


def test_no_trial_is_compared_with_the_wide_part_at_a_rung(tmp_path: Path) -> None:
    config = with_first(budget={"trials": 3, "max_epochs": 4})
    path = tmp_path / "ledger.jsonl"
    for _ in range(2):  # in a new search, and after a resume
        with start_ledger(path) as ledger:
            search = make_controller(config, ledger)
            while search.next() is not None:
                pass
            good, poor = formula({"wide": "only"}, 1), {"valid_accuracy": 0.6, "valid_loss": 0.4}
            if search.state.trials[0].status == "unfinished":
                search.report(0, [EpochReport(1, good, None)])
                continue
            assert search.report(1, [EpochReport(1, poor, None)])
            worse = {**poor, "valid_loss": 0.5}
            assert not search.report(2, [EpochReport(1, worse, None)])
            changes = Changes(max_epochs=8)
            event = budget_event(config, ledger, search.state, changes, at=1.0)
            assert event is not None
            assert event.extended == [1]
