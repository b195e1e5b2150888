"""Work of several steps on a Ray cluster, so many pieces at a time.

A job is a generator: it yields what a worker is doing for it, and is sent what came of that. What
it does between two steps, such as writing a ledger, happens in the driver, one job at a time.
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
"""Yields object references, and is sent their values."""


_LOOK_EVERY = 0.5
"""Seconds between two looks whether to stop."""


class WorkerDiedError(TrialError):
    """A worker died under a step, as often as it may."""


def submit(resources: Resources, retries: int, call: Callable[..., Any], *arguments: Any) -> Any:
    """Have a worker call a function; gives a reference to the result.

    Args:
        resources: what one call takes.
        retries: how often it is called anew when its worker died.
        call: a function of a module.
        arguments: references are resolved before the call.
    """
    wanted = trial_bundle(resources)
    task = ray.remote(
        num_cpus=wanted["CPU"],
        num_gpus=wanted.get("GPU", 0),
        memory=wanted.get("memory"),
        max_retries=retries,
    )(_called)
    return task.remote(call, max(1, int(resources.cpus_per_trial)), *arguments)


def _called(call: Callable[..., Any], threads: int, *arguments: Any) -> Any:
    import torch

    torch.set_num_threads(threads)
    return call(*arguments)


def run_tasks(
    jobs: Iterable[Job], slots: int, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Run jobs to their ends; at most `slots` at a time are begun and not ended.

    What a step raises is thrown into its job; what a job lets through ends everything, and cancels
    the steps under way.

    Args:
        jobs: a job is taken when there is room for it.
        slots: how many at a time.
        should_stop: asked again and again; once it says yes, everything ends.

    Raises:
        KeyboardInterrupt: it was asked to stop.
    """
    waiting = iter(jobs)
    running: dict[Any, Job] = {}
    try:
        while True:
            while len(running) < slots and (job := next(waiting, None)) is not None:
                _go_on(job, partial(next, job), running)
            if not running:
                return
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_EVERY)
            if should_stop():
                raise KeyboardInterrupt
            if not ready:
                continue
            job = running.pop(ready[0])
            try:
                value = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                cause = _cause(error)
                _go_on(job, partial(job.throw, cause), running)
            else:
                _go_on(job, partial(job.send, value), running)
    finally:
        for reference, job in running.items():
            ray.cancel(reference, force=True)
            job.close()


def _go_on(job: Job, step: Callable[[], Any], running: dict[Any, Job]) -> None:
    try:
        running[step()] = job
    except StopIteration:
        return


def _cause(error: Exception) -> Exception:
    """What was raised in the worker itself, without Ray's wrapping."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return error.cause if isinstance(error.cause, Exception) else error
    return WorkerDiedError(f"its worker died: {str(error).splitlines()[0]}")
