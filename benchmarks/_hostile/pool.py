"""Worker processes with a watchdog, which replaces those that hang or take too much memory."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

import celltune
from _hostile.cases import Kind
from _hostile.runner import Failure, Result, Runner
from _hostile.running import LIMIT_SECONDS, seconds_in_queue

MOST_MB = 4_000.0
"""Memory at which a worker is killed, so that the machine survives."""
INPUTS_PER_WORKER = 400
"""A worker is replaced after this many inputs, so that its memory is that of few commands."""

_LIBRARIES = (
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "optuna.storages",
    "pandas",
    "plotly.graph_objects",
    "plotly.io",
    "pyarrow.parquet",
    "scipy.sparse",
    "sklearn.linear_model",
    "torch",
)
"""Libraries that commands import when they need them."""

Job = tuple[str, int]
"""A kind and a seed."""


@dataclass
class _Worker:
    process: Any
    connection: Connection
    job: Job
    command: str = ""
    deadline: float = 0.0
    queued: float = 0.0
    """Seconds in the queue of the scheduler before the command began."""
    finished: int = 0


class Pool:
    """Runs inputs in forked processes, each of which has a box."""

    def __init__(
        self,
        kinds: Sequence[Kind],
        root: Path,
        fixtures: Path,
        workers: int,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        """Start nothing yet.

        Args:
            kinds: all kinds of the jobs.
            root: folder of the boxes.
            fixtures: the original files.
            workers: number of processes.
            limit_seconds: time that one command may take.
        """
        self._kinds = {kind.name: kind for kind in kinds}
        self._root, self._fixtures, self._count = root, fixtures, workers
        self._limit = limit_seconds
        self._context = multiprocessing.get_context("fork")
        self.peak_mb = 0.0

    def run(
        self, jobs: Iterator[Job], until: Callable[[], bool] = lambda: False
    ) -> Iterator[Result]:
        """Yield the results in the order in which they are ready.

        Args:
            jobs: the inputs.
            until: no input is started any more as soon as it returns true.
        """
        free = list(range(self._count))
        workers: dict[int, _Worker] = {}

        def next_job() -> Job | None:
            return None if until() else next(jobs, None)

        while True:
            while free and (job := next_job()) is not None:
                slot = free.pop()
                workers[slot] = self._start(slot, job)
            if not workers:
                return
            ready = wait([worker.connection for worker in workers.values()], timeout=0.1)
            for slot, worker in list(workers.items()):
                result = self._result(worker, worker.connection in ready)
                if result is None:
                    continue
                yield result
                job = None if not worker.process.is_alive() else next_job()
                if job is None or worker.finished >= INPUTS_PER_WORKER:
                    _end(worker)
                    del workers[slot]
                    free.append(slot)
                    if job is not None:
                        free.remove(slot)
                        workers[slot] = self._start(slot, job)
                else:
                    self._send(worker, job)

    def _start(self, slot: int, job: Job) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._kinds, self._root / f"box-{slot}", self._fixtures)
        )
        process.start()
        theirs.close()
        worker = _Worker(process, ours, job)
        self._send(worker, job)
        return worker

    def _send(self, worker: _Worker, job: Job) -> None:
        worker.job = job
        # Before its first command, the worker prepares its box, which may take longer.
        self._begin(worker, "", 3 * self._limit)
        worker.connection.send(job)

    def _begin(self, worker: _Worker, command: str, seconds: float) -> None:
        worker.command = command
        worker.deadline = time.monotonic() + seconds
        worker.queued = seconds_in_queue(worker.process.pid)

    def _result(self, worker: _Worker, is_ready: bool) -> Result | None:
        """Return the result of a worker's input, if it has ended or was ended."""
        while is_ready and worker.connection.poll():
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join()
                code = worker.process.exitcode
                return self._killed(worker, "tracebacks", f"the process died with code {code}")
            if isinstance(message, Result):
                worker.finished += 1
                self.peak_mb = max(self.peak_mb, message.peak_mb)
                return message
            # The worker itself ends a process of its own.
            command, own_process = message
            self._begin(worker, command, 10 * self._limit if own_process else self._limit)
        try:
            used = psutil.Process(worker.process.pid).memory_info().rss / 1e6
        except psutil.Error:
            used = 0.0
        self.peak_mb = max(self.peak_mb, used)
        if used > MOST_MB:
            return self._killed(worker, "peak_mb", f"killed at {used:,.0f} MB")
        queued = seconds_in_queue(worker.process.pid) - worker.queued
        if time.monotonic() - queued > worker.deadline:
            return self._killed(worker, "hangs", f"no end within {self._limit:.0f} s")
        return None

    def _killed(self, worker: _Worker, figure: str, detail: str) -> Result:
        worker.process.kill()
        worker.process.join()
        kind, seed = worker.job
        result = Result(kind, seed, label="(see --only)", commands=1)
        result.failures.append(Failure(figure, worker.command, detail))
        return result


def import_everything() -> None:
    """Import all modules once, so that workers share them and their first inputs are not slow."""
    for module in pkgutil.walk_packages(celltune.__path__, "celltune."):
        if module.name.endswith("__main__"):
            continue
        # The GPU kernels need a library that is not installed everywhere.
        with suppress(ImportError):
            importlib.import_module(module.name)
    for name in _LIBRARIES:
        importlib.import_module(name)


def _end(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.join(timeout=5)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _serve(connection: Connection, kinds: dict[str, Kind], root: Path, fixtures: Path) -> None:
    """Run inputs until the other end is closed."""
    runner = Runner(root, fixtures)
    while True:
        try:
            kind, seed = connection.recv()
        except EOFError:
            return
        connection.send(runner.run(kinds[kind], seed, connection.send))
