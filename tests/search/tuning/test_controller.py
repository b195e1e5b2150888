from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import Event
from celltune.search.ledger.ledger import Ledger, read
from celltune.search.ledger.state import ExperimentState, TrialRecord
from celltune.search.tuning.controller import SearchController
from celltune.search.types import EpochReport
from tests.search.support import formula, make_config, make_controller, start_ledger, steps

quickly = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def run(config: SearchConfig, path: Path, cuts: list[int], workers: int = 1) -> SearchController:
    """Run a search; after each number of reports in `cuts` the driver dies and another resumes."""
    for cut in cuts:
        with start_ledger(path) as ledger:
            list(islice(steps(make_controller(config, ledger), workers), cut))
    with start_ledger(path) as ledger:
        conductor = make_controller(config, ledger)
        list(steps(conductor, workers))
        return conductor


def told(trials: list[FrozenTrial]) -> list[Any]:
    return [(t.number, t.state, t.values, t.params, t.intermediate_values) for t in trials]


def expected(trial: TrialRecord) -> Any:
    """What Optuna should know of a trial, by the ledger."""
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
def test_epochs_in_one_report_are_taken_in_as_if_one_by_one(
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
                goes_on = True
                for report in reports:
                    goes_on = goes_on and singly.report(assignment.number, [report])
                assert grouped.report(assignment.number, reports) == goes_on
        assert one.events == many.events
        assert told(singly.study.trials) == told(grouped.study.trials)


def test_a_report_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        conductor = make_controller(make_config(), ledger)
        assignment = conductor.next()
        assert assignment is not None
        written: list[list[str]] = []
        real = Ledger.append

        def append(self: Ledger, *events: Event) -> None:
            written.append([event.event for event in events])
            real(self, *events)

        monkeypatch.setattr(Ledger, "append", append)
        metrics = formula(assignment.params, 1)
        reports = [EpochReport(epoch, metrics, None) for epoch in range(1, 7)]
        assert not conductor.report(assignment.number, reports)
        assert written == [["epoch_reported"] * 4 + ["trial_stopped"]]


def test_a_search_uses_its_budget_and_stops_poor_trials(tmp_path: Path) -> None:
    conductor = run(make_config(), tmp_path / "ledger.jsonl", [])
    state = conductor.state
    assert conductor.end_reason
    assert len(state.trials) == 12
    assert state.count("completed") + state.count("pruned") == 12
    assert state.count("pruned") >= 3
    assert all(trial.epochs_done == 4 for trial in state.trials if trial.status == "completed")
    pruned = [trial.epochs_done for trial in state.trials if trial.status == "pruned"]
    assert set(pruned) <= {1, 2}


@quickly
@given(cuts=st.lists(st.integers(0, 12), max_size=4))
def test_a_search_cut_anywhere_is_the_uncut_search(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = make_config(budget={"trials": 9, "max_epochs": 4})
    folder = tmp_path_factory.mktemp("cut")
    uncut = run(config, folder / "uncut.jsonl", [])
    cut = run(config, folder / "cut.jsonl", cuts)
    assert cut.state.trials == uncut.state.trials
    assert told(cut.study.trials) == told(uncut.study.trials)


@quickly
@given(cut=st.integers(0, 25), workers=st.integers(1, 3))
def test_a_resumed_study_is_the_live_one_and_the_ledgers(
    cut: int, workers: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("study") / "ledger.jsonl"
    with start_ledger(path) as ledger:
        live = make_controller(make_config(), ledger)
        list(islice(steps(live, workers), cut))
    with Ledger(path) as ledger:
        resumed = make_controller(make_config(), ledger)
        assert told(resumed.study.trials) == told(live.study.trials)
        assert told(resumed.study.trials) == [expected(trial) for trial in resumed.state.trials]


def test_unfinished_trials_come_first_with_their_newest_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    config = make_config(early_stopping=None)
    with start_ledger(path) as ledger:
        conductor = make_controller(config, ledger)
        first, second = conductor.next(), conductor.next()
        assert first is not None
        assert second is not None
        for epoch in (1, 2):
            conductor.report(
                0, [EpochReport(epoch, formula(first.params, epoch), f"epoch-{epoch}")]
            )
    with Ledger(path) as ledger:
        conductor = make_controller(config, ledger)
        again = [conductor.next() for _ in range(3)]
        assert [assignment and assignment.number for assignment in again] == [0, 1, 2]
        assert again[0] is not None
        assert again[0].checkpoints == ("epoch-2", "epoch-1")
        assert again[0].params == first.params
        assert again[1] is not None
        assert again[1].checkpoints == ()


@pytest.mark.parametrize(("epochs", "status"), [(4, "completed"), (1, "pruned")])
def test_a_trial_whose_end_was_not_written_ends_at_resume(
    epochs: int, status: str, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        conductor = make_controller(make_config(), ledger)
        for number, quality in ((0, 0.9), (1, 0.1 if status == "pruned" else 0.95)):
            assert conductor.next() is not None
            for epoch in range(1, 5 if number == 0 else epochs + 1):
                value = quality + epoch / 1000
                metrics = {"valid_accuracy": value, "valid_loss": 1 - value}
                conductor.report(number, [EpochReport(epoch, metrics, f"epoch-{epoch}")])
    lines = path.read_bytes().splitlines(keepends=True)
    assert b"trial_stopped" in lines[-1]
    path.write_bytes(b"".join(lines[:-1]))
    with Ledger(path) as ledger:
        conductor = make_controller(make_config(), ledger)
        assert conductor.state.trials[1].status == status
        following = conductor.next()
        assert following is not None
        assert following.number == 2
    assert ExperimentState(read(path)).trials[1].status == status


def test_a_failed_trial_is_told_as_fail_and_the_search_goes_on(tmp_path: Path) -> None:
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        conductor = make_controller(make_config(budget={"trials": 2, "max_epochs": 2}), ledger)
        conductor.next()
        conductor.fail(0, "it broke", "trace")
        assert conductor.study.trials[0].state == TrialState.FAIL
        assert conductor.next() is not None
        assert conductor.next() is None
        assert conductor.end_reason is None
        conductor.fail(1, "it broke too")
        assert conductor.end_reason


def test_a_trial_whose_worker_died_goes_on_until_it_died_too_often(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    config = make_config(budget={"trials": 1, "max_epochs": 4}, retries=2)
    with start_ledger(path) as ledger:
        conductor = make_controller(config, ledger)
        first = conductor.next()
        assert first is not None
        conductor.report(0, [EpochReport(1, formula(first.params, 1), "epoch-1")])
        conductor.retry_or_fail(0, "memory", "out of memory")
        assert conductor.study.trials[0].state == TrialState.RUNNING
        again = conductor.next()
        assert again is not None
        assert (again.number, again.params) == (0, first.params)
        assert again.checkpoints == ("epoch-1",)
        conductor.retry_or_fail(0, "memory", "out of memory")
    with Ledger(path) as ledger:
        conductor = make_controller(config, ledger)
        assert conductor.next() is not None
        assert conductor.end_reason is None
        conductor.retry_or_fail(0, "memory", "out of memory")
        assert conductor.state.trials[0].error == (
            "The trial was set back 3 times, at last because it had too little memory: "
            "out of memory"
        )
        assert conductor.study.trials[0].state == TrialState.FAIL
        assert conductor.end_reason
        assert conductor.next() is None


def test_epochs_that_the_ledger_holds_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        conductor = make_controller(make_config(), ledger)
        first = conductor.next()
        assert first is not None
        assert conductor.report(0, [EpochReport(1, formula(first.params, 1), "epoch-1")])
        before = path.read_bytes()
        assert conductor.report(0, [EpochReport(1, formula(first.params, 1), "epoch-1")])
        assert path.read_bytes() == before


def test_a_number_that_is_none_never_reaches_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with start_ledger(path) as ledger:
        conductor = make_controller(make_config(), ledger)
        conductor.next()
        with pytest.raises(ValidationError, match="finite number"):
            conductor.report(0, [EpochReport(1, {"valid_accuracy": float("nan")}, None)])
        assert conductor.state.trials[0].epochs == []
    assert len(read(path)) == 2


def test_observers_see_events_that_are_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    seen = []
    with start_ledger(path) as ledger:
        conductor = make_controller(make_config(), ledger)
        conductor.observe(lambda event, _: seen.append((event, read(path)[-1] == event)))
        conductor.start(celltune="1", host="h", pid=1)
        conductor.next()
        conductor.end("interrupted")
    assert [whole for _, whole in seen] == [True, True, True]
    assert [event.event for event, _ in seen] == ["run_started", "trial_created", "run_ended"]


def test_with_less_is_better_the_lowest_loss_survives(tmp_path: Path) -> None:
    config = make_config(metric="valid_loss", budget={"trials": 2, "max_epochs": 4})
    with start_ledger(tmp_path / "ledger.jsonl") as ledger:
        conductor = make_controller(config, ledger)
        conductor.next()
        conductor.next()
        assert conductor.report(0, [EpochReport(1, {"valid_loss": 0.4}, None)])
        assert not conductor.report(1, [EpochReport(1, {"valid_loss": 0.5}, None)])
