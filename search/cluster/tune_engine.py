"""Runs a conductor's trials on Ray Tune.

Ray Tune schedules and executes: it holds the workers, gives out CPUs and GPUs, and carries
reports. It isn't asked to remember: its own snapshots go to a folder that is thrown away. The
three adapters below only pass on what the conductor decides. The only module that imports
`ray.tune`.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from celltune.data_prep.cache import ray_store as store
from celltune.search.cluster.connection import trial_bundle, trial_slots
from celltune.search.cluster.ray_environment import tune_environment
from celltune.search.cluster.watchdog import _Forgetful, _HangWatch
from celltune.search.cluster.worker import (
    TrialWorker,
    Work,
    train,
)
from celltune.search.config.schema import Resources, SearchConfig
from celltune.search.errors import StorageError
from celltune.search.ledger.events import Cause
from celltune.search.storage.base import Experiment
from celltune.search.tuning.controller import Assignment, SearchController
from celltune.search.tuning.trial import TrialTask

_log = logging.getLogger(__name__)


class _Searcher(_Forgetful, Searcher):  # type: ignore[misc]
    """Gives out the conductor's assignments."""

    def __init__(
        self, conductor: SearchController, describe: Callable[[Assignment], dict[str, Any]]
    ) -> None:
        super().__init__()
        self._conductor = conductor
        self._describe = describe

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002 (Ray's name for the trial)
        assignment = self._conductor.next()
        if assignment is not None:
            return self._describe(assignment)
        # A trial that still runs may lose its worker, and then has to be given out again.
        return Searcher.FINISHED if self._conductor.end_reason else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing to do: the scheduler's adapter hears of every end first."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Scheduler(_Forgetful, FIFOScheduler):  # type: ignore[misc]
    """Brings reports to the conductor and its answers to Ray Tune."""

    def __init__(
        self, conductor: SearchController, watch: _HangWatch, publish_again: Callable[[], None]
    ) -> None:
        super().__init__()
        self._conductor = conductor
        self._watch = watch
        self._publish_again = publish_again
        self.error: Exception | None = None

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Begin to watch a trial."""
        super().on_trial_add(controller, trial)
        self._watch.add(trial)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Pass on a report; answers whether the trial trains on."""
        self._watch.alive(trial)
        answer: str = (
            TrialScheduler.CONTINUE if self._pass_on(trial, result) else TrialScheduler.STOP
        )
        return answer

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Watch a trial no longer."""
        super().on_trial_complete(controller, trial, result)
        self._watch.remove(trial)

    def on_trial_error(self, controller: Any, trial: Any) -> None:  # noqa: ARG002
        """Pass on that a trial's worker died."""
        text = (trial.get_error() or "no reason was given").strip()
        cause: Cause = "memory" if "OutOfMemoryError" in text else "lost"
        error = text.splitlines()[-1]
        if self._watch.remove(trial):
            cause, error = "hung", self._watch.reason
        self._guard(self._conductor.retry_or_fail, trial.config["number"], cause, error)

    def _pass_on(self, trial: Any, result: dict[str, Any]) -> bool:
        number = trial.config["number"]
        goes_on = True
        epochs = list(result["epochs"])
        # Ray Tune keeps a trial's last result for ever, and writes it out again and again.
        result["epochs"].clear()
        for warning in (text for epoch in epochs for text in epoch.warnings):
            _log.warning(warning)
        if epochs:
            goes_on = self._guard(self._conductor.report, number, epochs)
        if "fatal" in result:
            self._guard(self._give_up, result["fatal"])
        if "failure" in result and goes_on:
            self._guard(self._take_in, number, result)
            return False
        return goes_on

    def _take_in(self, number: int, result: dict[str, Any]) -> None:
        if result.get("data_lost"):
            self._publish_again()
        failure, cause, details = (result[key] for key in ("failure", "cause", "details"))
        if cause is None:
            self._conductor.fail(number, failure, details)
        else:
            self._conductor.retry_or_fail(number, cause, failure, details)

    def _give_up(self, reason: str) -> None:
        raise StorageError(reason)

    def _guard(self, call: Any, *arguments: Any) -> Any:
        # Ray Tune turns every exception of a callback into text; the real one is kept for `run`.
        try:
            return call(*arguments)
        except Exception as error:
            self.error = error
            raise


class _Stopper(_Forgetful, tune.Stopper):  # type: ignore[misc]
    """Ends the run when it is asked to, or when nothing that still runs can matter."""

    def __init__(
        self, conductor: SearchController, watch: _HangWatch, should_stop: Callable[[], bool]
    ) -> None:
        self._conductor = conductor
        self._watch = watch
        self._should_stop = should_stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Never stop a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether the run ends now. Ray Tune asks in each turn of its loop."""
        self._watch.check()
        return self._should_stop() or self._conductor.end_reason is not None


def run(
    conductor: SearchController,
    config: SearchConfig,
    folder: Experiment,
    data: store.DataHandle,
    should_stop: Callable[[], bool],
    publish_again: Callable[[], None],
    work: Work = train,
) -> None:
    """Run trials until the budget is used up or a stop is asked for. A cluster must be joined.

    Args:
        conductor: decides.
        config: of the experiment.
        folder: where checkpoints go; every node must see it under the same path.
        data: published in the cluster.
        should_stop: asked again and again; once it says yes, the run ends soon, and only the
            epochs in flight are lost.
        publish_again: called when the data were lost with the node that held them.
        work: what a worker does for a trial; it is sent to the workers.

    Raises:
        LedgerError: an event couldn't be written.
        StorageError: a checkpoint couldn't be written.
        ResourceError: no node can ever hold a trial.
    """
    slots = trial_slots(config.resources)
    watch = _HangWatch(config.trial_timeout, time.monotonic)
    scheduler = _Scheduler(conductor, watch, publish_again)
    with _scratch(folder) as scratch, tune_environment():
        try:
            tune.run(
                TrialWorker,
                name=folder.name,
                storage_path=scratch,
                search_alg=_Searcher(conductor, _describer(config, folder, data, work)),
                scheduler=scheduler,
                stop=_Stopper(conductor, watch, should_stop),
                num_samples=-1,
                max_concurrent_trials=slots,
                resources_per_trial=_resources(config.resources),
                reuse_actors=True,
                raise_on_failed_trial=False,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
                verbose=0,
            )
        except Exception as error:
            raise scheduler.error or error from error


def _resources(resources: Resources) -> tune.PlacementGroupFactory:
    return tune.PlacementGroupFactory([trial_bundle(resources)])


def _describer(
    config: SearchConfig, folder: Experiment, data: store.DataHandle, work: Work
) -> Callable[[Assignment], dict[str, Any]]:
    device = "cuda" if config.resources.gpus_per_trial > 0 else "cpu"

    def describe(assignment: Assignment) -> dict[str, Any]:
        task = TrialTask(
            number=assignment.number,
            params=assignment.params,
            seed=config.seed,
            checkpoints=folder.checkpoints(assignment.number),
            restore_from=assignment.checkpoints,
            metrics=config.reported_metrics,
            device=device,
            threads=max(1, int(config.resources.cpus_per_trial)),
            memory_gb=config.resources.memory_per_trial_gb,
        )
        return {
            "number": task.number,
            "task": task,
            "max_epochs": assignment.max_epochs,
            "data": data,
            "work": work,
        }

    return describe


@contextmanager
def _scratch(folder: Experiment) -> Iterator[str]:
    # In the experiment's own folder, so that the next run finds what a killed one left.
    shutil.rmtree(folder.scratch, ignore_errors=True)
    try:
        yield str(folder.scratch)
    finally:
        shutil.rmtree(folder.scratch, ignore_errors=True)
