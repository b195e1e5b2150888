"""Stand-ins for a Ray cluster, so that every command runs within one process.

Only the transport is replaced: the trials train for real, the controller decides, the ledger is
written and checkpoints are removed as in a search on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from typing import Any

import typer.main

from celltune.data_prep.cache import ray_store
from celltune.search.cluster import baseline_worker, gpu_checks, task_pool, tune_engine, worker
from celltune.search.evaluation import comparison, evaluate, evaluator
from celltune.search.runs import launch, session
from celltune.search.tuning.trial import run_trial

STOP_AFTER: list[int] = []
"""The number of epochs after which the next search stops, as if interrupted; empty: never."""


def install() -> None:
    """Replace the cluster in this process, for good."""
    vars(launch)["starting_cluster"] = _started
    for module in (evaluate, comparison):
        vars(module)["connected_cluster"] = _no_cluster
    for module in (launch, evaluate, comparison):
        vars(module)["usable_gpus"] = _no_gpus
    vars(gpu_checks)["check_gpu_memory"] = _no_gpus
    vars(ray_store)["acquired"] = _acquired
    vars(tune_engine)["TuneEngine"] = _Engine
    vars(baseline_worker)["BaselineWorker"] = _Baselines
    for owner in (task_pool, evaluator):
        vars(owner)["put"] = _put
        vars(owner)["submit"] = _submit
    vars(task_pool)["run_jobs"] = _run_jobs
    # Typer builds the whole command line anew for each call, which takes as long as many commands.
    vars(typer.main)["get_command"] = cache(typer.main.get_command)


@contextmanager
def _started(
    resources: Any,  # noqa: ARG001
    storage: Any,  # noqa: ARG001
    address: Any,  # noqa: ARG001
    view: Any,
    **_: Any,
) -> Iterator[session.StartingCluster]:
    cluster: Future[session.Cluster] = Future()
    cluster.set_result(session.Cluster(1, is_own=False))
    yield session.StartingCluster(cluster, view)


@contextmanager
def _no_cluster(*_: Any, **__: Any) -> Iterator[int]:
    yield 1


def _no_gpus(*_: Any, **__: Any) -> list[Any]:
    return []


@contextmanager
def _acquired(data: Any, **_: Any) -> Iterator[Any]:
    yield data


class _Engine(tune_engine.TuneEngine):
    """Trains one trial after another in this process."""

    def run(
        self,
        controller: Any,
        should_stop: Callable[[], bool],
        on_iteration: Callable[[], None] = lambda: None,
    ) -> None:
        """Run trials until the controller ends the search or a stop is requested."""
        left = STOP_AFTER.pop() if STOP_AFTER else -1
        while not should_stop() and (assignment := controller.next()) is not None:
            try:
                for report in run_trial(self._trial_task(assignment), self.data):
                    on_iteration()
                    continues = controller.report(assignment.number, [report])
                    left -= 1
                    if left == 0:
                        return
                    if not continues:
                        break
            except Exception as error:  # noqa: BLE001 (as in a worker, it ends the trial)
                _handle(controller, assignment.number, worker._failure(error))


def _handle(controller: Any, number: int, failure: Any) -> None:
    if failure.ends_run is not None:
        raise failure.ends_run(failure.message)
    if failure.cause is not None:
        controller.retry_or_fail([number], failure.cause, failure.message, failure.details)
    else:
        controller.fail(number, failure.message, failure.details)


class _Baselines:
    """Measures baselines at once, instead of in a process of the cluster."""

    def __init__(self, meter: Any, names: list[str]) -> None:
        self._results = [baseline_worker.BaselineResult(n, meter.measure(n)) for n in names]

    @property
    def unfinished(self) -> list[str]:
        return [result.name for result in self._results]

    def results(self, timeout: float = 0.0) -> list[Any]:  # noqa: ARG002
        done, self._results = self._results, []
        return done

    def close(self) -> None:
        self._results = []


def _put(value: Any) -> Any:
    return value


def _submit(_resources: Any, _retries: int, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments), None
    except Exception as error:  # noqa: BLE001 (raised inside the job, as by a worker)
        return None, error


def _run_jobs(jobs: Any, slots: int, should_stop: Any = None) -> None:  # noqa: ARG001
    for job in jobs:
        try:
            value, error = next(job)
            while True:
                value, error = job.send(value) if error is None else job.throw(error)
        except StopIteration:
            continue
