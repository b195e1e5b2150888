"""Watchdog that kills workers whose trial reports no epoch within a time limit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import ray
from ray.tune.experiment import Trial

from celltune.search.cluster.ray_internals import (
    OmittedFromSnapshots,
    discard_trial_data,
    worker_actor,
)
from celltune.search.config.durations import format_duration


class HangWatchdog(OmittedFromSnapshots):
    """Watches the trials of a Ray Tune run."""

    def __init__(self, timeout: float | None, clock: Callable[[], float]) -> None:
        """Watch no trial yet.

        Args:
            timeout: seconds that a trial may take to report an epoch; `None` for no limit.
            clock: monotonic time in seconds.
        """
        self._timeout = timeout
        self._clock = clock
        self._last_report: dict[Any, float | None] = {}
        self._killed: set[Any] = set()
        self._ended: deque[Any] = deque()

    @property
    def reason(self) -> str:
        """Error message of a trial that was killed."""
        return (
            f"The trial reported no epoch within {format_duration(self._timeout or 0)} "
            "(trial_timeout)."
        )

    def add(self, trial: Any) -> None:
        """Start to watch a trial. Its time starts when a worker has started it."""
        self._last_report[trial] = None

    def reset(self, trial: Any) -> None:
        """Restart a trial's time, because it has reported."""
        self._last_report[trial] = self._clock()

    def remove(self, trial: Any) -> bool:
        """Stop watching an ended trial; return whether it was killed by the watchdog."""
        self._last_report.pop(trial, None)
        self._ended.append(trial)
        killed = trial in self._killed
        self._killed.discard(trial)
        return killed

    def check(self) -> None:
        """Kill the workers of hanging trials, and free the memory of ended ones."""
        while self._ended and self._ended[0].is_finished():
            discard_trial_data(self._ended.popleft())
        if self._timeout is None:
            return
        now = self._clock()
        for trial, since in self._last_report.items():
            if trial.status != Trial.RUNNING or trial in self._killed:
                continue
            if since is None:
                self._last_report[trial] = now
            elif now - since > self._timeout:
                self._killed.add(trial)
                # Ray Tune has no public way to fail one trial by ending its worker.
                ray.kill(worker_actor(trial))
