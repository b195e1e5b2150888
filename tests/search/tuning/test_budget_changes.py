from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import BudgetChanged, TrialCreated
from celltune.search.ledger.ledger import Ledger, read
from celltune.search.ledger.state import ExperimentState
from celltune.search.tuning.budget_changes import (
    Changes,
    budget_event,
    config_after,
    describe_extension,
)
from celltune.search.tuning.controller import SearchController
from celltune.search.types import EpochReport
from tests.search.simulated_search import RAW, make_config, make_controller, start_ledger, steps

quickly = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def small(trials: int, max_epochs: int = 4, **changes: Any) -> SearchConfig:
    return make_config(budget={"trials": trials, "max_epochs": max_epochs}, **changes)


def extend(config: SearchConfig, path: Path, changes: Changes) -> BudgetChanged | None:
    with Ledger(path) as ledger:
        state = make_controller(config, ledger).state
        event = budget_event(config, ledger, state, changes, at=2.0)
        if event is not None:
            ledger.append(event)
        return event


def run(config: SearchConfig, path: Path, reports: int | None = None, workers: int = 1) -> Any:
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        list(islice(steps(controller, workers), reports))
        return controller


@quickly
@given(first=st.integers(1, 8), more=st.integers(1, 6))
def test_added_trials_equal_those_of_a_larger_search(
    first: int, more: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("more")
    whole = run(small(first + more), folder / "whole.jsonl")
    run(small(first), folder / "part.jsonl")
    assert extend(small(first), folder / "part.jsonl", Changes(trials=f"+{more}"))
    part = run(small(first), folder / "part.jsonl")
    assert part.state.trials == whole.state.trials
    assert part.end_reason == "finished"


@quickly
@given(cut=st.integers(0, 20), workers=st.integers(1, 3), again=st.integers(0, 15))
def test_more_epochs_extend_the_passing_trials_only(
    cut: int, workers: int, again: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("epochs") / "ledger.jsonl"
    config = small(8)
    run(config, path, cut, workers)
    with Ledger(path) as ledger:
        before = make_controller(config, ledger).state
    event = extend(config, path, Changes(max_epochs=16))
    assert event is not None
    best = [trial.number for trial in before.ranked(config.metric)[:1]]
    for number in event.extended:
        assert before.trials[number].status in ("unfinished", "completed") or [number] == best
    assert set(best) <= set(event.extended)
    run(config, path, again, workers)
    live = run(config, path, None, workers)
    after = ExperimentState(read(path))
    assert live.end_reason == "finished"
    for old, new in zip(before.trials, after.trials, strict=False):
        assert new.epochs[: len(old.epochs)] == old.epochs
        if old.number not in event.extended:
            assert new == old
    assert any(trial.epochs_done == 16 for trial in after.trials)
    assert [e.number for e in read(path) if isinstance(e, TrialCreated)] == list(range(8))


def test_completed_trials_that_pass_their_last_rung_are_extended(tmp_path: Path) -> None:
    path, config = tmp_path / "ledger.jsonl", small(4, 2)
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        for number, accuracy in enumerate((0.5, 0.6, 0.7, 0.8)):
            controller.next()
            for epoch in (1, 2):
                metrics = {"valid_accuracy": accuracy, "valid_loss": 1 - accuracy}
                controller.report(number, [EpochReport(epoch, metrics, f"epoch-{epoch}")])
    event = extend(config, path, Changes(max_epochs=4))
    assert event is not None
    assert event.extended == [2, 3]
    with Ledger(path) as ledger:
        controller = make_controller(config, ledger)
        going_on = [controller.next(), controller.next(), controller.next()]
        assert [a and (a.number, a.max_epochs, a.checkpoints[0]) for a in going_on] == [
            (2, 4, "epoch-2"),
            (3, 4, "epoch-2"),
            None,
        ]


Given = tuple[str, list[tuple[float, float, float]]]
"""The hyperparameter `wide`, and accuracy, loss and gain over the wide part by epoch."""


def run_given(path: Path, config: SearchConfig, trials: list[Given]) -> ExperimentState:
    """Report the epochs of given trials, as far as the early-stopping rule lets them continue."""
    with start_ledger(path) as ledger:
        for number, (wide, _) in enumerate(trials):
            epochs = 1 if wide == "only" else config.budget.max_epochs
            params: dict[str, Any] = {"wide": wide}
            if wide == "add":
                params |= NETWORK
            ledger.append(TrialCreated(at=0, number=number, params=params, max_epochs=epochs))
        controller = make_controller(config, ledger)
        for number, (wide, epochs) in enumerate(trials):
            for epoch, (accuracy, loss, gain) in enumerate(epochs, 1):
                metrics = {"valid_accuracy": accuracy, "valid_loss": loss}
                if wide == "add":
                    metrics |= {"wide_gain": gain, "wide_gain_error": 0.01}
                if not controller.report(number, [EpochReport(epoch, metrics, f"epoch-{epoch}")]):
                    break
        return controller.state


NETWORK = {"cell": "gru", "hidden_size": 8, "num_layers": 1, "learning_rate": 0.01}
WIDE_ALONE: Given = ("only", [(0.7, 0.6, 0.0)])


def by_loss(**budget: Any) -> SearchConfig:
    stopping = {"grace_period": 1, "reduction_factor": 3, "by": "valid_loss"}
    return make_config(
        early_stopping=stopping,
        budget={"max_epochs": 3, **budget},
        data={**RAW["data"], "wide": True},
        space={**RAW["space"], "wide": "add"},
        first_trials=[{"wide": "only"}],
    )


def test_a_pruned_trial_that_ranks_first_is_extended_and_stays_so_on_replay(tmp_path: Path) -> None:
    path, config = tmp_path / "ledger.jsonl", by_loss(trials=3)
    # The loss of trial 2 is higher at the first rung, but only its gain is larger than the noise.
    trials: list[Given] = [
        WIDE_ALONE,
        ("add", [(0.7, 0.5, 0.0)] * 3),
        ("add", [(0.75, 0.55, 0.05)] * 3),
    ]
    before = run_given(path, config, trials)
    assert [trial.status for trial in before.trials] == ["completed", "completed", "pruned"]
    assert before.ranked("valid_accuracy")[0].number == 2
    event = extend(config, path, Changes(max_epochs=5))
    assert event is not None
    assert event.extended == [1, 2]
    assert describe_extension(config, before, event) == (
        "Trained further, up to 5 epochs: trials 1, 2."
    )
    for _ in range(2):  # The second time is after another interruption.
        with Ledger(path) as ledger:
            controller = make_controller(config, ledger)
            going_on = [controller.next(), controller.next(), controller.next()]
        assert [a and (a.number, a.max_epochs, a.checkpoints[0]) for a in going_on] == [
            (1, 5, "epoch-3"),
            (2, 5, "epoch-1"),
            None,
        ]


@pytest.mark.parametrize(
    ("trials", "budget", "sentences"),
    [
        (
            [WIDE_ALONE, ("add", [(0.6, 0.7, 0.0)] * 3)],
            {},
            "Trained further, up to 5 epochs: trial 1. The best trial, 0, stays as it is: it is "
            "the wide part alone, which is not trained in epochs.",
        ),
        (
            [("add", [(0.6, 0.7, 0.0)] * 2)],
            {"epoch_patience": 1},
            "No trial is trained further. The best trial, 0, stays as it is: it ended because it "
            "no longer improved.",
        ),
    ],
)
def test_an_extension_says_why_the_best_trial_stays_as_it_is(
    trials: list[Given], budget: dict[str, Any], sentences: str, tmp_path: Path
) -> None:
    config = by_loss(trials=len(trials), **budget)
    state = run_given(tmp_path / "ledger.jsonl", config, trials)
    event = extend(config, tmp_path / "ledger.jsonl", Changes(max_epochs=5))
    assert event is not None
    assert describe_extension(config, state, event) == sentences


def test_an_extension_without_more_epochs_or_of_a_failed_trial_is_described(tmp_path: Path) -> None:
    path, config = tmp_path / "ledger.jsonl", by_loss(trials=1, max_epochs=2)
    run_given(path, config, [("add", [(0.6, 0.7, 0.0)])])
    with Ledger(path) as ledger:
        controller = make_controller(config, ledger)
        controller.fail(0, "broke")
        state = controller.state
    more_trials = extend(config, path, Changes(trials=2))
    assert more_trials is not None
    assert describe_extension(config, state, more_trials) == ""
    more_epochs = extend(config, path, Changes(max_epochs=4))
    assert more_epochs is not None
    assert describe_extension(config, state, more_epochs) == (
        "No trial is trained further. The best trial, 0, stays as it is: it failed."
    )


def test_without_early_stopping_every_completed_trial_is_extended(tmp_path: Path) -> None:
    path, config = tmp_path / "ledger.jsonl", small(3, 2, early_stopping=None)
    run(config, path)
    event = extend(config, path, Changes(max_epochs=3))
    assert event is not None
    assert event.extended == [0, 1, 2]


def test_retried_trials_continue_from_their_checkpoints_with_new_retries(tmp_path: Path) -> None:
    path, config = tmp_path / "ledger.jsonl", small(2, retries=0)
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        controller.next()
        controller.report(
            0, [EpochReport(1, {"valid_accuracy": 0.6, "valid_loss": 0.5}, "epoch-1")]
        )
        controller.retry_or_fail([0], "raised", "the disk of the data was missing", "trace")
        assert controller.state.trials[0].status == "failed"
        assert controller.state.trials[0].error == "the disk of the data was missing"
    event = extend(config, path, Changes(retry_failed=True))
    assert event is not None
    assert event.retried == [0]
    with Ledger(path) as ledger:
        controller = make_controller(config, ledger)
        trial = controller.state.trials[0]
        assert (trial.status, trial.error, trial.losses) == ("unfinished", "", 0)
        again = controller.next()
        assert again is not None
        assert (again.number, again.checkpoints) == (0, ("epoch-1",))
    assert extend(config, path, Changes(retry_failed=True)) is None


def test_a_retried_trial_gets_the_new_max_epochs(tmp_path: Path) -> None:
    path, config = tmp_path / "ledger.jsonl", small(1, retries=0)
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        controller.next()
        controller.fail(0, "broke")
    more = config.budget.max_epochs + 3
    extend(config, path, Changes(max_epochs=more, retry_failed=True))
    with Ledger(path) as ledger:
        again = make_controller(config, ledger).next()
    assert again is not None
    assert (again.number, again.max_epochs) == (0, more)


def test_a_repeated_change_has_no_effect(tmp_path: Path) -> None:
    path, config = tmp_path / "ledger.jsonl", small(2)
    run(config, path)
    assert extend(config, path, Changes(trials=4, target="0.99")) is not None
    assert extend(config, path, Changes(trials=4, target=0.99)) is None
    assert extend(config, path, Changes()) is None
    lifted = extend(config, path, Changes(target="none"))
    assert lifted is not None
    assert lifted.target is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            Changes(trials="many"),
            r"`trials` is 'many'. Give a number of trials \(100\) or an increment \(\+20\)",
        ),
        (Changes(trials="-3"), "`trials` is '-3'"),
        (Changes(trials=1), "`trials` is 1, but 3 trials were already started. Give at least"),
        (Changes(max_epochs=3), "`max_epochs` is 3, but trials were started with 4. Give at least"),
        (Changes(max_epochs=0), "budget.max_epochs is 0. It must be at least 1"),
        (Changes(target="high"), "`target` is 'high'. Give a number or none"),
        (Changes(target=89), "budget.target is 89, .* Write 0.9 for 90 %."),
        (Changes(patience="1.5"), "`patience` is '1.5'. Give a whole number or none"),
        (Changes(patience=0), "budget.patience is 0. It must be at least 1"),
    ],
)
def test_invalid_changes_are_rejected(changes: Changes, message: str, tmp_path: Path) -> None:
    controller: SearchController = run(small(3), tmp_path / "ledger.jsonl")
    with pytest.raises(ConfigError, match=message):
        config_after(small(3), controller.state, changes)


def test_an_event_that_reopens_an_impossible_trial_is_rejected() -> None:
    created = TrialCreated(at=0, number=0, params={}, max_epochs=2)
    for event, message in (
        (BudgetChanged(at=0, trials=1, max_epochs=4, retried=[0]), "trial 0 is unfinished and"),
        (BudgetChanged(at=0, trials=1, max_epochs=4, extended=[1]), "trial 1 was never created"),
    ):
        state = ExperimentState([created])
        with pytest.raises(ValueError, match=message):
            state.apply(event)
        assert state.budget is None
