"""The public Python API: launch an experiment, resume it, list what there is.

Ray, torch and Optuna are imported only once a search really starts.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import EndReason, Event, ExperimentCreated, WarmStarted
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.session import (
    _check_vectors,
    _prepare,
    check_same_data,
    config_for_run,
    connected_cluster,
    resolve_for_run,
)
from celltune.search.runs.stop_requests import StopRequests, stop_signals
from celltune.search.runs.view import SilentView, View
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from celltune.search.storage.snapshot import with_budget
from celltune.search.tracking import follower as tracking
from celltune.search.tuning import warm_start as warm
from celltune.search.tuning.budget_changes import Changes, budget_event, config_after
from celltune.search.tuning.stopping import end_reason
from celltune.search.version import VERSION, library_versions

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData
    from celltune.search.tuning.controller import SearchController

Clock = Callable[[], float]


@dataclass(frozen=True)
class RunResult:
    """What came of a launch or a resume."""

    folder: Experiment
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
) -> RunResult:
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
    resolved = resolve_for_run(config, overrides, name)
    root = open_storage(storage)
    folder = new_experiment(resolved.name, root)
    prior, prior_data = _learned(resolved, warm_start, root, clock)
    with connected_cluster(resolved, root, address, view):
        data = _prepare(resolved, view)
        _check_vectors(resolved, data)
        created = ExperimentCreated(
            at=clock(), fingerprint=data.fingerprint, valid_reviews=len(data.valid)
        )
        first: list[Event] = [created]
        if prior is not None:
            same = prior_data == data.fingerprint
            prior = prior.model_copy(update={"same_data": same})
            view.stage(warm.describe_warm_start(prior))
            first.append(prior)
        folder.create(resolved, *first)
        with folder.locked():
            return _run(folder, resolved, data, view, clock)


def _learned(
    config: SearchConfig, name: str | None, root: Storage, clock: Clock
) -> tuple[WarmStarted | None, str]:
    """What an earlier experiment says about the space, and the fingerprint of its data."""
    if name is None:
        return None, ""
    state = find_experiment(name, root).state()
    fingerprint = state.created.fingerprint if state.created else ""
    return warm.warm_start_event(name, state, config.space, config.metric, clock()), fingerprint


def resume(
    name: str,
    *,
    changes: Changes | None = None,
    storage: Path | str | None = None,
    address: str | None = None,
    overrides: Sequence[str] = (),
    view: View | None = None,
    clock: Clock = time.time,
) -> RunResult:
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
    folder = find_experiment(name, storage)
    with folder.locked():
        folder.clear_stop()
        config, state = config_for_run(folder, overrides), folder.state()
        wanted = config_after(config, state, changes)
        # Without the ledger's epochs the change isn't known in full, but whether there is one.
        nothing_new = budget_event(config, (), state, changes, clock()) is None
        if nothing_new and (reason := end_reason(wanted, state)) is not None:
            return RunResult(folder, wanted, state, reason)
        with connected_cluster(wanted, folder.storage, address, view):
            data = _prepare(wanted, view)
            check_same_data(folder, state, data)
            return _run(folder, config, data, view, clock, changes)


def _run(
    folder: Experiment,
    config: SearchConfig,
    data: PreparedData,
    view: View,
    clock: Clock,
    changes: Changes | None = None,
) -> RunResult:
    from celltune.data_prep.cache import ray_store as store
    from celltune.search.cluster import tune_engine as engine
    from celltune.search.storage.retention import CheckpointRetention

    with folder.open_ledger() as ledger, stop_signals() as signalled:
        conductor = _conductor(config, ledger, changes or Changes(), clock)
        config = with_budget(config, conductor.state)
        conductor.observe(CheckpointRetention(folder, config.metric))
        conductor.observe(view.event)
        conductor.start(
            celltune=VERSION,
            host=socket.gethostname(),
            pid=os.getpid(),
            versions=library_versions(),
        )
        stop = StopRequests(folder, signalled, config.budget.time, view)
        gigabytes = config.resources.data_memory_gb
        data_limit = None if gigabytes is None else int(gigabytes * 1e9)
        with (
            store.acquired(data, limit=data_limit) as handle,
            tracking.tracked(conductor, config, folder, ledger.events),
            view.running(folder, config, conductor.state),
        ):
            engine.run(
                conductor,
                config,
                folder,
                handle,
                stop,
                publish_again=lambda: store.acquire(data, limit=data_limit),
            )
        reason: EndReason = conductor.end_reason or stop.reason or "interrupted"
        conductor.end(reason)
        return RunResult(folder, config, conductor.state, reason)


def _conductor(
    config: SearchConfig, ledger: Ledger, changes: Changes, clock: Clock
) -> SearchController:
    from celltune.search.tuning.controller import SearchController

    # Bringing a conductor to where the ledger ends may write ends of trials, so it comes first.
    conductor = SearchController(config, ledger, clock=clock)
    event = budget_event(config, ledger, conductor.state, changes, clock())
    if event is None:
        return conductor
    ledger.append(event)
    return SearchController(config, ledger, clock=clock)
