"""Who may ask a running search to stop: its user at the terminal, another terminal, the clock."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from celltune.search.runs.view import View
from celltune.search.storage.base import Experiment

_LOOK_EVERY = 0.5
"""Seconds between two looks for a request in the experiment's folder."""


class StopRequests:
    """Says whether to stop; once it said so it says so for ever, and tells the view why."""

    def __init__(
        self,
        folder: Experiment,
        signalled: threading.Event,
        seconds: float | None,
        view: View,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch for requests.

        Args:
            folder: where `celltune stop` leaves its request. What an earlier run left behind must
                be cleared already, when the lock is taken: later, one that came while this run
                was getting ready would be forgotten.
            signalled: set after a Ctrl-C or a SIGTERM.
            seconds: how long the run may take; None: as long as it likes.
            view: is told why the run stops.
            clock: seconds that only grow: a set clock mustn't end a search.
        """
        self._folder = folder
        self._signalled = signalled
        self._view = view
        self._clock = clock
        self._deadline = None if seconds is None else clock() + seconds
        self._looked = clock()
        self.reason: Literal["interrupted", "time"] | None = None

    def __call__(self) -> bool:
        """Whether the run should end."""
        if self.reason is None:
            self._look()
        return self.reason is not None

    def _look(self) -> None:
        # From the main loop, because a signal's handler can't print.
        now = self._clock()
        if self._signalled.is_set():
            self._stop("interrupted", "Stopping; nothing is lost but the epochs in flight")
        elif self._deadline is not None and now >= self._deadline:
            self._stop("time", "The time is over; nothing is lost but the epochs in flight")
        elif now - self._looked >= _LOOK_EVERY:
            self._looked = now
            if self._folder.stop_requested():
                self._folder.clear_stop()
                self._stop("interrupted", "Stopping, as `celltune stop` asked")

    def _stop(self, reason: Literal["interrupted", "time"], text: str) -> None:
        self.reason = reason
        self._view.stage(text)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C, or a SIGTERM, into an event; a second one acts as ever."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.set()
        for known, handler in before.items():
            signal.signal(known, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
