"""Gives the trials of a controller to workers, several of one shape to each."""

from __future__ import annotations

import math
from collections.abc import Callable

from celltune.search.tuning.controller import Assignment, SearchController
from celltune.search.tuning.packing import PackShape, shape_of
from celltune.search.tuning.trial import TrialTask


class Assignments:
    """The next trials of a search, as tasks for a worker."""

    def __init__(
        self,
        controller: SearchController,
        make_task: Callable[[Assignment], TrialTask],
        *,
        workers: int,
        trials_per_worker: int,
    ) -> None:
        """Take trials from a controller.

        Args:
            controller: decides which trials run next.
            make_task: converts an assignment.
            workers: number of workers that can run at the same time.
            trials_per_worker: maximum number of trials that a worker trains at the same time.
        """
        self._controller = controller
        self._make_task = make_task
        self._free_workers = workers
        self.trials_per_worker = trials_per_worker

    def start_worker(self) -> tuple[TrialTask, ...]:
        """Return the trials for a free worker; empty if there are none at the moment.

        Trials that are too few to fill all free workers are distributed among them.
        """
        share = math.ceil(self._controller.trials_to_start / max(1, self._free_workers))
        first = self._controller.next()
        if first is None:
            return ()
        self._free_workers -= 1
        task = self._make_task(first)
        if self.trials_per_worker == 1 or first.alone:
            return (task,)
        places = min(self.trials_per_worker, share) - 1
        return (task, *self._of_shape(shape_of(first.params), places))

    def worker_ended(self) -> None:
        """Count a worker as free again."""
        self._free_workers += 1

    def refill_worker(self, shape: PackShape, running: int) -> tuple[TrialTask, ...]:
        """Return the trials for the free places of a worker.

        Args:
            shape: shape of the worker's trials.
            running: number of trials that the worker trains.
        """
        return self._of_shape(shape, self.trials_per_worker - running)

    def _of_shape(self, shape: PackShape, places: int) -> tuple[TrialTask, ...]:
        tasks: list[TrialTask] = []
        while len(tasks) < places and (assignment := self._controller.next(shape)) is not None:
            tasks.append(self._make_task(assignment))
        return tuple(tasks)
