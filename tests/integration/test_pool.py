"""Jobs of several steps on the tests' one Ray. Steps are functions that any worker can import."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Iterator

import pytest

from celltune.data_prep.errors import DataError
from celltune.search.cluster.task_pool import Job, WorkerDiedError, run_tasks, submit
from celltune.search.config.schema import Resources

pytestmark = pytest.mark.usefixtures("local_ray")
ONE = Resources()


def test_a_job_is_sent_what_its_steps_give() -> None:
    found: list[float] = []

    def job(number: int) -> Job:
        half = yield submit(ONE, 0, operator.truediv, number, 2)
        found.append((yield submit(ONE, 0, operator.add, half, 1)))

    def nothing_to_do() -> Job:
        return
        yield

    run_tasks([job(2), nothing_to_do(), job(6), job(8)], slots=2)
    assert sorted(found) == [2, 4, 5]


def test_jobs_are_begun_only_when_there_is_room() -> None:
    running, most, begun = 0, 0, 0

    def job() -> Job:
        nonlocal running, most
        running += 1
        most = max(most, running)
        yield submit(ONE, 0, operator.add, 1, 1)
        running -= 1

    def jobs() -> Iterator[Job]:
        nonlocal begun
        for _ in range(5):
            begun += 1
            yield job()

    run_tasks(jobs(), slots=2)
    assert (most, begun, running) == (2, 5, 0)


def test_a_job_meets_the_error_of_its_step_itself() -> None:
    met: list[Exception] = []

    def job() -> Job:
        try:
            yield submit(ONE, 0, operator.truediv, 1, 0)
        except ZeroDivisionError as error:
            met.append(error)

    run_tasks([job()], slots=1)
    assert str(met[0]) == "division by zero"


def test_an_error_that_a_job_lets_through_ends_all_of_them() -> None:
    closed: list[str] = []

    def slow() -> Job:
        try:
            yield submit(ONE, 0, time.sleep, 600)
        finally:
            closed.append("slow")

    def broken() -> Job:
        yield submit(ONE, 0, operator.add, 1, 1)
        raise DataError("no such thing")

    begun = time.monotonic()
    with pytest.raises(DataError, match="no such thing"):
        run_tasks([slow(), broken()], slots=2)
    assert closed == ["slow"]
    assert time.monotonic() - begun < 60


def test_a_stop_that_is_asked_for_ends_all_of_them() -> None:
    def slow() -> Job:
        yield submit(ONE, 0, time.sleep, 600)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_tasks([slow()], slots=1, should_stop=lambda: True)
    assert time.monotonic() - begun < 60


def test_a_worker_that_dies_again_and_again_is_told() -> None:
    met: list[str] = []

    def job() -> Job:
        try:
            yield submit(ONE, 1, os._exit, 1)
        except WorkerDiedError as error:
            met.append(str(error))

    run_tasks([job()], slots=1)
    assert met[0].startswith("its worker died: ")
