"""Jobs of several tasks in the shared local Ray cluster."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Iterator

import pytest

from celltune.data_prep.errors import DataError
from celltune.search.cluster.task_pool import Job, WorkerDiedError, run_jobs, submit
from celltune.search.config.schema import Resources

pytestmark = pytest.mark.usefixtures("local_ray")
ONE = Resources()


def test_a_job_receives_the_results_of_its_tasks() -> None:
    results: list[float] = []

    def job(number: int) -> Job:
        half = yield submit(ONE, 0, operator.truediv, number, 2)
        results.append((yield submit(ONE, 0, operator.add, half, 1)))

    def empty() -> Job:
        return
        yield

    run_jobs([job(2), empty(), job(6), job(8)], slots=2)
    assert sorted(results) == [2, 4, 5]


def test_a_job_starts_only_when_a_slot_is_free() -> None:
    running, most, started = 0, 0, 0

    def job() -> Job:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield submit(ONE, 0, operator.add, 1, 1)
        running -= 1

    def jobs() -> Iterator[Job]:
        nonlocal started
        for _ in range(5):
            started += 1
            yield job()

    run_jobs(jobs(), slots=2)
    assert (most, started, running) == (2, 5, 0)


def test_the_error_of_a_task_is_raised_in_its_job() -> None:
    errors: list[Exception] = []

    def job() -> Job:
        try:
            yield submit(ONE, 0, operator.truediv, 1, 0)
        except ZeroDivisionError as error:
            errors.append(error)

    run_jobs([job()], slots=1)
    assert str(errors[0]) == "division by zero"


def test_an_error_that_leaves_a_job_ends_all_jobs() -> None:
    closed: list[str] = []

    def slow() -> Job:
        try:
            yield submit(ONE, 0, time.sleep, 600)
        finally:
            closed.append("slow")

    def broken() -> Job:
        yield submit(ONE, 0, operator.add, 1, 1)
        raise DataError("no such thing")

    started = time.monotonic()
    with pytest.raises(DataError, match="no such thing"):
        run_jobs([slow(), broken()], slots=2)
    assert closed == ["slow"]
    assert time.monotonic() - started < 60


def test_a_stop_request_ends_all_jobs() -> None:
    def slow() -> Job:
        yield submit(ONE, 0, time.sleep, 600)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([slow()], slots=1, should_stop=lambda: True)
    assert time.monotonic() - started < 60


def test_a_task_whose_worker_dies_repeatedly_fails() -> None:
    errors: list[str] = []

    def job() -> Job:
        try:
            yield submit(ONE, 1, os._exit, 1)
        except WorkerDiedError as error:
            errors.append(str(error))

    run_jobs([job()], slots=1)
    assert errors[0].startswith("The worker of the task died: ")
