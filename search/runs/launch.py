"""Launch a new search, and resume an existing one.

Ray, torch and Optuna are imported only when trials are about to run.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from celltune.search.config.rules import check_vector_size
from celltune.search.config.schema import SearchConfig
from celltune.search.errors import ConfigError
from celltune.search.ledger.events import EndReason, Event, ExperimentCreated, WarmStarted
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.objective import majority_scores
from celltune.search.runs.baselines import measured_baselines
from celltune.search.runs.session import (
    Cluster,
    StartingCluster,
    check_classes_of,
    check_same_data,
    config_for_run,
    resolve_for_run,
    starting_cluster,
    usable_gpus,
)
from celltune.search.runs.stop_requests import StopRequests, interrupts_deferred, stop_signals
from celltune.search.runs.view import SilentView, View
from celltune.search.storage.base import Experiment, Storage
from celltune.search.storage.launched import created_event
from celltune.search.storage.locate import find_experiment, new_experiment, open_storage
from celltune.search.storage.snapshot import with_budget
from celltune.search.tracking.trackers import track_search
from celltune.search.tuning.budget_changes import (
    Changes,
    budget_event,
    config_after,
    describe_extension,
)
from celltune.search.tuning.first_trials import outside_note
from celltune.search.tuning.packing import describe_packs
from celltune.search.tuning.stopping import end_reason
from celltune.search.tuning.untried import describe_configurations, planned_trials
from celltune.search.tuning.warm_start import describe_warm_start, warm_start_event
from celltune.search.version import VERSION, library_versions

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData
    from celltune.search.tuning.controller import SearchController

Clock = Callable[[], float]


@dataclass(frozen=True)
class RunResult:
    """Result of a launch or a resume."""

    experiment: Experiment
    config: SearchConfig
    """With the budget in force."""
    state: ExperimentState
    reason: EndReason
    """Why the run ended."""

    @property
    def interrupted(self) -> bool:
        """True if the run ended before the search was over, so that it can be resumed."""
        return self.reason in ("interrupted", "time")


@dataclass(frozen=True)
class _Run:
    """A run whose cluster is connected and whose data is prepared."""

    experiment: Experiment
    config: SearchConfig
    """Without the changes of the budget that the ledger records."""
    data: PreparedData
    cluster: Cluster
    view: View
    clock: Clock


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
    """Create an experiment and run its search until it is over, or until the first Ctrl-C.

    Args:
        config: path of a YAML file, its content as a dict, or a config.
        name: name of the experiment; `None` for the config's name.
        warm_start: name of an earlier experiment in the same storage, whose trials the sampler
            learns from before it proposes the first one.
        storage: folder or object store URI of experiments; `None` for $CELLTUNE_STORAGE, or
            ~/celltune_results if that is not set.
        address: address of a running Ray cluster; `None` starts a local one.
        overrides: config values as `key.path=value`, or `~key.path` to remove a key.
        view: shows the progress; `None` shows nothing.
        clock: returns the seconds since 1970.

    Raises:
        InputError: an argument or the data is invalid; no experiment was created.
    """
    view = view or SilentView()
    resolved = resolve_for_run(config, overrides, name, view=view)
    root = open_storage(storage)
    experiment = new_experiment(resolved.name, root)
    for note in filter(None, [outside_note(resolved), _end_note(resolved)]):
        view.message(note)
    prior, prior_fingerprint = _prior_trials(resolved, warm_start, root, clock)
    _check_data_files(resolved)
    with _starting(resolved, root, address, view) as starting:
        if resolved.resources.trials_per_worker > 1:
            view.message(describe_packs(resolved))
        data, cluster = _prepare(resolved, starting, view)
        _check_prepared(resolved, data)
        for note in _duplicates_notes(data):
            view.message(note)
        events: list[Event] = [_created_event(resolved, data, clock())]
        if prior is not None:
            same_data = prior_fingerprint == data.fingerprint
            prior = prior.model_copy(update={"same_data": same_data})
            view.message(describe_warm_start(prior, resolved.metric))
            events.append(prior)
        experiment.create(resolved, *events)
        with experiment.locked():
            run = _Run(experiment, resolved, data, cluster, view, clock)
            return _search(run, Changes())


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
    """Continue a search from its ledger after it was stopped, killed, or over.

    Finished trials are not repeated; unfinished ones continue from their newest intact checkpoint.
    If the search is over and `changes` do not extend it, nothing happens.

    Args:
        name: name of the experiment.
        changes: changes of the budget; `None` for no change.
        storage: folder or object store URI of experiments; `None` for $CELLTUNE_STORAGE, or
            ~/celltune_results if that is not set.
        address: address of a running Ray cluster; `None` starts a local one.
        overrides: config values as `key.path=value`, or `~key.path` to remove a key, for this run
            only. Only the keys in `CHANGEABLE_KEYS` can be set.
        view: shows the progress; `None` shows nothing.
        clock: returns the seconds since 1970.

    Raises:
        InputError: the experiment does not exist, is damaged, or is running in another process; its
            data changed; or the changes are invalid.
    """
    view = view or SilentView()
    changes = changes or Changes()
    experiment = find_experiment(name, storage)
    with experiment.locked():
        experiment.clear_stop()
        config, state = config_for_run(experiment, overrides), experiment.state()
        changed = config_after(config, state, changes)
        # The complete event needs the ledger's epochs; whether there is a change does not.
        no_change = budget_event(config, (), state, changes, clock()) is None
        if no_change and (reason := end_reason(changed, state)) is not None:
            return RunResult(experiment, changed, state, reason)
        _check_data_files(changed)
        with _starting(changed, experiment.storage, address, view) as starting:
            data, cluster = _prepare(changed, starting, view)
            check_same_data(experiment, state, data)
            run = _Run(experiment, config, data, cluster, view, clock)
            return _search(run, changes)


def _end_note(config: SearchConfig) -> str:
    """Return that the search will try every configuration before its budget is used, if it will."""
    early = planned_trials(config, ExperimentState()) < config.budget.trials
    return describe_configurations(config) if early else ""


def _prior_trials(
    config: SearchConfig, name: str | None, root: Storage, clock: Clock
) -> tuple[WarmStarted | None, str]:
    """Return the event of a warm start, and the fingerprint of the earlier experiment's data."""
    if name is None:
        return None, ""
    state = find_experiment(name, root).state()
    fingerprint = state.created.fingerprint if state.created else ""
    return warm_start_event(name, state, config.space, config.metric, clock()), fingerprint


