from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.ledger import Ledger
from celltune.search.results.ranking import ranking_of
from celltune.search.tuning.budget_changes import Changes, budget_event
from celltune.search.tuning.controller import SearchController
from celltune.search.tuning.stopping import stagnates
from celltune.search.types import EpochReport, ParameterValue
from tests.search.simulated_search import formula, make_config, make_controller, start_ledger, steps

quickly = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def config(trials: int = 6, max_epochs: int = 9, patience: int | None = 2) -> SearchConfig:
    budget = {"trials": trials, "max_epochs": max_epochs, "epoch_patience": patience}
    return make_config(budget=budget, early_stopping={"grace_period": 3})


def overfitting(params: dict[str, ParameterValue], epoch: int) -> dict[str, float]:
    """Return metrics that are best after an epoch which depends on the size of the model."""
    size = params["hidden_size"]
    assert isinstance(size, int)
    best = formula(params, 4)
    return {**best, "valid_accuracy": best["valid_accuracy"] - 0.01 * abs(epoch - 1 - size % 5)}


def run(path: Path, cuts: list[int], workers: int = 1) -> SearchController:
    for cut in cuts:
        with start_ledger(path) as ledger:
            search = make_controller(config(), ledger)
            list(islice(steps(search, workers, overfitting), cut))
    with start_ledger(path) as ledger:
        controller = make_controller(config(), ledger)
        list(steps(controller, workers, overfitting))
        return controller


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.6, 0.5, 0.6], 2, True),
        ([0.6, 0.5, 0.7], 2, False),
        ([0.6, 0.5, 0.55, 0.58], 3, True),
        ([0.6, 0.5, 0.4], None, False),
    ],
)
def test_a_trial_stagnates_if_its_last_epochs_are_no_better_than_its_best(
    values: list[float], patience: int | None, expected: bool
) -> None:
    assert stagnates(values, "valid_accuracy", patience) is expected
    assert stagnates([-value for value in values], "valid_loss", patience) is expected


def test_trials_end_after_their_best_epochs(tmp_path: Path) -> None:
    controller = run(tmp_path / "ledger.jsonl", [])
    completed = [t for t in controller.state.trials if t.status == "completed"]
    assert completed
    for trial in completed:
        best = trial.best("valid_accuracy")
        assert best is not None
        assert trial.epochs_done == min(9, best.epoch + 2) < 9
    row = next(r for r in ranking_of(config(), controller.state) if r["status"] == "completed")
    assert row["stopped"] == f"after epoch {row['epochs']}, without further improvement"


@quickly
@given(cuts=st.lists(st.integers(0, 12), max_size=4))
def test_an_interrupted_search_equals_an_uninterrupted_one(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("patience")
    uncut = run(folder / "uncut.jsonl", [])
    assert run(folder / "cut.jsonl", cuts).state.trials == uncut.state.trials


def test_a_resume_records_an_end_that_was_not_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        search = make_controller(config(), ledger)
        assert search.next() is not None
        reports = [
            EpochReport(epoch, {"valid_accuracy": value, "valid_loss": 0.5}, None)
            for epoch, value in enumerate([0.6, 0.7, 0.7, 0.7], 1)
        ]
        assert not search.report(0, reports)
    lines = path.read_bytes().splitlines(keepends=True)
    assert b"trial_stopped" in lines[-1]
    path.write_bytes(b"".join(lines[:-1]))
    with Ledger(path) as ledger:
        assert make_controller(config(), ledger).state.trials[0].status == "completed"


def test_epochs_after_the_end_of_a_trial_are_not_recorded(tmp_path: Path) -> None:
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        search = make_controller(config(), ledger)
        assert search.next() is not None
        reports = [
            EpochReport(epoch, {"valid_accuracy": 0.5, "valid_loss": 0.5}, None)
            for epoch in range(1, 7)
        ]
        assert not search.report(0, reports)
        assert search.state.trials[0].epochs_done == 3


def test_more_epochs_do_not_continue_trials_that_no_longer_improved(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    controller = run(path, [])
    ended = [t.number for t in controller.state.trials if t.status == "completed"]
    with Ledger(path) as ledger:
        changes = Changes(max_epochs=20)
        event = budget_event(config(), ledger, controller.state, changes, at=1.0)
        assert event is not None
        assert event.extended == []
        # The same trials continue in a search without the limit.
        unlimited = budget_event(config(patience=None), ledger, controller.state, changes, at=1.0)
    assert unlimited is not None
    assert set(unlimited.extended) <= set(ended)
    assert unlimited.extended
