"""Adapters that let a `SearchController` decide about the trials of a Ray Tune run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from celltune.search.cluster.assignments import Assignments
from celltune.search.cluster.messages import WorkerFailure, WorkerReport, WorkerTask
from celltune.search.cluster.ray_internals import OmittedFromSnapshots, worker_actor
from celltune.search.cluster.watchdog import HangWatchdog
from celltune.search.ledger.causes import Cause
from celltune.search.tuning.controller import SearchController
from celltune.search.tuning.packing import shape_of
from celltune.search.tuning.trial import TrialTask

_log = logging.getLogger(__name__)

_NO_REASON = "Ray reported no reason (it was killed, or the node was lost or ran out of memory)"


class SearcherAdapter(OmittedFromSnapshots, Searcher):  # type: ignore[misc]
    """Gives the controller's trials to Ray Tune, for which the trials of a worker are one trial."""

    def __init__(
        self,
        controller: SearchController,
        assignments: Assignments,
        make_task: Callable[[tuple[TrialTask, ...]], WorkerTask],
    ) -> None:
        """Convert the trials for each worker with `make_task`."""
        super().__init__()
        self._controller = controller
        self._assignments = assignments
        self._make_task = make_task

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002 (Ray's id of the trial)
        """Return the config of the next worker task."""
        trials = self._assignments.start_worker()
        if trials:
            return {"task": self._make_task(trials)}
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
    """Passes workers' reports to the controller and its decisions to Ray Tune and the workers."""

    def __init__(
        self,
        controller: SearchController,
        assignments: Assignments,
        watchdog: HangWatchdog,
        republish_data: Callable[[], None],
    ) -> None:
        """Create an adapter without workers.

        Args:
            controller: makes all decisions.
            assignments: provides the trials that replace ended ones.
            watchdog: kills hanging workers.
            republish_data: called when a worker reports that the prepared data is lost.
        """
        super().__init__()
        self._controller = controller
        self._assignments = assignments
        self._watchdog = watchdog
        self._republish_data = republish_data
        self._running: dict[Any, list[int]] = {}
        self.error: Exception | None = None
        """Last exception that the controller raised. Ray Tune keeps only its text."""

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Start to watch a worker's trials."""
        super().on_trial_add(controller, trial)
        self._running[trial] = [task.number for task in _task(trial).trials]
        self._watchdog.add(trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Handle a worker's report; return whether the worker continues with these trials."""
        self._watchdog.reset(trial)
        # Ray Tune keeps a trial's last result and writes it to disk repeatedly. `result` is a
        # shallow copy of it, so the report is removed from the list that both share.
        report: WorkerReport = result["reports"].pop()
        ended = self._guard(self._handle, report)
        running = self._running[trial] = [n for n in self._running[trial] if n not in ended]
        if not running:
            return str(TrialScheduler.STOP)
        self._guard(self._replace, trial, ended)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Stop watching a worker's trials."""
        super().on_trial_complete(controller, trial, result)
        self._take_running(trial)
        self._watchdog.remove(trial)

    def on_trial_error(self, controller: Any, trial: Any) -> None:  # noqa: ARG002
        """Handle the death of a worker, which affects all of its trials."""
        text = (trial.get_error() or _NO_REASON).strip()
        cause: Cause = "memory" if "OutOfMemoryError" in text else "lost"
        error = text.splitlines()[-1]
        if self._watchdog.remove(trial):
            cause, error = "hung", self._watchdog.reason
        if numbers := self._take_running(trial):
            self._guard(self._controller.retry_or_fail, numbers, cause, error)

    def _take_running(self, trial: Any) -> list[int]:
        """Return the numbers of the trials of a worker, which has none from now on."""
        if trial not in self._running:
            return []
        self._assignments.worker_ended()
        return self._running.pop(trial)

    def _handle(self, report: WorkerReport) -> set[int]:
        """Pass a report to the controller; return the numbers of the trials that have ended."""
        for epoch in (epoch for trial in report.trials for epoch in trial.epochs):
            for warning in epoch.warnings:
                _log.warning(warning)
        epochs = {trial.number: trial.epochs for trial in report.trials if trial.epochs}
        ended = self._controller.report_together(epochs)
        # A failure after the last epoch of a trial does not matter, unless it ends the run.
        failures = {
            trial.number: trial.failure
            for trial in report.trials
            if trial.failure is not None
            and (trial.number not in ended or trial.failure.ends_run is not None)
        }
        self._handle_failures(failures)
        return ended | failures.keys()

    def _handle_failures(self, failures: Mapping[int, WorkerFailure]) -> None:
        for failure in failures.values():
            if failure.ends_run is not None:
                raise failure.ends_run(failure.message)
        if any(failure.data_lost for failure in failures.values()):
            self._republish_data()
        # The trials of a pack share an error that concerns their worker.
        for failure in dict.fromkeys(failures.values()):
            numbers = [number for number, own in failures.items() if own == failure]
            error = failure.message, failure.details
            if failure.cause is not None:
                self._controller.retry_or_fail(numbers, failure.cause, *error)
                continue
            for number in numbers:
                self._controller.fail(number, *error)

    def _replace(self, trial: Any, ended: set[int]) -> None:
        """Give a worker new trials for those that have ended, before its next epoch."""
        running = self._running[trial]
        first = _task(trial).trials[0]
        if first.alone or len(running) == self._assignments.trials_per_worker:
            return
        shape = shape_of(first.params)
        added = self._assignments.refill_worker(shape, len(running))
        running += [task.number for task in added]
        if ended or added:
            # The methods of an actor run in the order of their calls, so before the next `step`.
            worker_actor(trial).replace_trials.remote(sorted(ended), added)

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
        on_iteration: Callable[[], None],
    ) -> None:
        """Call both functions in every iteration of Ray Tune's event loop."""
        self._controller = controller
        self._watchdog = watchdog
        self._should_stop = should_stop
        self._on_iteration = on_iteration

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Return False: `SchedulerAdapter` stops single trials."""
        return False

    def stop_all(self) -> bool:
        """Return whether the run ends. Ray Tune calls this in every iteration of its event loop."""
        self._watchdog.check()
        self._on_iteration()
        return self._should_stop() or self._controller.end_reason is not None


def _task(trial: Any) -> WorkerTask:
    task: WorkerTask = trial.config["task"]
    return task
