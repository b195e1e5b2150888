from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from pydantic import ValidationError

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import Event
from celltune.search.ledger.ledger import Ledger, read
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.tuning.controller import SearchController
from celltune.search.types import EpochReport
from tests.search.simulated_search import (
    formula,
    make_config,
    make_controller,
    start_ledger,
    steps,
    study_of,
)

quickly = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def run(config: SearchConfig, path: Path, cuts: list[int], workers: int = 1) -> SearchController:
    """Run a search whose driver is killed and resumed after each number of reports in `cuts`."""
    for cut in cuts:
        with start_ledger(path) as ledger:
            list(islice(steps(make_controller(config, ledger), workers), cut))
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        list(steps(controller, workers))
        return controller


def trials_of(controller: SearchController) -> list[Any]:
    """Return the trials of the controller's Optuna study as comparable values."""
    trials = study_of(controller).trials
    return [(t.number, t.state, t.values, t.params, t.intermediate_values) for t in trials]


def expected(trial: TrialRecord) -> Any:
    """Return a recorded trial as `trials_of` represents it."""
    values = {epoch.epoch: epoch.metrics["valid_accuracy"] for epoch in trial.epochs}
    states = {
        "unfinished": (TrialState.RUNNING, None),
        "completed": (TrialState.COMPLETE, [max(values.values(), default=0.0)]),
        "pruned": (TrialState.PRUNED, [values[max(values)]] if values else None),
        "failed": (TrialState.FAIL, None),
    }
    params = {name: value for name, value in trial.params.items() if name != "embedding_size"}
    state, value = states[trial.status]
    return (trial.number, state, value, params, values)


