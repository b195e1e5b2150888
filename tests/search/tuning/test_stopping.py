from __future__ import annotations

from typing import Any

import pytest

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import (
    BudgetChanged,
    EpochReported,
    Event,
    TrialCreated,
    TrialFailed,
    TrialStopped,
)
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.snapshot import with_budget
from celltune.search.tuning.stopping import end_reason, explain_end, no_new_trials_reason
from tests.search.simulated_search import make_config


def a_trial(number: int, *accuracies: float, end: str = "completed") -> list[Event]:
    events: list[Event] = [TrialCreated(at=0, number=number, params={}, max_epochs=4)]
    for epoch, accuracy in enumerate(accuracies, 1):
        metrics = {"valid_accuracy": accuracy, "valid_loss": round(1 - accuracy, 6)}
        events.append(
            EpochReported(at=0, number=number, epoch=epoch, metrics=metrics, checkpoint=None)
        )
    if end == "failed":
        events.append(TrialFailed(at=0, number=number, error="it broke"))
    elif end != "unfinished":
        events.append(TrialStopped.model_validate({"at": 0, "number": number, "reason": end}))
    return events


def state_of(*trials: list[Event]) -> ExperimentState:
    return ExperimentState(event for events in trials for event in events)


def config(trials: int = 9, **budget: Any) -> SearchConfig:
    return make_config(budget={"trials": trials, "max_epochs": 4, **budget})


def test_a_search_ends_when_all_trials_have_ended() -> None:
    state = state_of(a_trial(0, 0.6), a_trial(1, 0.7, end="unfinished"))
    assert no_new_trials_reason(config(3), state) is None
    assert no_new_trials_reason(config(2), state) == "finished"
    assert end_reason(config(2), state) is None
    assert (
        end_reason(config(2), state_of(a_trial(0, 0.6), a_trial(1, 0.5, end="pruned")))
        == "finished"
    )


@pytest.mark.parametrize(
    ("metric", "target", "met"),
    [
        ("valid_accuracy", 0.7, True),
        ("valid_accuracy", 0.71, False),
        ("valid_loss", 0.3, True),
        ("valid_loss", 0.29, False),
    ],
)
def test_a_target_ends_a_search_at_once(metric: str, target: float, met: bool) -> None:
    state = state_of(a_trial(0, 0.6), a_trial(1, 0.7, 0.5, end="unfinished"))
    wanted = make_config(metric=metric, budget={"trials": 9, "max_epochs": 4, "target": target})
    assert end_reason(wanted, state) == ("target" if met else None)


def test_patience_counts_ended_trials_after_the_best_one() -> None:
    trials = [a_trial(0, 0.6), a_trial(1, 0.8), a_trial(2, 0.7), a_trial(3, 0.1, end="pruned")]
    assert no_new_trials_reason(config(patience=3), state_of(*trials)) is None
    assert end_reason(config(patience=2), state_of(*trials)) == "no_improvement"
    running = state_of(*trials, a_trial(4, 0.75, end="unfinished"))
    assert no_new_trials_reason(config(patience=2), running) == "no_improvement"
    assert end_reason(config(patience=2), running) is None
    better = state_of(*trials, a_trial(4, 0.85))
    assert no_new_trials_reason(config(patience=2), better) is None


def test_patience_ignores_failed_trials() -> None:
    failed = [a_trial(number, end="failed") for number in (1, 2, 3)]
    assert no_new_trials_reason(config(patience=2), state_of(a_trial(0, 0.6), *failed)) is None
    assert no_new_trials_reason(config(patience=2), state_of(a_trial(0, end="failed"))) is None


def test_too_many_failures_end_a_search_at_once() -> None:
    failed = [a_trial(number, end="failed") for number in range(3)]
    running = a_trial(3, 0.6, end="unfinished")
    assert end_reason(config(6), state_of(*failed, running)) is None
    assert end_reason(config(5), state_of(*failed, running)) == "too_many_failed"
    patient = make_config(budget={"trials": 5, "max_epochs": 4}, max_failed=1.0)
    assert end_reason(patient, state_of(*failed, running)) is None


def test_the_budget_of_the_ledger_replaces_that_of_the_config() -> None:
    changed = BudgetChanged(at=0, trials=20, max_epochs=8, target=0.9)
    state = ExperimentState([changed])
    asked = config(3, patience=2, time="30m")
    assert with_budget(asked, ExperimentState()) is asked
    budget = with_budget(asked, state).budget
    assert (budget.trials, budget.max_epochs, budget.target, budget.patience, budget.time) == (
        20,
        8,
        0.9,
        None,
        1800,
    )


def test_every_end_is_explained() -> None:
    state = state_of(a_trial(0, end="failed"))
    asked = config(patience=3, target=0.9)
    assert explain_end(asked, state, "finished").endswith("with more trials or more epochs.")
    assert explain_end(asked, state, "target").startswith(
        "The target is reached: valid_accuracy 90.00 %"
    )
    assert explain_end(asked, state, "no_improvement").startswith(
        "The last 3 trials did not improve"
    )
    assert explain_end(asked, state, "too_many_failed").startswith("1 of 9 trials failed")
