"""Following a search in TensorBoard or MLflow, beside its ledger.

A tracker is a copy of the ledger for people's favourite tools, never a part of the search: it sees
an event after it is on the disk, on a thread of its own, and its failure is told once and ends
nothing but itself. It is given all events from the ledger's beginning each time the search is taken
up, and passes over what it holds already: so a resume doesn't double anything, and what a killed
driver couldn't pass on comes later.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from celltune.search.config.schema import SearchConfig, Tracking
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import Event
from celltune.search.ledger.state import ExperimentState
from celltune.search.storage.base import Experiment

if TYPE_CHECKING:
    from celltune.search.tuning.controller import SearchController

_log = logging.getLogger(__name__)

CLOSING_SECONDS = 10.0
"""How long the end of a search waits for a tracker that is behind."""


class Tracker(Protocol):
    """Takes in the events of one experiment, in the ledger's order, on one thread."""

    def take(self, event: Event) -> None:
        """Take in an event, or pass over it if it was taken in by an earlier tracker."""

    def close(self) -> None:
        """Write what is still held back."""


def check(tracking: Tracking) -> None:
    """Check that the packages for what is switched on are there.

    Raises:
        ConfigError: one is missing.
    """
    wanted = {
        "tensorboard": ("tensorboardX", bool(tracking.tensorboard)),
        "mlflow": ("mlflow", tracking.mlflow is not None),
    }
    for extra, (package, on) in wanted.items():
        if on and find_spec(package) is None:
            raise ConfigError(
                f"tracking.{extra} is switched on, but the package {package} isn't installed. "
                f"Install it with: pip install 'celltune[{extra}]'; or leave tracking.{extra} out."
            )


@contextmanager
def tracked(
    conductor: SearchController,
    config: SearchConfig,
    folder: Experiment,
    events: Sequence[Event],
) -> Iterator[None]:
    """Let the trackers of a config follow a conductor while the context is open.

    Args:
        conductor: of the search.
        config: of the experiment.
        folder: of the experiment.
        events: that the ledger holds already.
    """
    followers = [Follower(name, make, events) for name, make in _trackers(config, folder).items()]
    for follower in followers:
        conductor.observe(follower)
    try:
        yield
    finally:
        for follower in followers:
            follower.close()


def _trackers(config: SearchConfig, folder: Experiment) -> dict[str, Callable[[], Tracker]]:
    made: dict[str, Callable[[], Tracker]] = {}
    if config.tracking.tensorboard:
        made["TensorBoard"] = lambda: _tensorboard(config, folder)
    if config.tracking.mlflow is not None:
        made["MLflow"] = lambda: _mlflow(config)
    return made


def _tensorboard(config: SearchConfig, folder: Experiment) -> Tracker:
    from celltune.search.tracking.tensorboard import TensorBoardTracker

    named = config.tracking.tensorboard
    if isinstance(named, str):
        return TensorBoardTracker(Path(named) / folder.name, config.metric)
    if (local := folder.storage.local_folder) is not None:
        return TensorBoardTracker(local / folder.name / "tensorboard", config.metric)
    raise ConfigError(
        "tracking.tensorboard is true, but TensorBoard cannot write to the experiment's object "
        f"store ({folder.location}). Set tracking.tensorboard to a local folder."
    )


def _mlflow(config: SearchConfig) -> Tracker:
    from mlflow import MlflowClient

    from celltune.search.tracking.mlflow import MlflowTracker

    return MlflowTracker(MlflowClient(tracking_uri=config.tracking.mlflow), config.name)


class Follower:
    """An observer of the conductor that passes events on to a tracker's own thread.

    Invariants: calling it never waits and never raises; the tracker lives on its thread only.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], past: Sequence[Event]) -> None:
        """Begin to follow.

        Args:
            name: of the tracker, for people.
            make: makes the tracker, on its thread.
            past: events that the ledger holds already.
        """
        self._name = name
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._told = False
        self._thread = threading.Thread(
            target=self._follow, args=(make, list(past)), name=f"celltune-{name}", daemon=True
        )
        self._thread.start()

    def __call__(self, event: Event, state: ExperimentState) -> None:  # noqa: ARG002
        """Pass an event on."""
        self._tell()
        if self._error is None:
            self._events.put(event)

    def close(self, patience: float = CLOSING_SECONDS) -> None:
        """Let the tracker finish, for at most `patience` seconds."""
        self._events.put(None)
        self._thread.join(patience)
        if self._thread.is_alive() and self._error is None:
            self._error = TimeoutError(f"it was still behind after {patience:g} s")
        self._tell()

    def _follow(self, make: Callable[[], Tracker], past: Sequence[Event]) -> None:
        try:
            tracker = make()
            for event in past:
                tracker.take(event)
            while (latest := self._events.get()) is not None:
                tracker.take(latest)
            tracker.close()
        except Exception as error:  # noqa: BLE001 (whatever it is, the search goes on)
            self._error = error

    def _tell(self) -> None:
        # By the driver's own thread, between whose lines nothing else may print.
        if self._error is not None and not self._told:
            self._told = True
            reason = str(self._error).strip().splitlines() or [type(self._error).__name__]
            _log.warning(
                "%s isn't followed any more: %s. The search goes on and loses nothing; a resume "
                "brings %s up to date.",
                self._name,
                reason[0].rstrip("."),
                self._name,
            )
