"""The reports of a worker, without Ray: `step` is called directly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from celltune.data_prep.errors import DataError, DataLostError
from celltune.models.errors import TrialError
from celltune.search.cluster.messages import WorkerFailure, WorkerReport, WorkerTask
from celltune.search.cluster.worker import TrialWorker
from celltune.search.errors import StorageError
from celltune.search.types import EpochReport


def epoch(number: int) -> EpochReport:
    return EpochReport(number, {}, f"epoch-{number}")


def next_report(worker: TrialWorker) -> WorkerReport:
    (report,) = worker.step()["reports"]
    assert isinstance(report, WorkerReport)
    return report


def start(work: Any, max_epochs: int = 5) -> TrialWorker:
    """Return a worker without the initialization by Ray Tune."""
    worker = TrialWorker.__new__(TrialWorker)
    trial = cast("Any", SimpleNamespace(number=0))
    worker.setup({"task": WorkerTask(trial, max_epochs, cast("Any", None), work)})
    return worker


def test_short_epochs_share_a_report_up_to_the_last_epoch() -> None:
    def work(task: Any, data: Any) -> Iterator[EpochReport]:
        yield from map(epoch, range(1, 100))

    assert next_report(start(work)) == WorkerReport(tuple(map(epoch, range(1, 6))))


def test_a_long_epoch_is_reported_alone() -> None:
    def work(task: Any, data: Any) -> Iterator[EpochReport]:
        for number in (1, 2):
            time.sleep(0.01)
            yield epoch(number)

    worker = start(work)
    assert next_report(worker).epochs == (epoch(1),)
    assert next_report(worker).epochs == (epoch(2),)


def test_a_worker_is_reused_for_another_trial() -> None:
    def work(task: Any, data: Any) -> Iterator[EpochReport]:
        yield epoch(task.number)

    worker = start(work, max_epochs=0)
    trial = cast("Any", SimpleNamespace(number=3))
    assert worker.reset_config({"task": WorkerTask(trial, 3, cast("Any", None), work)})
    assert next_report(worker).epochs == (epoch(3),)


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
    def work(task: Any, data: Any) -> Iterator[EpochReport]:
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
