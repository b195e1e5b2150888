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
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from data_prep import store
from data_prep.errors import DataLostError, InputError
from models.errors import TrialError
from search.cluster import demand, trial_slots
from search.conductor import Assignment, Conductor, Report
from search.config import Resources, SearchConfig
from search.durations import text_of
from search.errors import StorageError
from search.events import Cause
from search.folder import Folder
from search.memory import is_out_of_memory, limit_memory
from search.quiet import while_tune_runs
from search.trial import EpochResult, TrialTask, run_trial

_log = logging.getLogger(__name__)

Work = Callable[[TrialTask, store.DataHandle], Iterator[EpochResult]]
"""What a worker does for a trial: an item an epoch, until it isn't asked any more."""

_NEXT_TO_NO_TIME = 0.005
"""Seconds."""


def train(task: TrialTask, data: store.DataHandle) -> Iterator[EpochResult]:
    """Train a trial's model on published data (see `search.trial.run_trial`)."""
    import torch

    torch.set_num_threads(task.threads)
    if task.memory_gb is not None:
        limit_memory(task.memory_gb)
    yield from run_trial(task, store.open_handle(data))


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """A worker process: runs one trial after another, an epoch a step."""

    _epochs: Iterator[EpochResult]
    _last: int

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the trial that `config` describes."""
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        # A generator begins with the first step: an error there is told, one here kills the worker.
        self._epochs = config["work"](config["task"], config["data"])
        self._last = config["max_epochs"]

    def step(self) -> dict[str, Any]:
        """Train an epoch; a trial's error is a result, so that the worker lives on.

        Epochs that take next to no time come several in a report, so that the driver's loop and
        its disk keep pace. Real ones never do: writing a checkpoint alone takes longer.
        """
        epochs: list[EpochResult] = []
        begun = time.monotonic()
        while not epochs or (
            time.monotonic() - begun < _NEXT_TO_NO_TIME and epochs[-1].epoch < self._last
        ):
            try:
                epochs.append(next(self._epochs))
            except Exception as error:  # noqa: BLE001 (whatever a trial raises ends that trial only)
                return {"epochs": epochs, **_told(error)}
        return {"epochs": epochs}


def _told(error: Exception) -> dict[str, Any]:
    """What a report says of an error, from within its except clause."""
    if isinstance(error, DataLostError):
        return {"failure": str(error), "cause": "lost", "details": "", "data_lost": True}
    if isinstance(error, (StorageError, InputError)):
        return {"fatal": str(error)}
    sentence = str(error) or type(error).__name__
    return {"failure": sentence, "cause": _cause_of(error), "details": traceback.format_exc()}


def _cause_of(error: Exception) -> Cause | None:
    """Why a trial is set back; None for an error that would come again."""
    if isinstance(error, TrialError):
        return None
    return "memory" if is_out_of_memory(error) else "raised"


class _Forgetful:
    """Left out of Ray Tune's snapshots, which nothing ever reads: the ledger remembers."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return (object, ())


class _Searcher(_Forgetful, Searcher):  # type: ignore[misc]
    """Gives out the conductor's assignments."""

    def __init__(
        self, conductor: Conductor, describe: Callable[[Assignment], dict[str, Any]]
    ) -> None:
        super().__init__()
        self._conductor = conductor
        self._describe = describe

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002 (Ray's name for the trial)
        assignment = self._conductor.next()
        if assignment is not None:
            return self._describe(assignment)
        # A trial that still runs may lose its worker, and then has to be given out again.
        return Searcher.FINISHED if self._conductor.over else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing to do: the scheduler's adapter hears of every end first."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


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
        return f"it gave no epoch within {text_of(self._seconds or 0)} (trial_timeout)"

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


class _Scheduler(_Forgetful, FIFOScheduler):  # type: ignore[misc]
    """Brings reports to the conductor and its answers to Ray Tune."""

    def __init__(
        self, conductor: Conductor, watch: _HangWatch, publish_again: Callable[[], None]
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
        self._guard(self._conductor.set_back, trial.config["number"], cause, error)

    def _pass_on(self, trial: Any, result: dict[str, Any]) -> bool:
        number = trial.config["number"]
        goes_on = True
        epochs = list(result["epochs"])
        # Ray Tune keeps a trial's last result for ever, and writes it out again and again.
        result["epochs"].clear()
        for warning in (text for epoch in epochs for text in epoch.warnings):
            _log.warning(warning)
        if epochs:
            reports = [Report(e.epoch, e.metrics, e.checkpoint) for e in epochs]
            goes_on = self._guard(self._conductor.report_all, number, reports)
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
            self._conductor.set_back(number, cause, failure, details)

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
        self, conductor: Conductor, watch: _HangWatch, should_stop: Callable[[], bool]
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
        return self._should_stop() or self._conductor.over is not None


def run(
    conductor: Conductor,
    config: SearchConfig,
    folder: Folder,
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
    with _scratch(folder) as scratch, while_tune_runs():
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
    return tune.PlacementGroupFactory([demand(resources)])


def _describer(
    config: SearchConfig, folder: Folder, data: store.DataHandle, work: Work
) -> Callable[[Assignment], dict[str, Any]]:
    device = "cuda" if config.resources.gpus_per_trial > 0 else "cpu"

    def describe(assignment: Assignment) -> dict[str, Any]:
        task = TrialTask(
            number=assignment.number,
            params=assignment.params,
            seed=config.seed,
            storage=folder.checkpoints(assignment.number),
            checkpoints=assignment.checkpoints,
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
def _scratch(folder: Folder) -> Iterator[str]:
    # In the experiment's own folder, so that the next run finds what a killed one left.
    shutil.rmtree(folder.scratch, ignore_errors=True)
    try:
        yield str(folder.scratch)
    finally:
        shutil.rmtree(folder.scratch, ignore_errors=True)
