"""Requests to stop a run: by a signal, by another process, or by the time limit."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from celltune.search.errors import ExperimentError
from celltune.search.runs.view import View
from celltune.search.storage.base import Experiment

_POLL_SECONDS = 0.5
"""Time between two checks of the storage for a stop request."""


def request_stop(experiment: Experiment) -> None:
    """Ask the process that runs an experiment, on any machine, to stop.

    Raises:
        ExperimentError: no process runs the experiment, or its storage cannot be written.
    """
    if not experiment.is_locked():
        raise ExperimentError(f"The experiment '{experiment.name}' is not running.")
    experiment.request_stop()


def wait_until_stopped(experiment: Experiment, poll_seconds: float = 0.2) -> None:
    """Block until no process runs the experiment."""
    while experiment.is_locked():
        time.sleep(poll_seconds)


class StopRequests:
    """Callable that returns whether a run has to stop.

    After the first request it stays True. The view shows the reason once.
    """

    def __init__(
        self,
        experiments: Collection[Experiment],
        signalled: threading.Event,
        time_limit: float | None,
        view: View,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the time limit.

        Args:
            experiments: experiments of this run, in which `request_stop` leaves a request; may
                change later. The caller clears old requests when it locks an experiment: clearing
                them here would discard requests that arrived since.
            signalled: set by a signal handler (see `stop_signals`).
            time_limit: maximum duration of the run in seconds; `None` for no limit.
            view: shows the reason.
            clock: monotonic time in seconds.
        """
        self._experiments = experiments
        self._signalled = signalled
        self._view = view
        self._clock = clock
        self._deadline = None if time_limit is None else clock() + time_limit
        self._last_poll = clock()
        self.reason: Literal["interrupted", "time"] | None = None

    def __call__(self) -> bool:
        """Check for requests; return whether the run has to stop.

        Raises:
            StorageError: an experiment was removed or moved.
            LedgerError: another driver took over.
        """
        if self.reason is None:
            self._check()
        return self.reason is not None

    def _check(self) -> None:
        # Called from the main loop, because a signal handler must not print.
        now = self._clock()
        if self._signalled.is_set():
            self._stop("interrupted", "Stopping; only unfinished epochs are lost")
        elif self._deadline is not None and now >= self._deadline:
            self._stop("time", "The time limit is reached; only unfinished epochs are lost")
        elif now - self._last_poll >= _POLL_SECONDS:
            self._last_poll = now
            for experiment in list(self._experiments):
                experiment.check_in_place()
                if experiment.stop_requested():
                    experiment.clear_stop()
                    self._stop("interrupted", "Stopping, as another process requested")

    def _stop(self, reason: Literal["interrupted", "time"], text: str) -> None:
        self.reason = reason
        self._view.stage(text)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into an event; a second one has its usual effect.

    Outside of the main thread, signals are not handled.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()
        restore()

    for number in previous:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Handle a SIGINT that arrives in the context at its end; for imports of large libraries.

    A library whose import is interrupted remains half-imported, and a notebook, whose process goes
    on, could not use it any more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: received.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if received.is_set():
        signal.raise_signal(signal.SIGINT)
