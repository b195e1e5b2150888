"""Engine that runs the trials of a search on Ray Tune.

Ray Tune manages the workers, allocates CPUs and GPUs, and transports reports. The controller makes
all decisions. Ray Tune's own snapshots are not used, and are written to a folder that is deleted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ray import tune

from celltune.data_prep.cache.ray_store import DataHandle
from celltune.search.cluster.assignments import Assignments
from celltune.search.cluster.connection import trial_bundle
from celltune.search.cluster.messages import Work, WorkerTask
from celltune.search.cluster.ray_internals import tune_environment
from celltune.search.cluster.tune_adapters import (
    SchedulerAdapter,
    SearcherAdapter,
    StopperAdapter,
)
from celltune.search.cluster.watchdog import HangWatchdog
from celltune.search.cluster.worker import TrialWorker, train_packed, train_separately
from celltune.search.config.schema import SearchConfig
from celltune.search.storage.base import Experiment
from celltune.search.tuning.controller import Assignment, SearchController
from celltune.search.tuning.trial import TrialTask, fit_of


@dataclass(frozen=True)
class TuneEngine:
    """Runs the trials of one experiment in the connected cluster."""

    config: SearchConfig
    experiment: Experiment
    """Every node needs access to it under the same path or URI."""
    data: DataHandle
    """Prepared data, published in the cluster."""
    slots: int
    """Number of workers that run at the same time."""
    republish_data: Callable[[], None]
    """Publishes the data again after it was lost together with a node."""
    is_own_cluster: bool = False
    """Whether this process started the cluster, so that workers inherited its environment."""
    work: Work | None = None
    """Trains the trials of a worker; `None`: separately if there can be only one, else packed."""

    def run(
        self,
        controller: SearchController,
        should_stop: Callable[[], bool],
        on_iteration: Callable[[], None] = lambda: None,
    ) -> None:
        """Run trials until the controller ends the search or a stop is requested.

        Args:
            controller: makes all decisions and writes them to the ledger.
            should_stop: is called in every iteration of the event loop. When it returns True, the
                run ends within seconds; only unfinished epochs are lost.
            on_iteration: is called in every iteration as well; has to return quickly.

        Raises:
            LedgerError: an event cannot be written.
            StorageError: a checkpoint cannot be written.
        """
        watchdog = HangWatchdog(self.config.trial_timeout, time.monotonic)
        resources = self.config.resources
        assignments = Assignments(
            controller,
            self._trial_task,
            workers=self.slots,
            trials_per_worker=resources.trials_per_worker,
        )
        scheduler = SchedulerAdapter(controller, assignments, watchdog, self.republish_data)
        with (
            _snapshot_folder(self.experiment) as snapshots,
            tune_environment(is_own_cluster=self.is_own_cluster),
        ):
            try:
                tune.run(
                    TrialWorker,
                    name=self.experiment.name,
                    storage_path=snapshots,
                    search_alg=SearcherAdapter(controller, assignments, self._worker_task),
                    scheduler=scheduler,
                    stop=StopperAdapter(controller, watchdog, should_stop, on_iteration),
                    num_samples=-1,
                    max_concurrent_trials=self.slots,
                    resources_per_trial=tune.PlacementGroupFactory(
                        [trial_bundle(resources, resources.trials_per_worker)]
                    ),
                    reuse_actors=True,
                    raise_on_failed_trial=False,
                    trial_name_creator=lambda trial: trial.trial_id,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                    verbose=0,
                    # Without it, Ray Tune clears the output of a notebook's cell.
                    progress_reporter=tune.ProgressReporter(),
                )
            except Exception as error:
                raise scheduler.error or error from error

    def _trial_task(self, assignment: Assignment) -> TrialTask:
        return TrialTask(
            number=assignment.number,
            params=assignment.params,
            seed=self.config.seed,
            checkpoints=self.experiment.checkpoints(assignment.number),
            restore_from=assignment.checkpoints,
            metrics=self.config.reported_metrics,
            fit=fit_of(self.config),
            device="cuda" if self.config.resources.gpus_per_trial > 0 else "cpu",
            max_epochs=assignment.max_epochs,
            alone=assignment.alone,
        )

    def _worker_task(self, trials: tuple[TrialTask, ...]) -> WorkerTask:
        resources = self.config.resources
        memory_gb = resources.memory_per_trial_gb
        packed = resources.trials_per_worker > 1 and not trials[0].alone
        return WorkerTask(
            trials=trials,
            data=self.data,
            work=self.work or (train_packed if packed else train_separately),
            threads=max(1, int(resources.cpus_per_trial)),
            memory_gb=None if memory_gb is None else memory_gb * resources.trials_per_worker,
        )


@contextmanager
def _snapshot_folder(experiment: Experiment) -> Iterator[str]:
    """Create a folder for Ray Tune's files; remove it, and those of killed runs, afterwards.

    It is not in the experiment: Ray Tune would create the experiment's folder again after a user
    has removed or renamed it. The folder has an unpredictable name and belongs to this user.
    """
    digest = hashlib.sha256(f"{os.getuid()} {experiment.location}".encode()).hexdigest()[:16]
    prefix = f"celltune-{digest}-"
    # The caller holds the lock of the experiment, so no other run has such a folder.
    for leftover in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
