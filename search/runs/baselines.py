"""Measures the linear baselines while a search runs.

The process that measures them starts after the first epoch of the run, so that the first trials are
not delayed. What a killed or stopped run has not measured, the next one measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from celltune.data_prep.io.files import default_cache_dir
from celltune.search.ledger.events import BaselineValidated, EpochReported, Event
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.view import View
from celltune.search.wording import counted, listed

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData
    from celltune.search.cluster.baseline_worker import BaselineResult, BaselineWorker
    from celltune.search.config.schema import SearchConfig
    from celltune.search.tuning.controller import SearchController

WAIT_SECONDS = 30.0
"""How long a search that is over waits for the baselines that are not measured yet."""
_POLL_SECONDS = 0.2
"""Time between two questions for results."""


class BaselineRun:
    """The baselines of one run; an observer of its events."""

    def __init__(
        self,
        controller: SearchController,
        start: Callable[[list[str]], BaselineWorker],
        names: list[str],
        view: View,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            controller: records the scores.
            start: starts to measure the baselines of these names.
            names: the baselines that are missing in the ledger.
            view: shows messages.
            clock: returns the seconds since 1970.
            timer: monotonic time in seconds.
        """
        self._controller = controller
        self._start = start
        self._names = names
        self._view = view
        self._clock = clock
        self._timer = timer
        self._worker: BaselineWorker | None = None
        self._has_epoch = False
        self._last_poll = timer()

    def __call__(self, event: Event, state: ExperimentState) -> None:  # noqa: ARG002
        """Notice that the first epoch of this run is finished."""
        self._has_epoch = self._has_epoch or isinstance(event, EpochReported)

    def poll(self) -> None:
        """Start the process when it is time, and record new scores. Returns at once."""
        now = self._timer()
        if not (self._has_epoch and self._names) or now - self._last_poll < _POLL_SECONDS:
            return
        self._last_poll = now
        if self._worker is None:
            self._worker = self._start(self._names)
        self._take(self._worker.results())

    def wait(self, should_stop: Callable[[], bool]) -> None:
        """Wait for the remaining baselines, at most for `WAIT_SECONDS` or until a stop request."""
        worker = self._worker
        if worker is None or not worker.unfinished:
            return
        count = counted(len(worker.unfinished), "linear baseline")
        self._view.stage(f"Waiting up to {WAIT_SECONDS:.0f} s for {count}")
        deadline = self._timer() + WAIT_SECONDS
        while worker.unfinished and self._timer() < deadline and not should_stop():
            self._take(worker.results(_POLL_SECONDS))

    def close(self) -> None:
        """End the process, and say which baselines it did not measure."""
        if self._worker is None:
            return
        if names := self._worker.unfinished:
            self._view.message(f"Not measured before the end: the baselines {listed(names)}.")
        self._worker.close()

    def _take(self, results: list[BaselineResult]) -> None:
        for result in results:
            if result.scores is None:
                self._view.message(
                    f"The baseline {result.name} was not measured. {result.error} The search is "
                    "not affected."
                )
                continue
            event = BaselineValidated(at=self._clock(), name=result.name, **asdict(result.scores))
            self._controller.record_baseline(event)


@contextmanager
def measured_baselines(
    controller: SearchController,
    config: SearchConfig,
    data: PreparedData,
    view: View,
    clock: Callable[[], float],
) -> Iterator[BaselineRun]:
    """Measure the missing baselines of a search while the context is open.

    Args:
        controller: controller of the search.
        config: config of the search; with `baselines` false, nothing is measured.
        data: the prepared data.
        view: shows messages.
        clock: returns the seconds since 1970.
    """
    from celltune.search.baselines.linear import BASELINES
    from celltune.search.baselines.validation import LabelsOfSplits, ValidationMeter

    def start(names: list[str]) -> BaselineWorker:
        from celltune.search.cluster.baseline_worker import BaselineWorker

        meter = ValidationMeter(config.data, LabelsOfSplits.of(data), default_cache_dir())
        return BaselineWorker(meter, names)

    missing = [name for name in BASELINES if name not in controller.state.validated]
    run = BaselineRun(controller, start, missing if config.baselines else [], view, clock=clock)
    controller.observe(run)
    try:
        yield run
    finally:
        run.close()
