"""Runs a conductor's trials on Ray Tune.

Ray Tune schedules and executes: it holds the workers, gives out CPUs and GPUs, and carries
reports. It isn't asked to remember: its own snapshots go to a folder that is thrown away. The
three adapters below only pass on what the conductor decides. The only module that imports
`ray.tune`.
"""

from __future__ import annotations

import logging
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from data_prep import store
from data_prep.errors import InputError
from search.cluster import trial_slots
from search.conductor import Assignment, Conductor
from search.config import SearchConfig
from search.errors import StorageError
from search.folder import Folder
from search.quiet import while_tune_runs
from search.trial import EpochResult, TrialTask, run_trial

_log = logging.getLogger(__name__)


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """A worker process: runs one trial after another, an epoch a step."""

    _epochs: Iterator[EpochResult]

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the trial that `config` describes."""
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(config["threads"])
        self._epochs = self._run(config)

    @staticmethod
    def _run(config: dict[str, Any]) -> Iterator[EpochResult]:
        # Opened with the first step: an error there is told, one in `setup` kills the worker.
        yield from run_trial(config["task"], store.open_handle(config["data"]))

    def step(self) -> dict[str, Any]:
        """Train one epoch; a trial's error is a result, so that the worker lives on."""
        try:
            result = next(self._epochs)
        except (StorageError, InputError) as error:
            return {"fatal": str(error)}
        except Exception as error:  # noqa: BLE001 (whatever a trial raises ends that trial only)
            sentence = str(error) or type(error).__name__
            return {"failure": sentence, "details": traceback.format_exc()}
        return {
            "epoch": result.epoch,
            "metrics": result.metrics,
            "checkpoint": result.checkpoint,
            "warnings": list(result.warnings),
        }


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
        return Searcher.FINISHED if self._conductor.finished else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing to do: the scheduler's adapter hears of every end first."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Scheduler(_Forgetful, FIFOScheduler):  # type: ignore[misc]
    """Brings reports to the conductor and its answers to Ray Tune."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor
        self.error: Exception | None = None

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Pass on a report; answers whether the trial trains on."""
        answer: str = (
            TrialScheduler.CONTINUE if self._pass_on(trial, result) else TrialScheduler.STOP
        )
        return answer

    def on_trial_error(self, controller: Any, trial: Any) -> None:  # noqa: ARG002
        """Pass on that a trial's worker died."""
        text = (trial.get_error() or "no reason was given").strip()
        self._guard(self._conductor.lose, trial.config["number"], text.splitlines()[-1])

    def _pass_on(self, trial: Any, result: dict[str, Any]) -> bool:
        number = trial.config["number"]
        if "fatal" in result:
            self._guard(self._give_up, result["fatal"])
        if "failure" in result:
            self._guard(self._conductor.fail, number, result["failure"], result["details"])
            return False
        metrics = {
            key.removeprefix("metrics/"): value
            for key, value in result.items()
            if key.startswith("metrics/")
        }
        for warning in result["warnings"]:
            _log.warning(warning)
        goes_on = self._guard(
            self._conductor.report, number, result["epoch"], metrics, result["checkpoint"]
        )
        return bool(goes_on)

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
    """Ends the run when it is asked to."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """Never stop a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether the run ends now."""
        return self._should_stop()


def run(
    conductor: Conductor,
    config: SearchConfig,
    folder: Folder,
    data: store.DataHandle,
    should_stop: Callable[[], bool],
) -> None:
    """Run trials until the budget is used up or a stop is asked for. A cluster must be joined.

    Args:
        conductor: decides.
        config: of the experiment.
        folder: where checkpoints go; every node must see it under the same path.
        data: published in the cluster.
        should_stop: asked again and again; once it says yes, the run ends soon, and only the
            epochs in flight are lost.

    Raises:
        LedgerError: an event couldn't be written.
        StorageError: a checkpoint couldn't be written.
        ResourceError: no node can ever hold a trial.
    """
    slots = trial_slots(config.resources)
    scheduler = _Scheduler(conductor)
    with _scratch(folder) as scratch, while_tune_runs():
        try:
            tune.run(
                TrialWorker,
                name=folder.name,
                storage_path=scratch,
                search_alg=_Searcher(conductor, _describer(config, folder, data)),
                scheduler=scheduler,
                stop=_Stopper(should_stop),
                num_samples=-1,
                max_concurrent_trials=slots,
                resources_per_trial={
                    "cpu": config.resources.cpus_per_trial,
                    "gpu": config.resources.gpus_per_trial,
                },
                reuse_actors=True,
                raise_on_failed_trial=False,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
                verbose=0,
            )
        except Exception as error:
            raise scheduler.error or error from error


def _describer(
    config: SearchConfig, folder: Folder, data: store.DataHandle
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
        )
        threads = max(1, int(config.resources.cpus_per_trial))
        return {"number": task.number, "task": task, "threads": threads, "data": data}

    return describe


@contextmanager
def _scratch(folder: Folder) -> Iterator[str]:
    # In the experiment's own folder, so that the next run finds what a killed one left.
    shutil.rmtree(folder.scratch, ignore_errors=True)
    try:
        yield str(folder.scratch)
    finally:
        shutil.rmtree(folder.scratch, ignore_errors=True)
