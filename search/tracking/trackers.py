"""Record a search in TensorBoard or MLflow while it runs.

A tracker writes a copy of the ledger for another tool and never affects the search. It receives an
event only after the ledger stored it, in a thread of its own. If a tracker fails, a warning is
logged and the search continues.

Each run passes all events of the ledger to the tracker, from the first one. The tracker skips those
that it recorded in an earlier run. So a resume duplicates nothing, and it also adds the events that
an earlier driver could not pass on because it was killed.
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
from celltune.search.storage.base import TENSORBOARD, Experiment

if TYPE_CHECKING:
    from celltune.search.tuning.controller import SearchController

_log = logging.getLogger(__name__)

CLOSING_SECONDS = 10.0
"""Seconds that the end of a run waits for a tracker that has not recorded all events yet."""


class Tracker(Protocol):
    """Records the events of one experiment. Its methods are called from a single thread."""

    def record(self, event: Event) -> None:
        """Record the next event of the ledger, or skip it if an earlier run recorded it."""

    def close(self) -> None:
        """Flush all buffers."""


def check_installed(tracking: Tracking) -> None:
    """Check that the packages of the enabled trackers are installed.

    Raises:
        ConfigError: a package is missing.
    """
    packages = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}
    enabled = {"tensorboard": bool(tracking.tensorboard), "mlflow": tracking.mlflow is not None}
    for tracker, package in packages.items():
        if enabled[tracker] and find_spec(package) is None:
            raise ConfigError(
                f"tracking.{tracker} is enabled, but the package {package} is not installed. "
                f"Install it with pip install 'celltune[{tracker}]', or omit tracking.{tracker}."
            )


@contextmanager
def track_search(
    controller: SearchController,
    config: SearchConfig,
    experiment: Experiment,
    events: Sequence[Event],
) -> Iterator[None]:
    """Pass the events of a search to the trackers of its config while the context is open.

    Args:
        controller: the controller of the search.
        config: the experiment's config.
        experiment: the experiment.
        events: the events that are already in the ledger.
    """
    trackers = [
        BackgroundTracker(name, create, events)
        for name, create in _enabled_trackers(config, experiment).items()
    ]
    for tracker in trackers:
        controller.observe(tracker)
    try:
        yield
    finally:
        for tracker in trackers:
            tracker.close()


def _enabled_trackers(
    config: SearchConfig, experiment: Experiment
) -> dict[str, Callable[[], Tracker]]:
    enabled: dict[str, Callable[[], Tracker]] = {}
    if config.tracking.tensorboard:
        enabled["TensorBoard"] = lambda: _tensorboard(config, experiment)
    if config.tracking.mlflow is not None:
        enabled["MLflow"] = lambda: _mlflow(config)
    return enabled


def _tensorboard(config: SearchConfig, experiment: Experiment) -> Tracker:
    from celltune.search.tracking.tensorboard import TensorBoardTracker

    setting = config.tracking.tensorboard
    if isinstance(setting, str):
        return TensorBoardTracker(Path(setting) / experiment.name, config.metric)
    storage_folder = experiment.storage.local_folder
    if storage_folder is not None:
        return TensorBoardTracker(storage_folder / experiment.name / TENSORBOARD, config.metric)
    raise ConfigError(
        "tracking.tensorboard is true, but TensorBoard cannot write to the experiment's storage "
        f"({experiment.location}), which is not a folder. Set tracking.tensorboard to a folder."
    )


def _mlflow(config: SearchConfig) -> Tracker:
    from mlflow import MlflowClient

    from celltune.search.tracking.mlflow import MlflowTracker

    return MlflowTracker(MlflowClient(tracking_uri=config.tracking.mlflow), config.name)


class BackgroundTracker:
    """An observer of a search that runs a tracker in a thread of its own.

    Invariants: a call neither blocks nor raises. The tracker is only used in its own thread.
    """

    def __init__(self, name: str, create: Callable[[], Tracker], past: Sequence[Event]) -> None:
        """Start the thread.

        Args:
            name: the tool's name, for messages.
            create: creates the tracker; called in the thread.
            past: the events that are already in the ledger.
        """
        self._name = name
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._warned = False
        self._thread = threading.Thread(
            target=self._run, args=(create, list(past)), name=f"celltune-{name}", daemon=True
        )
        self._thread.start()

    def __call__(self, event: Event, state: ExperimentState) -> None:  # noqa: ARG002
        """Pass an event to the tracker."""
        self._warn_of_failure()
        if self._error is None:
            self._events.put(event)

    def close(self, timeout: float = CLOSING_SECONDS) -> None:
        """Close the tracker after its last event, which may take up to `timeout` seconds."""
        self._events.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive() and self._error is None:
            self._error = TimeoutError(f"it did not record all events within {timeout:g} s")
        self._warn_of_failure()

    def _run(self, create: Callable[[], Tracker], past: Sequence[Event]) -> None:
        try:
            tracker = create()
            for event in past:
                tracker.record(event)
            while (latest := self._events.get()) is not None:
                tracker.record(latest)
            tracker.close()
        except Exception as error:  # noqa: BLE001 (no failure of a tracker may end the search)
            self._error = error

    def _warn_of_failure(self) -> None:
        # Called in the driver's thread, so that the warning does not interrupt another line.
        if self._error is not None and not self._warned:
            self._warned = True
            lines = str(self._error).strip().splitlines() or [type(self._error).__name__]
            _log.warning(
                "%s no longer records the search: %s. The search continues. A resume records the "
                "missing events.",
                self._name,
                lines[0].rstrip("."),
            )
