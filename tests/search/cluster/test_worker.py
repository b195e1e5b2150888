"""The reports of a worker, without Ray: `step` is called directly."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from celltune.data_prep.errors import DataError, DataLostError
from celltune.models.errors import TrialError
from celltune.search.cluster import worker as worker_module
from celltune.search.cluster.messages import TrialReport, WorkerFailure, WorkerReport, WorkerTask
from celltune.search.cluster.worker import TrialWorker
from celltune.search.errors import StorageError
from celltune.search.tuning.trial import TrialTask
from celltune.search.tuning.trial_group import SeparateTrials
from celltune.search.types import EpochReport


def epoch(number: int) -> EpochReport:
    return EpochReport(number, {}, f"epoch-{number}")


def trial(number: int = 0, max_epochs: int = 5) -> TrialTask:
    return TrialTask(number, {}, 1, cast("Any", None), max_epochs=max_epochs)


def next_reports(worker: TrialWorker) -> tuple[TrialReport, ...]:
    (report,) = worker.step()["reports"]
    assert isinstance(report, WorkerReport)
    return report.trials


def next_report(worker: TrialWorker) -> TrialReport:
    (report,) = next_reports(worker)
    return report


def separately(work: Any) -> Any:
    return lambda task: SeparateTrials(work)


def start(work: Any, *trials: TrialTask) -> TrialWorker:
    """Return a worker without the initialization by Ray Tune."""
    worker = TrialWorker.__new__(TrialWorker)
    task = WorkerTask(trials or (trial(),), cast("Any", None), separately(work))
    worker.setup({"task": task})
    return worker


def slow_epochs(task: TrialTask) -> Iterator[EpochReport]:
    """Epochs that are too long to share a report."""
    for number in range(1, 100):
        time.sleep(0.006)
        yield epoch(number)


class FailingPack:
    """A group all of whose trials fail together."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def add(self, task: TrialTask) -> None:
        del task

    def run_epoch(self) -> None:
        raise self._error


LOST_GPU = "CUDA error: an illegal memory access was encountered\nmore"


def test_worker_that_lost_its_gpu_does_not_survive(caplog: pytest.LogCaptureFixture) -> None:
    def work(task: TrialTask) -> Iterator[EpochReport]:
        raise RuntimeError(LOST_GPU)
        yield epoch(1)

    with pytest.raises(RuntimeError, match="an illegal memory access was encountered"):
        start(work).step()
    assert "because its process can no longer use the GPU: CUDA error: an illegal" in caplog.text
    worker = start(work)
    pack = cast("Any", FailingPack(RuntimeError(LOST_GPU)))
    worker._task = dataclasses.replace(worker._task, work=lambda task: pack)
    with pytest.raises(RuntimeError, match="an illegal memory access was encountered"):
        worker.step()


@pytest.mark.parametrize("message", ["CUDA error: out of memory", "CUDA error: invalid argument"])
def test_worker_survives_other_errors_of_its_gpu(message: str) -> None:
    def work(task: TrialTask) -> Iterator[EpochReport]:
        raise RuntimeError(message)
        yield epoch(1)

    failure = next_report(start(work)).failure
    assert failure is not None
    assert failure.message == message


@pytest.mark.parametrize("work", [worker_module.train_separately, worker_module.train_packed])
def test_memory_of_ended_trials_is_free_for_other_workers_on_the_gpu(
    work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    monkeypatch.setattr(worker_module.ray_store, "open_handle", lambda data: done.append("opened"))
    work(WorkerTask((trial(),), cast("Any", None), work))
    assert done == ["emptied", "opened"]


def test_short_epochs_share_a_report_up_to_the_last_epoch() -> None:
    def work(task: TrialTask) -> Iterator[EpochReport]:
        yield from map(epoch, range(1, 100))

    assert next_report(start(work)) == TrialReport(0, tuple(map(epoch, range(1, 6))))


def test_a_long_epoch_is_reported_alone() -> None:
    worker = start(slow_epochs)
    assert next_report(worker).epochs == (epoch(1),)
    assert next_report(worker).epochs == (epoch(2),)


def test_a_worker_is_reused_for_another_trial() -> None:
    def work(task: TrialTask) -> Iterator[EpochReport]:
        yield epoch(task.number)

    worker = start(work)
    task = WorkerTask((trial(3, 3),), cast("Any", None), separately(work))
    assert worker.reset_config({"task": task})
    assert next_report(worker) == TrialReport(3, (epoch(3),))


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (DataLostError("gone"), WorkerFailure("gone", "lost", data_lost=True)),
        (StorageError("disk is full"), WorkerFailure("disk is full", ends_run=StorageError)),
        (DataError("no documents"), WorkerFailure("no documents", ends_run=DataError)),
        (TrialError("diverged"), WorkerFailure("diverged")),
        (MemoryError("too large"), WorkerFailure("too large", "memory")),
        (ValueError(), WorkerFailure("ValueError", "raised")),
    ],
)
def test_an_error_is_reported_with_the_epochs_before_it(
    error: Exception, failure: WorkerFailure
) -> None:
    def work(task: TrialTask) -> Iterator[EpochReport]:
        yield epoch(1)
        raise error

    report = next_report(start(work))
    assert report.epochs == (epoch(1),)
    assert report.failure is not None
    has_traceback = not (failure.data_lost or failure.ends_run)
    assert ("Traceback" in report.failure.details) is has_traceback
    assert report.failure == WorkerFailure(
        failure.message,
        failure.cause,
        report.failure.details,
        data_lost=failure.data_lost,
        ends_run=failure.ends_run,
    )


