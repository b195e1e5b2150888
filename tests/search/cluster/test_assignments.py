"""Which trials a worker starts with."""

from __future__ import annotations

import pytest

from tests.search.cluster.recording import RecordingController, assignments_of


@pytest.fixture
def controller() -> RecordingController:
    return RecordingController()


def started(controller: RecordingController, trials_per_worker: int) -> list[int]:
    """Return the numbers of the trials that a free worker gets."""
    assignments = assignments_of(controller, trials_per_worker)
    return [task.number for task in assignments.start_worker()]


def test_a_worker_gets_trials_of_one_shape_until_it_is_full(
    controller: RecordingController,
) -> None:
    controller.waiting = [3, 4, 5, 6, 7]
    assert started(controller, 3) == [3, 4, 5]
    assert controller.calls == [("next",), ("next of shape",), ("next of shape",)]
    assert started(controller, 3) == [6, 7]


def test_too_few_trials_are_distributed_among_the_free_workers(
    controller: RecordingController,
) -> None:
    assignments = assignments_of(controller, trials_per_worker=4, workers=3)
    controller.waiting = list(range(7))
    counts = [len(assignments.start_worker()) for _ in range(4)]
    assert counts == [3, 2, 2, 0]
    controller.waiting = list(range(9))
    for _ in range(2):
        assignments.worker_ended()
    assert len(assignments.start_worker()) == 4


def test_a_worker_of_one_trial_never_asks_for_a_shape(controller: RecordingController) -> None:
    controller.waiting = [3, 4]
    assert started(controller, 1) == [3]
    assert controller.calls == [("next",)]


def test_a_trial_that_must_be_alone_gets_a_worker_of_its_own(
    controller: RecordingController,
) -> None:
    controller.waiting, controller.alone = [3, 4], True
    assert started(controller, 3) == [3]
