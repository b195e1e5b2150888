"""Concurrent jobs on a Ray cluster, each of which is a sequence of tasks.

A job is a generator. It yields a reference to a task that a worker runs, and receives the task's
result. Everything between two tasks, such as writing to a ledger, runs in the driver, one job at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

import ray

from celltune.models.errors import TrialError
from celltune.search.cluster.connection import trial_bundle
from celltune.search.config.schema import Resources

Job = Generator[Any, Any, None]
"""Yields object references and receives their values."""

_POLL_SECONDS = 0.5
"""Time between two calls of `should_stop`."""


class WorkerDiedError(TrialError):
    """The worker of a task died more often than the task may be retried."""


def put(value: Any) -> Any:
    """Store a value in Ray's object store of the connected cluster; return a reference to it."""
    return ray.put(value)


def submit(resources: Resources, retries: int, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a worker; return a reference to the result.

    Args:
        resources: resources of one call.
        retries: how many times the call is repeated after its worker died.
        call: a function that workers can import.
        arguments: references among them are resolved before the call.
    """
    bundle = trial_bundle(resources)
    task = ray.remote(
        num_cpus=bundle["CPU"],
        num_gpus=bundle.get("GPU", 0),
        memory=bundle.get("memory"),
        max_retries=retries,
    )(_call)
    return task.remote(call, max(1, int(resources.cpus_per_trial)), *arguments)


def _call(call: Callable[..., Any], threads: int, *arguments: Any) -> Any:
    import torch

    torch.set_num_threads(threads)
    return call(*arguments)


def run_jobs(
    jobs: Iterable[Job], slots: int, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Run jobs to completion, at most `slots` at a time.

    An exception in a task is raised inside its job. An exception that leaves a job cancels all
    running tasks and propagates.

    Args:
        jobs: the next job is requested when a slot is free.
        slots: number of jobs that run at the same time.
        should_stop: is called repeatedly; when it returns True, all running tasks are cancelled.

    Raises:
        KeyboardInterrupt: `should_stop` returned True.
    """
    waiting = iter(jobs)
    running: dict[Any, Job] = {}
    try:
        while True:
            while len(running) < slots and (job := next(waiting, None)) is not None:
                _advance(job, partial(next, job), running)
            if not running:
                return
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_SECONDS)
            if should_stop():
                raise KeyboardInterrupt
            if not ready:
                continue
            job = running.pop(ready[0])
            try:
                value = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                _advance(job, partial(job.throw, original_error(error)), running)
            else:
                _advance(job, partial(job.send, value), running)
    finally:
        for reference, job in running.items():
            ray.cancel(reference, force=True)
            job.close()


def _advance(job: Job, step: Callable[[], Any], running: dict[Any, Job]) -> None:
    """Run a job up to its next task and add that to `running`."""
    try:
        running[step()] = job
    except StopIteration:
        return


def original_error(error: Exception) -> Exception:
    """Return the exception that the task raised, without Ray's wrapper."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return error.cause if isinstance(error.cause, Exception) else error
    reason = str(error).splitlines()[0].rstrip(".")
    return WorkerDiedError(f"The worker of the task died: {reason}.")
