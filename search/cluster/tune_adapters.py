"""Adapters that let a `SearchController` decide about the trials of a Ray Tune run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from celltune.search.cluster.messages import WorkerFailure, WorkerReport, WorkerTask
from celltune.search.cluster.ray_internals import OmittedFromSnapshots
from celltune.search.cluster.watchdog import HangWatchdog
from celltune.search.ledger.events import Cause
from celltune.search.tuning.controller import Assignment, SearchController

_log = logging.getLogger(__name__)


class SearcherAdapter(OmittedFromSnapshots, Searcher):  # type: ignore[misc]
    """Gives the controller's assignments to Ray Tune."""

    def __init__(
        self, controller: SearchController, make_task: Callable[[Assignment], WorkerTask]
    ) -> None:
        """Convert each assignment with `make_task`."""
        super().__init__()
        self._controller = controller
        self._make_task = make_task

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002 (Ray's id of the trial)
        """Return the config of the next trial."""
        assignment = self._controller.next()
        if assignment is not None:
            return {"task": self._make_task(assignment)}
        # A running trial may lose its worker and then has to be assigned again, so the searcher is
        # finished only when the search is.
        return Searcher.FINISHED if self._controller.end_reason else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: `SchedulerAdapter` handles the end of a trial."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class SchedulerAdapter(OmittedFromSnapshots, FIFOScheduler):  # type: ignore[misc]
    """Passes workers' reports to the controller and its decisions to Ray Tune."""

    def __init__(
        self,
        controller: SearchController,
        watchdog: HangWatchdog,
        republish_data: Callable[[], None],
    ) -> None:
        """Call `republish_data` when a worker reports that the prepared data is lost."""
        super().__init__()
        self._controller = controller
        self._watchdog = watchdog
        self._republish_data = republish_data
        self.error: Exception | None = None
        """Last exception that the controller raised. Ray Tune keeps only its text."""

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Start to watch a trial."""
        super().on_trial_add(controller, trial)
        self._watchdog.add(trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Handle a worker's report; return whether the trial continues."""
        self._watchdog.reset(trial)
        # Ray Tune keeps a trial's last result and writes it to disk repeatedly. `result` is a
        # shallow copy of it, so the report is removed from the list that both share.
        report: WorkerReport = result["reports"].pop()
        goes_on = self._guard(self._handle, _task(trial).number, report)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Stop watching a trial."""
        super().on_trial_complete(controller, trial, result)
        self._watchdog.remove(trial)

    def on_trial_error(self, controller: Any, trial: Any) -> None:  # noqa: ARG002
        """Handle the death of a trial's worker."""
        text = (trial.get_error() or "Ray reported no reason").strip()
        cause: Cause = "memory" if "OutOfMemoryError" in text else "lost"
        error = text.splitlines()[-1]
        if self._watchdog.remove(trial):
            cause, error = "hung", self._watchdog.reason
        self._guard(self._controller.retry_or_fail, _task(trial).number, cause, error)

    def _handle(self, number: int, report: WorkerReport) -> bool:
        goes_on = True
        for warning in (text for epoch in report.epochs for text in epoch.warnings):
            _log.warning(warning)
        if report.epochs:
            goes_on = self._controller.report(number, report.epochs)
        if report.failure is None:
            return goes_on
        if goes_on or report.failure.ends_run is not None:
            self._handle_failure(number, report.failure)
        return False

    def _handle_failure(self, number: int, failure: WorkerFailure) -> None:
        if failure.ends_run is not None:
            raise failure.ends_run(failure.message)
        if failure.data_lost:
            self._republish_data()
        if failure.cause is None:
            self._controller.fail(number, failure.message, failure.details)
        else:
            self._controller.retry_or_fail(number, failure.cause, failure.message, failure.details)

    def _guard(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            self.error = error
            raise


class StopperAdapter(OmittedFromSnapshots, tune.Stopper):  # type: ignore[misc]
    """Ends the Ray Tune run on request, or when the search is over."""

    def __init__(
        self,
        controller: SearchController,
        watchdog: HangWatchdog,
        should_stop: Callable[[], bool],
    ) -> None:
        """Ask `should_stop` in every iteration of Ray Tune's event loop."""
        self._controller = controller
        self._watchdog = watchdog
        self._should_stop = should_stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Return False: `SchedulerAdapter` stops single trials."""
        return False

    def stop_all(self) -> bool:
        """Return whether the run ends. Ray Tune calls this in every iteration of its event loop."""
        self._watchdog.check()
        return self._should_stop() or self._controller.end_reason is not None


def _task(trial: Any) -> WorkerTask:
    task: WorkerTask = trial.config["task"]
    return task