def _check_data_files(config: SearchConfig) -> None:
    from celltune.data_prep.sources.factory import check_files_exist

    check_files_exist(config.data)


def _starting(
    config: SearchConfig, storage: Storage, address: str | None, view: View
) -> AbstractContextManager[StartingCluster]:
    from celltune.models.native.library import LOOPS

    if config.resources.gpus_per_trial == 0 and address is None and LOOPS.will_compile():
        view.message("The C++ code is compiled first, once on this machine (about 10 s).")
        # The workers wait for it, if it takes longer than the rest of the start.
        threading.Thread(target=LOOPS.load, daemon=True).start()
    packed = config.resources.trials_per_worker
    return starting_cluster(
        config.resources,
        storage,
        address,
        view,
        trials_per_worker=packed,
        workers=math.ceil(config.budget.trials / packed),
    )


def _prepare(
    config: SearchConfig, starting: StartingCluster, view: View
) -> tuple[PreparedData, Cluster]:
    """Prepare the data, and import what a search needs, while the cluster starts."""
    with interrupts_deferred():
        from celltune.data_prep.preparation.pipeline import prepare

    resources, packed = config.resources, config.resources.trials_per_worker
    precisions = config.values("precision")
    gpus = None
    if resources.gpus_per_trial > 0:
        # Preparing the data may take longer than finding out that a GPU cannot be used.
        starting.ready()
        gpus = usable_gpus(resources, precisions, view)
    data = prepare(config.data, progress=starting.progress)
    with interrupts_deferred():
        import celltune.search.cluster.tune_engine
        import celltune.search.tuning.controller  # noqa: F401
        from celltune.search.cluster.gpu_checks import check_gpu_memory

    cluster = starting.ready()
    if gpus is None:
        gpus = usable_gpus(resources, precisions, view)
    models = (m for given in ({}, *config.first_trials) for m in config.space.largest(given))
    check_gpu_memory(gpus, resources, models, data, trials_per_worker=packed)
    return data, cluster


