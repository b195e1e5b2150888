"""The public Python API: launch an experiment, resume it, list what there is.

Ray, torch and Optuna are imported only once a search really starts.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from search import folder as folders
from search.config import SearchConfig, load_config, parse_config
from search.errors import ConfigError, ExperimentError
from search.events import ExperimentCreated
from search.folder import Folder
from search.quiet import before_ray_is_imported
from search.state import ExperimentState
from search.version import VERSION, library_versions
from search.view import SilentView, View

if TYPE_CHECKING:
    from data_prep import PreparedData

Clock = Callable[[], float]


@dataclass(frozen=True)
class Result:
    """What came of a launch or a resume."""

    folder: Folder
    config: SearchConfig
    state: ExperimentState
    interrupted: bool
    """Whether it was stopped before the budget was used up."""


def launch(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    *,
    name: str | None = None,
    storage: Path | str | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    view: View | None = None,
    clock: Clock = time.time,
) -> Result:
    """Start a new search and run it to its end, or until the first Ctrl-C.

    Args:
        config: a YAML file's path, its content as a dict, or a config.
        name: of the experiment; None: the config's.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        address: of a running Ray cluster; None: a local one is started.
        overrides: `key.path=value` each.
        view: shows what happens; None: nothing is shown.
        clock: seconds since 1970.

    Raises:
        InputError: something given can't be used; nothing was changed.
    """
    view = view or SilentView()
    resolved = resolve(config, overrides, name)
    folder = folders.reserve_name(resolved.name, folders.storage_root(storage))
    with _cluster(resolved, address, view):
        data = _prepare(resolved, view)
        _check_vectors(resolved, data)
        first = ExperimentCreated(at=clock(), fingerprint=data.fingerprint)
        folders.create(folder, resolved, first)
        with folder.locked():
            return _run(folder, resolved, data, view, clock)


def resume(
    name: str,
    *,
    storage: Path | str | None = None,
    address: str | None = None,
    view: View | None = None,
    clock: Clock = time.time,
) -> Result:
    """Go on with a search from its ledger, after a clean stop or any death of its driver.

    Finished trials aren't run again; unfinished ones go on from their newest whole checkpoint.
    A finished search is left as it is.

    Args:
        name: of the experiment.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        address: of a running Ray cluster; None: a local one is started.
        view: shows what happens; None: nothing is shown.
        clock: seconds since 1970.

    Raises:
        InputError: there is no such experiment, its ledger is damaged, another process runs it,
            or its data changed.
    """
    view = view or SilentView()
    folder = folders.find(name, folders.storage_root(storage))
    config, state = folder.config(), folder.state()
    if state.finished(config.budget.trials):
        return Result(folder, config, state, interrupted=False)
    with folder.locked(), _cluster(config, address, view):
        data = _prepare(config, view)
        _check_same_data(folder, state, data)
        return _run(folder, config, data, view, clock)


def resolve(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> SearchConfig:
    """Read and check a config in any of the forms that `launch` takes.

    Raises:
        ConfigError: with every mistake in it.
    """
    if name is not None:
        overrides = [*overrides, f"name={name!r}"]
    if isinstance(config, SearchConfig):
        config = config.model_dump(mode="json")
    if isinstance(config, Mapping):
        return _anchored(parse_config(config, overrides=overrides))
    return _anchored(load_config(Path(config), overrides))


def _anchored(config: SearchConfig) -> SearchConfig:
    """Make the data's paths absolute, so that a resume finds it from any folder."""
    return config.model_copy(update={"data": config.data.anchored()})


@contextmanager
def _cluster(config: SearchConfig, address: str | None, view: View) -> Iterator[None]:
    from data_prep import check_present

    before_ray_is_imported()
    from search.cluster import joined, trial_slots

    check_present(config.data)
    view.stage(f"Joining the Ray cluster at {address}" if address else "Starting a local Ray")
    with joined(address):
        trial_slots(config.resources)
        yield


def _prepare(config: SearchConfig, view: View) -> PreparedData:
    from data_prep import prepare

    return prepare(config.data, progress=view.progress)


def _check_vectors(config: SearchConfig, data: PreparedData) -> None:
    size = config.space.fixed.get("embedding_size")
    searched = "embedding_size" in config.space.searched
    if data.vectors is not None and (searched or size not in (None, data.vectors.shape[1])):
        raise ConfigError(
            f"space.embedding_size is {'searched' if searched else size}, but the word vectors of "
            f"data.vectors have {data.vectors.shape[1]} numbers each. Leave embedding_size out, or "
            f"fix it at {data.vectors.shape[1]}."
        )


def _check_same_data(folder: Folder, state: ExperimentState, data: PreparedData) -> None:
    recorded = state.created.fingerprint if state.created else ""
    if recorded != data.fingerprint:
        raise ExperimentError(
            f"The experiment '{folder.name}' was launched on other data: its fingerprint is "
            f"{recorded[:12]}, the data now has {data.fingerprint[:12]}. Mixing the two would make "
            "its numbers meaningless. Put the original data back, or launch a new experiment."
        )


def _run(
    folder: Folder, config: SearchConfig, data: PreparedData, view: View, clock: Clock
) -> Result:
    from data_prep import store
    from search import engine
    from search.conductor import Conductor
    from search.keeper import CheckpointKeeper

    with folder.open_ledger() as ledger, _stop_on_signal() as stop:
        conductor = Conductor(config, ledger, clock=clock)
        conductor.observe(CheckpointKeeper(folder, config.metric))
        conductor.observe(view.event)
        conductor.start(
            celltune=VERSION,
            host=socket.gethostname(),
            pid=os.getpid(),
            versions=library_versions(),
        )
        gigabytes = config.resources.data_memory_gb
        ceiling = None if gigabytes is None else int(gigabytes * 1e9)
        with (
            store.held(data, ceiling=ceiling) as handle,
            view.running(folder, config, conductor.state),
        ):
            engine.run(conductor, config, folder, handle, _announced(stop, view))
        conductor.end("finished" if conductor.finished else "interrupted")
        return Result(folder, config, conductor.state, interrupted=not conductor.finished)


def _announced(stop: threading.Event, view: View) -> Callable[[], bool]:
    """Say once that the search is stopping, from the main loop: a signal handler can't print."""
    announced = threading.Event()

    def should_stop() -> bool:
        if stop.is_set() and not announced.is_set():
            announced.set()
            view.stage("Stopping; nothing is lost but the epochs in flight")
        return stop.is_set()

    return should_stop


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
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