@quickly
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4), workers=st.sampled_from([1, 3]))
def test_grouped_epochs_are_recorded_like_single_ones(
    sizes: list[int], workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("groups")
    with start_ledger(folder / "one.jsonl") as one, start_ledger(folder / "many.jsonl") as many:
        singly, grouped = (make_controller(make_config(), ledger) for ledger in (one, many))
        for size in sizes:
            waiting = [(singly.next(), grouped.next()) for _ in range(workers)]
            for assignment, same in waiting:
                assert assignment is not None
                assert assignment == same
                reports = [
                    EpochReport(epoch, formula(assignment.params, epoch), f"epoch-{epoch}")
                    for epoch in range(1, size + 1)
                ]
                continues = True
                for report in reports:
                    continues = continues and singly.report(assignment.number, [report])
                assert grouped.report(assignment.number, reports) == continues
        assert one.events == many.events
        assert trials_of(singly) == trials_of(grouped)


def test_a_report_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        controller = make_controller(make_config(), ledger)
        assignment = controller.next()
        assert assignment is not None
        written: list[list[str]] = []
        real = Ledger.append

        def append(self: Ledger, *events: Event) -> None:
            written.append([event.event for event in events])
            real(self, *events)

        monkeypatch.setattr(Ledger, "append", append)
        metrics = formula(assignment.params, 1)
        reports = [EpochReport(epoch, metrics, None) for epoch in range(1, 7)]
        assert not controller.report(assignment.number, reports)
        assert written == [["epoch_reported"] * 4 + ["trial_stopped"]]


def test_a_search_uses_its_budget_and_prunes_poor_trials(tmp_path: Path) -> None:
    controller = run(make_config(), tmp_path / "ledger.jsonl", [])
    state = controller.state
    assert controller.end_reason
    assert len(state.trials) == 12
    assert state.count("completed") + state.count("pruned") == 12
    assert state.count("pruned") >= 3
    assert all(trial.epochs_done == 4 for trial in state.trials if trial.status == "completed")
    pruned = [trial.epochs_done for trial in state.trials if trial.status == "pruned"]
    assert set(pruned) <= {1, 2}


@quickly
@given(cuts=st.lists(st.integers(0, 12), max_size=4))
def test_an_interrupted_search_equals_an_uninterrupted_one(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = make_config(budget={"trials": 9, "max_epochs": 4})
    folder = tmp_path_factory.mktemp("cut")
    uncut = run(config, folder / "uncut.jsonl", [])
    cut = run(config, folder / "cut.jsonl", cuts)
    assert cut.state.trials == uncut.state.trials
    assert trials_of(cut) == trials_of(uncut)


@quickly
@given(cut=st.integers(0, 25), workers=st.integers(1, 3))
def test_a_resumed_study_equals_the_live_one_and_the_ledger(
    cut: int, workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("study") / "ledger.jsonl"
    with start_ledger(path) as ledger:
        live = make_controller(make_config(), ledger)
        list(islice(steps(live, workers), cut))
    with Ledger(path) as ledger:
        resumed = make_controller(make_config(), ledger)
        assert trials_of(resumed) == trials_of(live)
        assert trials_of(resumed) == [expected(trial) for trial in resumed.state.trials]


def test_unfinished_trials_are_assigned_first_with_their_newest_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    config = make_config(early_stopping=None)
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        first, second = controller.next(), controller.next()
        assert first is not None
        assert second is not None
        for epoch in (1, 2):
            controller.report(
                0, [EpochReport(epoch, formula(first.params, epoch), f"epoch-{epoch}")]
            )
    with Ledger(path) as ledger:
        controller = make_controller(config, ledger)
        again = [controller.next() for _ in range(3)]
        assert [assignment and assignment.number for assignment in again] == [0, 1, 2]
        assert again[0] is not None
        assert again[0].checkpoints == ("epoch-2", "epoch-1")
        assert again[0].params == first.params
        assert again[1] is not None
        assert again[1].checkpoints == ()


@pytest.mark.parametrize(("epochs", "status"), [(4, "completed"), (1, "pruned")])
def test_resume_records_a_missing_end_of_a_trial(epochs: int, status: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        controller = make_controller(make_config(), ledger)
        for number, quality in ((0, 0.9), (1, 0.1 if status == "pruned" else 0.95)):
            assert controller.next() is not None
            for epoch in range(1, 5 if number == 0 else epochs + 1):
                value = quality + epoch / 1000
                metrics = {"valid_accuracy": value, "valid_loss": 1 - value}
                controller.report(number, [EpochReport(epoch, metrics, f"epoch-{epoch}")])
    lines = path.read_bytes().splitlines(keepends=True)
    assert b"trial_stopped" in lines[-1]
    path.write_bytes(b"".join(lines[:-1]))
    with Ledger(path) as ledger:
        controller = make_controller(make_config(), ledger)
        assert controller.state.trials[1].status == status
        following = controller.next()
        assert following is not None
        assert following.number == 2
    assert ExperimentState(read(path)).trials[1].status == status


def test_a_search_continues_after_a_failed_trial(tmp_path: Path) -> None:
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        controller = make_controller(make_config(budget={"trials": 2, "max_epochs": 2}), ledger)
        controller.next()
        controller.fail(0, "it broke", "trace")
        assert study_of(controller).trials[0].state == TrialState.FAIL
        assert controller.next() is not None
        assert controller.next() is None
        assert controller.end_reason is None
        controller.fail(1, "it broke too")
        assert controller.end_reason


def test_a_trial_that_loses_its_worker_is_retried_then_fails(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    config = make_config(budget={"trials": 1, "max_epochs": 4}, retries=2)
    with start_ledger(path) as ledger:
        controller = make_controller(config, ledger)
        first = controller.next()
        assert first is not None
        controller.report(0, [EpochReport(1, formula(first.params, 1), "epoch-1")])
        controller.retry_or_fail([0], "memory", "out of memory")
        assert study_of(controller).trials[0].state == TrialState.RUNNING
        again = controller.next()
        assert again is not None
        assert (again.number, again.params) == (0, first.params)
        assert again.checkpoints == ("epoch-1",)
        controller.retry_or_fail([0], "memory", "out of memory")
    with Ledger(path) as ledger:
        controller = make_controller(config, ledger)
        assert controller.next() is not None
        assert controller.end_reason is None
        controller.retry_or_fail([0], "memory", "out of memory")
        assert controller.state.trials[0].error == (
            "The trial was retried 2 times and failed, the last time because it ran out of memory: "
            "out of memory"
        )
        assert study_of(controller).trials[0].state == TrialState.FAIL
        assert controller.end_reason
        assert controller.next() is None


def test_epochs_of_several_trials_are_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[list[str]] = []
    original = Ledger.append

    def append(self: Ledger, *events: Event) -> None:
        writes.append([f"{event.event} {getattr(event, 'number', '')}" for event in events])
        original(self, *events)

    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        config = make_config(budget={"trials": 2, "max_epochs": 2}, early_stopping=None)
        controller = make_controller(config, ledger)
        assert controller.trials_to_start == 2
        for _ in range(2):
            controller.next()
        assert controller.trials_to_start == 0
        first, second = (
            [EpochReport(n, {"valid_accuracy": 0.5 + n / 10}, f"epoch-{n}") for n in epochs]
            for epochs in ([1], [1, 2, 3])
        )
        monkeypatch.setattr(Ledger, "append", append)
        assert controller.report_together({0: first, 1: second}) == {1}
        assert controller.report_together({0: first}) == set()
        assert controller.report_together({}) == set()
        states = [trial.state for trial in study_of(controller).trials]
    assert writes == [
        ["epoch_reported 0", "epoch_reported 1", "epoch_reported 1", "trial_stopped 1"]
    ]
    assert states == [TrialState.RUNNING, TrialState.COMPLETE]


def test_epochs_that_were_recorded_before_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        controller = make_controller(make_config(), ledger)
        first = controller.next()
        assert first is not None
        assert controller.report(0, [EpochReport(1, formula(first.params, 1), "epoch-1")])
        before = path.read_bytes()
        assert controller.report(0, [EpochReport(1, formula(first.params, 1), "epoch-1")])
        assert path.read_bytes() == before


def test_a_nan_metric_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        controller = make_controller(make_config(), ledger)
        controller.next()
        with pytest.raises(ValidationError, match="finite number"):
            controller.report(0, [EpochReport(1, {"valid_accuracy": float("nan")}, None)])
        assert controller.state.trials[0].epochs == []
    assert len(read(path)) == 2


def test_observers_receive_events_after_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    seen = []
    with start_ledger(path) as ledger:
        controller = make_controller(make_config(), ledger)
        controller.observe(lambda event, _: seen.append((event, read(path)[-1] == event)))
        controller.start(celltune="1", host="h", pid=1)
        controller.next()
        controller.end("interrupted")
    assert [whole for _, whole in seen] == [True, True, True]
    assert [event.event for event, _ in seen] == ["run_started", "trial_created", "run_ended"]


def test_the_lowest_loss_survives(tmp_path: Path) -> None:
    config = make_config(metric="valid_loss", budget={"trials": 2, "max_epochs": 4})
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        controller = make_controller(config, ledger)
        controller.next()
        controller.next()
        assert controller.report(0, [EpochReport(1, {"valid_loss": 0.4}, None)])
        assert not controller.report(1, [EpochReport(1, {"valid_loss": 0.5}, None)])


def test_the_trials_of_a_lost_worker_are_recorded_as_one_loss(tmp_path: Path) -> None:
    config = make_config(budget={"trials": 3, "max_epochs": 4}, retries=1)
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        controller = make_controller(config, ledger)
        for _ in range(3):
            controller.next()
        controller.retry_or_fail([0, 2], "lost", "it was killed")
        assert controller.state.workers_lost == 1
        again = [controller.next(), controller.next()]
        assert [assignment.number for assignment in again if assignment] == [0, 2]
        controller.retry_or_fail([0, 1], "hung", "no epoch")
        trials = controller.state.trials
        assert [trial.status for trial in trials] == ["failed", "unfinished", "unfinished"]
        assert controller.state.workers_lost == 2
        assert [trial.losses for trial in trials] == [1, 1, 1]
        last = controller.next()
        assert last is not None
        assert last.number == 1
        assert controller.next() is None
