"""The adapters between Ray Tune and a controller, without Ray and with a recording controller."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from celltune.data_prep.errors import DataError
from celltune.errors import CelltuneError
from celltune.search.cluster import watchdog
from celltune.search.cluster.messages import TrialReport, WorkerFailure, WorkerReport, WorkerTask
from celltune.search.cluster.tune_adapters import (
    SchedulerAdapter,
    SearcherAdapter,
    StopperAdapter,
)
from celltune.search.cluster.watchdog import HangWatchdog
from celltune.search.errors import LedgerError, StorageError
from celltune.search.tuning.controller import SearchController
from celltune.search.tuning.trial import TrialTask
from celltune.search.types import EpochReport
from tests.search.cluster.recording import (
    EPOCH,
    NOTHING,
    PARAMS,
    RecordingController,
    assignments_of,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class TrialStub:
    """The attributes of a Ray Tune trial that the adapters use."""

    def __init__(self, error: str | None = None, numbers: tuple[int, ...] = (7,)) -> None:
        trials = tuple(TrialTask(number, PARAMS, 1, NOTHING) for number in numbers)
        self.config = {"task": WorkerTask(trials, NOTHING, NOTHING)}
        self.status = Trial.RUNNING
        self.replaced: list[tuple[list[int], list[int]]] = []
        method = SimpleNamespace(remote=self._replace)
        self.temporary_state = SimpleNamespace(ray_actor=SimpleNamespace(replace_trials=method))
        self._error = error

    def _replace(self, removed: Sequence[int], added: Sequence[TrialTask]) -> None:
        self.replaced.append((list(removed), [task.number for task in added]))

    def get_error(self) -> str | None:
        return self._error

    def is_finished(self) -> bool:
        return False


@pytest.fixture
def controller() -> RecordingController:
    return RecordingController()


@pytest.fixture
def republished() -> list[str]:
    return []


def make_scheduler(
    controller: RecordingController,
    republished: list[str],
    trials_per_worker: int = 1,
    watch: HangWatchdog | None = None,
) -> SchedulerAdapter:
    return SchedulerAdapter(
        cast("SearchController", controller),
        assignments_of(controller, trials_per_worker),
        watch or HangWatchdog(None, Clock()),
        lambda: republished.append("data"),
    )


@pytest.fixture
def scheduler(controller: RecordingController, republished: list[str]) -> SchedulerAdapter:
    return make_scheduler(controller, republished)


def handle(
    scheduler: SchedulerAdapter, epochs: tuple[EpochReport, ...], failure: WorkerFailure | None
) -> str:
    """Pass the report of trial 7, which is alone in its worker, to the scheduler."""
    trial = TrialStub()
    scheduler.on_trial_add(None, trial)
    return handle_all(scheduler, trial, TrialReport(7, epochs, failure))


def handle_all(scheduler: SchedulerAdapter, trial: TrialStub, *reports: TrialReport) -> str:
    result = {"reports": [WorkerReport(reports)]}
    decision = scheduler.on_trial_result(None, trial, result)
    assert result == {"reports": []}
    return decision


def test_epochs_are_reported_and_the_controller_decides(
    scheduler: SchedulerAdapter, controller: RecordingController
) -> None:
    assert handle(scheduler, (EPOCH,), None) == TrialScheduler.CONTINUE
    controller.goes_on = False
    assert handle(scheduler, (EPOCH, EPOCH), None) == TrialScheduler.STOP
    assert controller.calls == [("report", {7: [EPOCH]}), ("report", {7: [EPOCH, EPOCH]})]


def test_warnings_of_epochs_are_logged(
    scheduler: SchedulerAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    warned = EpochReport(1, {}, "epoch-1", ("checkpoint epoch-2 is damaged",))
    with caplog.at_level(logging.WARNING):
        handle(scheduler, (warned,), None)
    assert caplog.messages == ["checkpoint epoch-2 is damaged"]


@pytest.mark.parametrize(
    ("failure", "call"),
    [
        (WorkerFailure("diverged", None, "traceback"), ("fail", 7, "diverged", "traceback")),
        (WorkerFailure("full", "memory", "tb"), ("retry", [7], "memory", "full", "tb")),
        (WorkerFailure("gone", "lost", data_lost=True), ("retry", [7], "lost", "gone", "")),
    ],
)
def test_a_failure_ends_the_trial_or_retries_it(
    failure: WorkerFailure,
    call: tuple[Any, ...],
    scheduler: SchedulerAdapter,
    controller: RecordingController,
    republished: list[str],
) -> None:
    assert handle(scheduler, (), failure) == TrialScheduler.STOP
    assert controller.calls == [call]
    assert len(republished) == failure.data_lost


def test_a_failure_after_the_last_epoch_of_a_stopped_trial_is_ignored(
    scheduler: SchedulerAdapter, controller: RecordingController
) -> None:
    controller.goes_on = False
    assert handle(scheduler, (EPOCH,), WorkerFailure("late")) == TrialScheduler.STOP
    assert controller.calls == [("report", {7: [EPOCH]})]


@pytest.mark.parametrize("error", [StorageError, DataError, LedgerError])
def test_a_failure_that_ends_the_run_is_raised_in_its_own_class(
    scheduler: SchedulerAdapter, error: type[CelltuneError]
) -> None:
    with pytest.raises(error, match="disk is full"):
        handle(scheduler, (EPOCH,), WorkerFailure("disk is full", ends_run=error))
    assert type(scheduler.error) is error


def test_an_error_of_the_controller_is_kept(
    scheduler: SchedulerAdapter, controller: RecordingController, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> set[int]:
        raise LedgerError("cannot be written")

    monkeypatch.setattr(controller, "report_together", fail)
    with pytest.raises(LedgerError, match="cannot be written"):
        handle(scheduler, (EPOCH,), None)
    assert isinstance(scheduler.error, LedgerError)


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (
            None,
            "lost",
            "Ray reported no reason (it was killed, or the node was lost or ran out of memory)",
        ),
        ("first line\nThe worker died.", "lost", "The worker died."),
        (
            "ray.exceptions.OutOfMemoryError: node",
            "memory",
            "ray.exceptions.OutOfMemoryError: node",
        ),
    ],
)
def test_a_lost_worker_retries_its_trial(
    error: str | None,
    cause: str,
    message: str,
    scheduler: SchedulerAdapter,
    controller: RecordingController,
) -> None:
    trial = TrialStub(error)
    scheduler.on_trial_add(None, trial)
    scheduler.on_trial_error(None, trial)
    assert controller.calls == [("retry", [7], cause, message)]


def test_a_hanging_trial_is_killed_once_and_retried(
    controller: RecordingController, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(watchdog.ray, "kill", killed.append)
    clock, trial = Clock(), TrialStub("killed")
    watch = HangWatchdog(10.0, clock)
    scheduler = make_scheduler(controller, [], watch=watch)
    scheduler.on_trial_add(None, trial)
    for clock.now in (0.0, 9.0):
        watch.check()
    watch.reset(trial)
    for clock.now in (19.0, 19.1, 30.0):
        watch.check()
    assert killed == [trial.temporary_state.ray_actor]
    scheduler.on_trial_error(None, trial)
    reason = "The trial reported no epoch within 10s (trial_timeout)."
    assert controller.calls == [("retry", [7], "hung", reason)]


def test_the_searcher_is_finished_when_the_search_is(controller: RecordingController) -> None:
    assignments = assignments_of(controller)
    searcher = SearcherAdapter(
        cast("SearchController", controller),
        assignments,
        lambda trials: WorkerTask(trials, NOTHING, NOTHING),
    )
    controller.waiting = [3]
    assert [task.number for task in searcher.suggest("id")["task"].trials] == [3]
    assert searcher.suggest("id") is None
    controller.end_reason = "finished"
    assert searcher.suggest("id") == Searcher.FINISHED


def test_the_run_stops_on_request_or_when_the_search_is_over(
    controller: RecordingController,
) -> None:
    requested: list[bool] = []
    iterations: list[None] = []
    stopper = StopperAdapter(
        cast("SearchController", controller),
        HangWatchdog(None, Clock()),
        lambda: bool(requested),
        lambda: iterations.append(None),
    )
    assert stopper("id", {}) is False
    assert iterations == []
    assert stopper.stop_all() is False
    assert iterations == [None]
    controller.end_reason = "finished"
    assert stopper.stop_all() is True
    controller.end_reason = None
    requested.append(True)
    assert stopper.stop_all() is True


@pytest.fixture
def packed(controller: RecordingController, republished: list[str]) -> SchedulerAdapter:
    """A scheduler whose workers train up to three trials."""
    return make_scheduler(controller, republished, 3)


def started(scheduler: SchedulerAdapter, *numbers: int, error: str | None = None) -> TrialStub:
    trial = TrialStub(error, numbers)
    scheduler.on_trial_add(None, trial)
    return trial


def test_trials_that_end_are_replaced_in_the_same_worker(
    packed: SchedulerAdapter, controller: RecordingController, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = started(packed, 1, 2, 3)
    controller.waiting = [8]
    monkeypatch.setattr(controller, "report_together", lambda reports: reports.keys() & {2})
    reports = [TrialReport(number, (EPOCH,)) for number in (1, 2, 3)]
    assert handle_all(packed, trial, *reports) == TrialScheduler.CONTINUE
    assert trial.replaced == [([2], [8])]
    assert handle_all(packed, trial, TrialReport(1, (EPOCH,))) == TrialScheduler.CONTINUE
    assert trial.replaced == [([2], [8])]


def test_free_places_are_filled_as_soon_as_there_are_trials(
    packed: SchedulerAdapter, controller: RecordingController
) -> None:
    trial = started(packed, 1)
    assert handle_all(packed, trial, TrialReport(1, (EPOCH,))) == TrialScheduler.CONTINUE
    assert trial.replaced == []
    controller.waiting = [4, 5, 6]
    assert handle_all(packed, trial, TrialReport(1, (EPOCH,))) == TrialScheduler.CONTINUE
    assert trial.replaced == [([], [4, 5])]
    assert controller.waiting == [6]


def test_a_worker_whose_trials_have_all_ended_asks_for_any_shape(
    packed: SchedulerAdapter, controller: RecordingController
) -> None:
    trial = started(packed, 1, 2)
    controller.waiting, controller.goes_on = [4], False
    reports = [TrialReport(number, (EPOCH,)) for number in (1, 2)]
    assert handle_all(packed, trial, *reports) == TrialScheduler.STOP
    assert trial.replaced == []
    assert controller.waiting == [4]


def test_a_failed_trial_leaves_its_neighbours_alone(
    packed: SchedulerAdapter, controller: RecordingController
) -> None:
    trial = started(packed, 1, 2, 3)
    reports = (TrialReport(1, (EPOCH,)), TrialReport(2, (), WorkerFailure("diverged")))
    assert handle_all(packed, trial, *reports) == TrialScheduler.CONTINUE
    assert trial.replaced == [([2], [])]
    assert controller.calls[:2] == [("report", {1: [EPOCH]}), ("fail", 2, "diverged", "")]


def test_lost_data_is_republished_once_for_all_trials(
    packed: SchedulerAdapter, controller: RecordingController, republished: list[str]
) -> None:
    failure = WorkerFailure("gone", "lost", data_lost=True)
    reports = [TrialReport(number, (), failure) for number in (1, 2)]
    assert handle_all(packed, started(packed, 1, 2), *reports) == TrialScheduler.STOP
    assert republished == ["data"]
    assert controller.calls == [("retry", [1, 2], "lost", "gone", "")]


def test_epochs_of_all_trials_are_recorded_before_an_error_ends_the_run(
    packed: SchedulerAdapter, controller: RecordingController
) -> None:
    failure = WorkerFailure("disk is full", ends_run=StorageError)
    reports = (
        TrialReport(1, (), WorkerFailure("diverged")),
        TrialReport(2, (), failure),
        TrialReport(3, (EPOCH,)),
    )
    with pytest.raises(StorageError, match="disk is full"):
        handle_all(packed, started(packed, 1, 2, 3), *reports)
    assert controller.calls == [("report", {3: [EPOCH]})]


def test_a_lost_worker_retries_each_trial_that_it_trained_once(
    packed: SchedulerAdapter, controller: RecordingController
) -> None:
    trial = started(packed, 1, 2, error="The worker died.")
    controller.waiting = [5, 6]
    handle_all(packed, trial, TrialReport(1, (), WorkerFailure("diverged")))
    controller.calls.clear()
    packed.on_trial_error(None, trial)
    assert controller.calls == [("retry", [2, 5, 6], "lost", "The worker died.")]


def test_a_trial_that_must_be_alone_is_not_joined_by_others(
    packed: SchedulerAdapter, controller: RecordingController
) -> None:
    controller.waiting = [4]
    trial = TrialStub()
    task = TrialTask(3, PARAMS, 1, NOTHING, alone=True)
    trial.config = {"task": WorkerTask((task,), NOTHING, NOTHING)}
    packed.on_trial_add(None, trial)
    assert handle_all(packed, trial, TrialReport(3, (EPOCH,))) == TrialScheduler.CONTINUE
    assert trial.replaced == []
