"""The public Python API: launch an experiment, resume it, list what there is.

Ray, torch and Optuna are imported only once a search really starts.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import folder as folders
from search import tracking
from search import warm_start as warm
from search.config import SearchConfig, load_config, parse_config
from search.errors import ConfigError, ExperimentError
from search.events import EndReason, Event, ExperimentCreated, WarmStarted
from search.extension import Changes, change, changed
from search.folder import Folder
from search.ledger import Ledger
from search.quiet import before_ray_is_imported
from search.state import ExperimentState
from search.stop import StopRequests, on_signal
from search.stopping import over, with_budget
from search.version import VERSION, library_versions
from search.view import SilentView, View

if TYPE_CHECKING:
    from data_prep import PreparedData
    from search.conductor import Conductor

Clock = Callable[[], float]


@dataclass(frozen=True)
class Result:
    """What came of a launch or a resume."""

    folder: Folder
    config: SearchConfig
    """With the budget that is in force."""
    state: ExperimentState
    reason: EndReason
    """Why the run ended."""

    @property
    def interrupted(self) -> bool:
        """Whether the search isn't over, so that a resume has something to do."""
        return self.reason in ("interrupted", "time")


def launch(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    *,
    name: str | None = None,
    warm_start: str | None = None,
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
        warm_start: an earlier experiment of the same storage, whose trials Optuna is told of
            before its first proposal; None: it begins with nothing.
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
    root = folders.storage_root(storage)
    folder = folders.reserve_name(resolved.name, root)
    prior, prior_data = _learned(resolved, warm_start, root, clock)
    with cluster_for(resolved, root, address, view):
        data = _prepare(resolved, view)
        _check_vectors(resolved, data)
        created = ExperimentCreated(
            at=clock(), fingerprint=data.fingerprint, valid_reviews=len(data.valid)
        )
        first: list[Event] = [created]
        if prior is not None:
            same = prior_data == data.fingerprint
            prior = prior.model_copy(update={"same_data": same})
            view.stage(warm.told(prior))
            first.append(prior)
        folders.create(folder, resolved, *first)
        with folder.locked():
            return _run(folder, resolved, data, view, clock)


def _learned(
    config: SearchConfig, name: str | None, root: folders.Root, clock: Clock
) -> tuple[WarmStarted | None, str]:
    """What an earlier experiment says about the space, and the fingerprint of its data."""
    if name is None:
        return None, ""
    state = folders.find(name, root).state()
    fingerprint = state.created.fingerprint if state.created else ""
    return warm.learned(name, state, config.space, config.metric, clock()), fingerprint


def resume(
    name: str,
    *,
    changes: Changes | None = None,
    storage: Path | str | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    view: View | None = None,
    clock: Clock = time.time,
) -> Result:
    """Go on with a search from its ledger, after a stop, any death of its driver, or its end.

    Finished trials aren't run again; unfinished ones go on from their newest whole checkpoint.
    A search that is over is left as it is, unless `changes` give it more to do.

    Args:
        name: of the experiment.
        changes: more trials, more epochs, failed trials once more, another target; None: none.
        storage: the folder of experiments; None: $CELLTUNE_STORAGE or ~/celltune_results.
        address: of a running Ray cluster; None: a local one is started.
        overrides: `key.path=value` each, for this run: where the data is, what trials run on and
            how patient the search is may change, what its numbers mean may not.
        view: shows what happens; None: nothing is shown.
        clock: seconds since 1970.

    Raises:
        InputError: there is no such experiment, its ledger is damaged, another process runs it,
            its data changed, or the changes can't be had.
    """
    view = view or SilentView()
    changes = changes or Changes()
    folder = folders.find(name, folders.storage_root(storage))
    with folder.locked():
        folder.clear_stop()
        config, state = for_this_run(folder, overrides), folder.state()
        wanted = changed(config, state, changes)
        # Without the ledger's epochs the change isn't known in full, but whether there is one.
        nothing_new = change(config, (), state, changes, clock()) is None
        if nothing_new and (reason := over(wanted, state)) is not None:
            return Result(folder, wanted, state, reason)
        with cluster_for(wanted, folder.root, address, view):
            data = _prepare(wanted, view)
            check_same_data(folder, state, data)
            return _run(folder, config, data, view, clock, changes)


_MAY_CHANGE = ("data", "resources", "retries", "trial_timeout", "max_failed", "budget.time")


def for_this_run(folder: Folder, overrides: Sequence[str]) -> SearchConfig:
    """Read an experiment's config with the overrides of one run.

    Raises:
        ConfigError: an override would change what the experiment's numbers mean.
    """
    config = folder.config()
    for override in overrides:
        if not any(f"{override.partition('=')[0]}.".startswith(f"{key}.") for key in _MAY_CHANGE):
            raise ConfigError(
                f"'{override}' can't be set at a resume: it would change what the numbers of "
                f"'{folder.name}' mean, or has an option of its own (--trials, --max-epochs, "
                f"--target, --patience). Allowed: {', '.join(_MAY_CHANGE)}. For anything else, "
                f"launch a new search, with --from {folder.name}."
            )
    if not overrides:
        return config
    plain = config.model_dump(mode="json")
    return _anchored(parse_config(plain, origin=f"'{folder.name}'", overrides=overrides))


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
    """Make the config's paths absolute, so that a resume finds them from any folder."""
    tracking.check(config.tracking)
    return config.model_copy(
        update={"data": config.data.anchored(), "tracking": config.tracking.anchored()}
    )


@contextmanager
def cluster_for(
    config: SearchConfig, storage: folders.Root, address: str | None, view: View
) -> Iterator[None]:
    """Be joined to a cluster that can hold a trial of the experiment.

    Raises:
        InputError: the data aren't there, the cluster isn't, it is too small, or a node of it
            doesn't see the storage.
    """
    from data_prep import check_present

    before_ray_is_imported()
    from search.cluster import joined, trial_slots
    from search.shared_storage import check_seen_by_all

    check_present(config.data)
    view.stage(f"Joining the Ray cluster at {address}" if address else "Starting a local Ray")
    with joined(address):
        trial_slots(config.resources)
        check_seen_by_all(storage)
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


def check_same_data(folder: Folder, state: ExperimentState, data: PreparedData) -> None:
    """Refuse to mix data.

    Raises:
        ExperimentError: the data aren't those that the experiment was launched on.
    """
    recorded = state.created.fingerprint if state.created else ""
    if recorded != data.fingerprint:
        raise ExperimentError(
            f"The experiment '{folder.name}' was launched on other data: its fingerprint is "
            f"{recorded[:12]}, the data now has {data.fingerprint[:12]}. Mixing the two would make "
            "its numbers meaningless. Put the original data back, or launch a new experiment."
        )


def _run(
    folder: Folder,
    config: SearchConfig,
    data: PreparedData,
    view: View,
    clock: Clock,
    changes: Changes | None = None,
) -> Result:
    from data_prep import store
    from search import engine
    from search.keeper import CheckpointKeeper

    with folder.open_ledger() as ledger, on_signal() as signalled:
        conductor = _conductor(config, ledger, changes or Changes(), clock)
        config = with_budget(config, conductor.state)
        conductor.observe(CheckpointKeeper(folder, config.metric))
        conductor.observe(view.event)
        conductor.start(
            celltune=VERSION,
            host=socket.gethostname(),
            pid=os.getpid(),
            versions=library_versions(),
        )
        stop = StopRequests(folder, signalled, config.budget.time, view)
        gigabytes = config.resources.data_memory_gb
        ceiling = None if gigabytes is None else int(gigabytes * 1e9)
        with (
            store.held(data, ceiling=ceiling) as handle,
            tracking.following(conductor, config, folder, ledger.events),
            view.running(folder, config, conductor.state),
        ):
            engine.run(
                conductor,
                config,
                folder,
                handle,
                stop,
                publish_again=lambda: store.hold(data, ceiling=ceiling),
            )
        reason: EndReason = conductor.over or stop.reason or "interrupted"
        conductor.end(reason)
        return Result(folder, config, conductor.state, reason)


def _conductor(config: SearchConfig, ledger: Ledger, changes: Changes, clock: Clock) -> Conductor:
    from search.conductor import Conductor

    # Bringing a conductor to where the ledger ends may write ends of trials, so it comes first.
    conductor = Conductor(config, ledger, clock=clock)
    event = change(config, ledger, conductor.state, changes, clock())
    if event is None:
        return conductor
    ledger.append(event)
    return Conductor(config, ledger, clock=clock)