def _check_prepared(config: SearchConfig, data: PreparedData) -> None:
    try:
        check_classes_of(config, data.classes)
        if data.vectors is not None:
            check_vector_size(config.space, config.first_trials, data.vectors.shape[1])
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _duplicates_notes(data: PreparedData) -> list[str]:
    from celltune.data_prep.preparation.duplicates import duplicates_notes

    counts = cast("Mapping[str, int]", data.info.get("duplicates") or {})
    return duplicates_notes(counts, train=len(data.train), valid=len(data.valid))


def _created_event(config: SearchConfig, data: PreparedData, at: float) -> ExperimentCreated:
    label, accuracy = data.majority()
    wide = cast("Mapping[str, float]", data.info.get("wide") or {})
    return created_event(
        config,
        at=at,
        fingerprint=data.fingerprint,
        valid_reviews=len(data.valid),
        majority_class=label,
        majority_accuracy=accuracy,
        majority_scores=majority_scores(
            config.reported_metrics, data.train.labels, data.valid.labels
        ),
        wide_accuracy=wide.get("valid_accuracy"),
    )


def _search(run: _Run, changes: Changes) -> RunResult:
    """Run the trials of a locked experiment."""
    with interrupts_deferred():
        from celltune.data_prep.cache import ray_store
        from celltune.search.cluster.tune_engine import TuneEngine
        from celltune.search.storage.retention import CheckpointRetention

    experiment, view = run.experiment, run.view
    with experiment.open_ledger() as ledger, stop_signals() as signalled:
        controller = _make_controller(run, ledger, changes)
        config = with_budget(run.config, controller.state)
        controller.observe(CheckpointRetention(experiment, config.metric))
        controller.observe(view.event)
        controller.start(
            celltune=VERSION,
            host=socket.gethostname(),
            pid=os.getpid(),
            versions=library_versions(),
        )
        stop = StopRequests([experiment], signalled, config.budget.time, view)
        gigabytes = config.resources.data_memory_gb
        data_limit = None if gigabytes is None else int(gigabytes * 1e9)
        publish = ray_store.owned if run.cluster.is_own else ray_store.acquired
        view.stage("Starting the workers")
        with (
            publish(run.data, limit=data_limit) as handle,
            track_search(controller, config, experiment, ledger.events),
            measured_baselines(controller, config, run.data, view, run.clock) as baselines,
            view.running(experiment, config, controller.state),
        ):
            engine = TuneEngine(
                config,
                experiment,
                handle,
                run.cluster.slots,
                # The loss of a node loses no data that this process owns.
                republish_data=lambda: (
                    None if run.cluster.is_own else ray_store.acquire(run.data, limit=data_limit)
                ),
                is_own_cluster=run.cluster.is_own,
            )

            def on_iteration() -> None:
                baselines.poll()
                view.tick()

            engine.run(controller, stop, on_iteration)
            if controller.end_reason is not None:
                baselines.wait(stop)
        reason: EndReason = controller.end_reason or stop.reason or "interrupted"
        controller.end(reason)
        return RunResult(experiment, config, controller.state, reason)


def _make_controller(run: _Run, ledger: Ledger, changes: Changes) -> SearchController:
    with interrupts_deferred():
        from celltune.search.tuning.controller import SearchController

    def make() -> SearchController:
        return SearchController(
            run.config,
            ledger,
            clock=run.clock,
            trials_per_worker=run.config.resources.trials_per_worker,
        )

    # Replaying the ledger may append the ends of trials, which the budget event has to follow.
    controller = make()
    event = budget_event(run.config, ledger, controller.state, changes, run.clock())
    if event is None:
        return controller
    if extension := describe_extension(run.config, controller.state, event):
        run.view.message(extension)
    ledger.append(event)
    return make()
