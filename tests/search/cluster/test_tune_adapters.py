"""The adapters between Ray Tune and a controller, without Ray and with a recording controller."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from celltune.data_prep.errors import DataError
from celltune.errors import CelltuneError
from celltune.search.cluster import watchdog
from celltune.search.cluster.messages import WorkerFailure, WorkerReport, WorkerTask
from celltune.search.cluster.tune_adapters import (
    SchedulerAdapter,
    SearcherAdapter,
    StopperAdapter,
)
from celltune.search.cluster.watchdog import HangWatchdog
from celltune.search.errors import LedgerError, StorageError
from celltune.search.tuning.controller import SearchController
from celltune.search.types import EpochReport

EPOCH = EpochReport(1, {"valid_accuracy": 0.5}, "epoch-1")


class RecordingController:
    """Records its calls; every trial continues unless `goes_on` is False."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.goes_on = True
        self.end_reason: str | None = None

    def next(self) -> Any:
        return None

    def report(self, number: int, reports: Any) -> bool:
        self.calls.append(("report", number, list(reports)))
        return self.goes_on

    def fail(self, *arguments: Any) -> None:
        self.calls.append(("fail", *arguments))

    def retry_or_fail(self, *arguments: Any) -> None:
        self.calls.append(("retry", *arguments))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class TrialStub:
    """The attributes of a Ray Tune trial that the adapters use."""

    def __init__(self, error: str | None = None) -> None:
        nothing = cast("Any", None)
        task = WorkerTask(cast("Any", SimpleNamespace(number=7)), 3, nothing, nothing)
        self.config = {"task": task}
        self.status = Trial.RUNNING
        self.temporary_state = SimpleNamespace(ray_actor="actor")
        self._error = error

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


@pytest.fixture
def scheduler(controller: RecordingController, republished: list[str]) -> SchedulerAdapter:
    return SchedulerAdapter(
        cast("SearchController", controller),
        HangWatchdog(None, Clock()),
        lambda: republished.append("data"),
    )


def handle(
    scheduler: SchedulerAdapter, epochs: tuple[EpochReport, ...], failure: WorkerFailure | None
) -> str:
    result = {"reports": [WorkerReport(epochs, failure)]}
    decision = scheduler.on_trial_result(None, TrialStub(), result)
    assert result == {"reports": []}
    return decision


def test_epochs_are_reported_and_the_controller_decides(
    scheduler: SchedulerAdapter, controller: RecordingController
) -> None:
    assert handle(scheduler, (EPOCH,), None) == TrialScheduler.CONTINUE
    controller.goes_on = False
    assert handle(scheduler, (EPOCH, EPOCH), None) == TrialScheduler.STOP
    assert controller.calls == [("report", 7, [EPOCH]), ("report", 7, [EPOCH, EPOCH])]


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
        (WorkerFailure("full", "memory", "tb"), ("retry", 7, "memory", "full", "tb")),
        (WorkerFailure("gone", "lost", data_lost=True), ("retry", 7, "lost", "gone", "")),
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
    assert controller.calls == [("report", 7, [EPOCH])]


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
    def fail(*_: Any) -> bool:
        raise LedgerError("cannot be written")

    monkeypatch.setattr(controller, "report", fail)
    with pytest.raises(LedgerError, match="cannot be written"):
        handle(scheduler, (EPOCH,), None)
    assert isinstance(scheduler.error, LedgerError)


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (None, "lost", "Ray reported no reason"),
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
    scheduler.on_trial_error(None, TrialStub(error))
    assert controller.calls == [("retry", 7, cause, message)]


def test_a_hanging_trial_is_killed_once_and_retried(
    controller: RecordingController, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(watchdog.ray, "kill", killed.append)
    clock, trial = Clock(), TrialStub("killed")
    watch = HangWatchdog(10.0, clock)
    scheduler = SchedulerAdapter(cast("SearchController", controller), watch, lambda: None)
    watch.add(trial)
    for clock.now in (0.0, 9.0):
        watch.check()
    watch.reset(trial)
    for clock.now in (19.0, 19.1, 30.0):
        watch.check()
    assert killed == ["actor"]
    scheduler.on_trial_error(None, trial)
    reason = "The trial reported no epoch within 10s (trial_timeout)."
    assert controller.calls == [("retry", 7, "hung", reason)]


def test_the_searcher_is_finished_when_the_search_is(controller: RecordingController) -> None:
    searcher = SearcherAdapter(cast("SearchController", controller), cast("Any", None))
    assert searcher.suggest("id") is None
    controller.end_reason = "finished"
    assert searcher.suggest("id") == Searcher.FINISHED


def test_the_run_stops_on_request_or_when_the_search_is_over(
    controller: RecordingController,
) -> None:
    requested: list[bool] = []
    stopper = StopperAdapter(
        cast("SearchController", controller), HangWatchdog(None, Clock()), lambda: bool(requested)
    )
    assert stopper("id", {}) is False
    assert stopper.stop_all() is False
    controller.end_reason = "finished"
    assert stopper.stop_all() is True
    controller.end_reason = None
    requested.append(True)
    assert stopper.stop_all() is True
