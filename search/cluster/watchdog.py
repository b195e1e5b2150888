"""Kill workers whose trial reports no epoch in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import ray
from ray.tune.experiment import Trial

from celltune.search.config.durations import format_duration


class _Forgetful:
    """Left out of Ray Tune's snapshots, which nothing ever reads: the ledger remembers."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return (object, ())


class _HangWatch(_Forgetful):
    """Kills the workers of trials that give no epoch in time."""

    def __init__(self, seconds: float | None, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: dict[Any, float | None] = {}
        self._killed: set[Any] = set()
        self._ended: deque[Any] = deque()

    @property
    def reason(self) -> str:
        """What is told of a trial that hung."""
        return f"it gave no epoch within {format_duration(self._seconds or 0)} (trial_timeout)"

    def add(self, trial: Any) -> None:
        """Watch a trial; its time begins when it has a worker."""
        self._since[trial] = None

    def alive(self, trial: Any) -> None:
        """Take in that a trial gave an epoch."""
        self._since[trial] = self._clock()

    def remove(self, trial: Any) -> bool:
        """Watch a trial no longer; says whether it was killed for hanging."""
        self._since.pop(trial, None)
        self._ended.append(trial)
        killed = trial in self._killed
        self._killed.discard(trial)
        return killed

    def check(self) -> None:
        """Kill what hangs, and make light what ended."""
        while self._ended and self._ended[0].is_finished():
            _make_light(self._ended.popleft())
        if self._seconds is None:
            return
        now = self._clock()
        for trial, since in self._since.items():
            if trial.status != Trial.RUNNING or trial in self._killed:
                continue
            if since is None:
                self._since[trial] = now
            elif now - since > self._seconds:
                self._killed.add(trial)
                # Ray Tune has no public way to end the worker of one trial as a failure.
                ray.kill(trial.temporary_state.ray_actor)


def _make_light(trial: Any) -> None:
    """Empty an ended trial: Ray Tune keeps them all, with statistics that nobody asks for."""
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()
    trial.run_metadata.last_result = {}
    trial.config = {}
    trial.evaluated_params = {}