def test_the_trials_of_a_worker_are_reported_together() -> None:
    worker = start(slow_epochs, trial(0), trial(4))
    for number in (1, 2):
        assert next_reports(worker) == (
            TrialReport(0, (epoch(number),)),
            TrialReport(4, (epoch(number),)),
        )


def test_trials_that_have_ended_are_replaced_before_the_next_epoch() -> None:
    worker = start(slow_epochs, trial(0), trial(1))
    next_reports(worker)
    worker.replace_trials([0], [trial(7)])
    assert next_reports(worker) == (TrialReport(1, (epoch(2),)), TrialReport(7, (epoch(1),)))
    worker.replace_trials([1], [])
    worker.replace_trials([7], [trial(1)])
    assert next_reports(worker) == (TrialReport(1, (epoch(1),)),)


def test_the_last_epoch_of_one_trial_is_reported_at_once() -> None:
    def work(task: TrialTask) -> Iterator[EpochReport]:
        yield from map(epoch, range(1, 100))

    shorter, longer = next_reports(start(work, trial(0, 3), trial(1, 9)))
    assert [report.epoch for report in shorter.epochs] == [1, 2, 3]
    assert [report.epoch for report in longer.epochs] == [1, 2, 3]


def test_an_error_of_a_trial_does_not_affect_its_neighbours() -> None:
    def work(task: TrialTask) -> Iterator[EpochReport]:
        yield epoch(1)
        if task.number == 0:
            raise TrialError("diverged")
        yield epoch(2)

    failed, other = next_reports(start(work, trial(0), trial(1)))
    assert failed.epochs == (epoch(1),)
    assert failed.failure is not None
    assert failed.failure.message == "diverged"
    assert other == TrialReport(1, (epoch(1), epoch(2)))


class Group(SeparateTrials):
    """A group that rejects trials with odd numbers, and whose epochs fail if trial 2 is in it."""

    def __init__(self) -> None:
        super().__init__(slow_epochs)
        self.numbers: set[int] = set()

    def add(self, task: TrialTask) -> None:
        if task.number % 2:
            raise TrialError("has another shape")
        self.numbers.add(task.number)
        super().add(task)

    def remove(self, number: int) -> None:
        self.numbers.remove(number)
        super().remove(number)

    def run_epoch(self) -> dict[int, EpochReport | Exception]:
        if 2 in self.numbers:
            raise MemoryError("too large")
        return super().run_epoch()


def start_group(*trials: TrialTask) -> TrialWorker:
    worker = TrialWorker.__new__(TrialWorker)
    worker.setup({"task": WorkerTask(trials, cast("Any", None), lambda task: Group())})
    return worker


def test_a_trial_that_cannot_be_added_is_reported_before_the_others_continue() -> None:
    worker = start_group(trial(0), trial(1))
    report = next_report(worker)
    assert report.number == 1
    assert report.failure is not None
    assert report.failure.message == "has another shape"
    worker.replace_trials([1], [])
    assert next_report(worker) == TrialReport(0, (epoch(1),))


def test_an_error_of_the_group_is_an_error_of_all_of_its_trials() -> None:
    reports = next_reports(start_group(trial(0), trial(2)))
    assert [report.number for report in reports] == [0, 2]
    assert {report.failure and report.failure.cause for report in reports} == {"memory"}


def test_lost_data_is_an_error_of_all_trials() -> None:
    def lose(task: WorkerTask) -> Any:
        raise DataLostError("gone")

    worker = TrialWorker.__new__(TrialWorker)
    worker.setup({"task": WorkerTask((trial(0), trial(1)), cast("Any", None), lose)})
    failure = WorkerFailure("gone", "lost", data_lost=True)
    assert next_reports(worker) == (TrialReport(0, (), failure), TrialReport(1, (), failure))
