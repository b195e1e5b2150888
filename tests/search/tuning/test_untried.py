"""Searches of finite spaces: none of their trials repeats another one, unless the config asks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.tuning.base import Sampler
from celltune.search.tuning.budget_changes import Changes, budget_event
from celltune.search.tuning.controller import Assignment, SearchController
from celltune.search.tuning.stopping import explain_end
from celltune.search.tuning.untried import planned_trials
from celltune.search.types import EpochReport
from tests.search.simulated_search import (
    RAW,
    formula,
    make_config,
    make_controller,
    start_ledger,
    steps,
)

SPACE: dict[str, Any] = {
    "cell": ["gru", "lstm"],
    "hidden_size": [8, 16],
    "learning_rate": {"low": 0.01, "high": 0.02, "step": 0.01},
    "num_layers": [1, 2],
    "layer_dropout": [0.0, 0.5],
}
SIZE = 2 * 2 * 2 * 3

quickly = settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def finite(trials: int = SIZE + 9, space: Any = SPACE, **changes: Any) -> SearchConfig:
    repeat = changes.pop("repeat", False)
    budget = {"trials": trials, "max_epochs": 2, "repeat": repeat}
    return make_config(space=space, budget=budget, **changes)


def search(config: SearchConfig, path: Path, cuts: list[int] = [], workers: int = 1) -> Any:  # noqa: B006
    """Run a search whose driver is killed and resumed after each number of reports in `cuts`."""
    for cut in cuts:
        with start_ledger(path) as ledger:
            list(islice(steps(make_controller(config, ledger), workers), cut))
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        list(steps(controller, workers))
        return controller


def distinct(controller: SearchController) -> int:
    return len({tuple(sorted(t.params.items())) for t in controller.state.trials})


@pytest.mark.parametrize("workers", [1, 4])
def test_a_search_tries_every_configuration_once_and_ends(workers: int, tmp_path: Path) -> None:
    config = finite()
    controller = search(config, tmp_path / "l.jsonl", workers=workers)
    assert len(controller.state.trials) == distinct(controller) == SIZE
    assert controller.end_reason == "exhausted"
    assert controller.trials_to_start == 0
    assert explain_end(config, controller.state, "exhausted").startswith(
        "The space has 24 configurations, and all were tried. To continue, resume the search with"
    )


def test_a_smaller_budget_ends_the_search_first(tmp_path: Path) -> None:
    controller = search(finite(SIZE - 1), tmp_path / "l.jsonl")
    assert len(controller.state.trials) == distinct(controller) == SIZE - 1
    assert controller.end_reason == "finished"


def test_repetitions_can_be_requested(tmp_path: Path) -> None:
    controller = search(finite(SIZE + 3, repeat=True), tmp_path / "l.jsonl")
    assert len(controller.state.trials) == SIZE + 3 > distinct(controller)
    assert controller.end_reason == "finished"


@quickly
@given(
    cuts=st.lists(st.integers(0, 12), max_size=3),
    workers=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_an_interrupted_search_equals_an_uninterrupted_one(
    cuts: list[int], workers: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("finite")
    space = {**SPACE, "num_layers": 1}
    config = finite(12, space, seed=seed, sampler={"startup_trials": 2})
    whole = search(config, folder / "whole.jsonl")
    assert [len(whole.state.trials), distinct(whole)] == [8, 8]
    parts = search(config, folder / "parts.jsonl", cuts)
    assert parts.state.trials == whole.state.trials
    assert distinct(search(config, folder / "many.jsonl", cuts, workers)) == 8


def test_proposals_of_spaces_without_repetitions_do_not_change(tmp_path: Path) -> None:
    trials = {}
    for repeat in (False, True):
        config = make_config(budget={"trials": 8, "max_epochs": 2, "repeat": repeat})
        trials[repeat] = search(config, tmp_path / f"{repeat}.jsonl").state.trials
    assert trials[False] == trials[True]


def test_repetitions_continue_an_exhausted_search(tmp_path: Path) -> None:
    config = finite(9, {**SPACE, "num_layers": 1, "hidden_size": 8})
    path = tmp_path / "l.jsonl"
    assert search(config, path).end_reason == "exhausted"
    for changes, trials, reason in (
        (Changes(trials="+2"), 4, "exhausted"),
        (Changes(trials=6, repeat=True), 6, "finished"),
        (Changes(trials="+1"), 7, "finished"),
    ):
        with Ledger(path) as ledger:
            state = make_controller(config, ledger).state
            event = budget_event(config, ledger, state, changes, at=2.0)
            assert event is not None
            if changes.trials == 6:
                assert event.repeat
            ledger.append(event)
        resumed = search(config, path)
        assert (len(resumed.state.trials), resumed.end_reason) == (trials, reason)


FIRST: list[Any] = [
    ([{"hidden_size": 500}], 1 + 2),
    ([{"cell": "gru"}], 2),
    ([{"cell": "gru"}, {"cell": "gru"}], 1 + 2),
    ([{"cell": "lstm", "hidden_size": 8}, {"hidden_size": 8, "cell": "gru"}], 2),
]


@pytest.mark.parametrize(("first", "trials"), FIRST)
def test_first_trials_are_trained_even_if_they_repeat(
    first: list[Any], trials: int, tmp_path: Path
) -> None:
    space = {"cell": ["gru", "lstm"], "hidden_size": 8, "learning_rate": 0.01}
    config = finite(9, space, first_trials=first)
    controller = search(config, tmp_path / "l.jsonl")
    assert len(controller.state.trials) == trials
    for trial, values in zip(controller.state.trials, first, strict=False):
        assert values.items() <= trial.params.items()
    assert controller.end_reason == "exhausted"


@pytest.mark.parametrize(
    ("changes", "planned"),
    [
        ({}, SIZE),
        ({"repeat": True}, 40),
        ({"trials": 20}, 20),
        ({"space": RAW["space"]}, 40),
        ({"first_trials": [{"hidden_size": 500}, {"cell": "gru"}]}, SIZE + 1),
    ],
)
def test_the_number_of_trials_is_known_in_advance(changes: Any, planned: int) -> None:
    assert planned_trials(finite(**{"trials": 40, **changes}), ExperimentState()) == planned


def test_a_range_next_to_few_configurations_is_searched_on(tmp_path: Path) -> None:
    """With one layer there are two configurations, with two layers any number of them."""
    space = {
        "cell": ["gru", "lstm"],
        "hidden_size": 8,
        "learning_rate": 0.01,
        "num_layers": [1, 2],
        "layer_dropout": {"low": 0.0, "high": 0.5},
    }
    controller = search(finite(12, space), tmp_path / "l.jsonl")
    assert len(controller.state.trials) == distinct(controller) == 12
    assert controller.end_reason == "finished"


class Stubborn(Sampler):
    """Proposes the same whatever happens, and cannot do anything else."""

    def __init__(self, problem: Any, settings: Any) -> None:
        self.space = problem.space

    def replay(self, state: ExperimentState) -> None:
        pass

    def propose(self, number: int) -> Any:
        return {"cell": "gru", "hidden_size": 8, "learning_rate": 0.01}


def test_a_sampler_that_cannot_withdraw_may_repeat(tmp_path: Path) -> None:
    space = {"cell": ["gru", "lstm"], "hidden_size": 8, "learning_rate": 0.01}
    config = finite(3, space)
    with start_ledger(tmp_path / "l.jsonl") as ledger:
        controller = make_controller(config, ledger)
        controller.sampler = Stubborn(config, None)
        list(steps(controller))
    assert (len(controller.state.trials), distinct(controller)) == (3, 1)
    with pytest.raises(NotImplementedError, match="Stubborn cannot withdraw proposals"):
        controller.sampler.withdraw(3)


def packed_steps(controller: SearchController, size: int) -> Iterator[None]:
    """Train packs one after the other, and fill free places with trials of the same shape."""
    while (first := controller.next()) is not None:
        pack: dict[int, tuple[Assignment, int]] = {first.number: (first, 0)}
        shape = controller._planner.shape(first.number)
        while pack:
            while len(pack) < size and (more := controller.next(shape)) is not None:
                pack[more.number] = (more, 0)
            pack = {number: (one, epoch + 1) for number, (one, epoch) in pack.items()}
            reports = {
                number: [EpochReport(epoch, formula(one.params, epoch), f"epoch-{epoch}")]
                for number, (one, epoch) in pack.items()
            }
            for number in controller.report_together(reports):
                del pack[number]
            yield


def test_packs_try_every_configuration_once(tmp_path: Path) -> None:
    with start_ledger(tmp_path / "l.jsonl") as ledger:
        controller = SearchController(finite(), ledger, clock=lambda: 1.0, trials_per_worker=4)
        list(packed_steps(controller, 4))
    assert len(controller.state.trials) == distinct(controller) == SIZE
    assert controller.end_reason == "exhausted"
