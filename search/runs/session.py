"""Preparation that all runs of an experiment share: config, cluster and data.

What a resume or an evaluation rejects is defined here: overrides of keys that a later run cannot
change (`config_for_run`), and changed data (`check_same_data`). The changes of the budget that a
resume rejects are in `celltune.search.tuning.budget_changes`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celltune.data_prep.io.native_build import available_cpus
from celltune.search.cluster.shared_ray import SHARED, describe_connection
from celltune.search.config.given import check_given
from celltune.search.config.gpu_shares import check_gpu_share
from celltune.search.config.loading import anchored, parse_config, resolve
from celltune.search.config.overrides import check_changeable, key_of
from celltune.search.config.rules import (
    check_class_weights,
    check_schedule,
    check_vector_size,
)
from celltune.search.config.schema import Resources, SearchConfig
from celltune.search.errors import ConfigError, ExperimentError
from celltune.search.ledger.state import ExperimentState
from celltune.search.objective import check_classes
from celltune.search.runs.held_context import entered, entered_by_thread
from celltune.search.runs.stop_requests import interrupts_deferred
from celltune.search.runs.view import View
from celltune.search.storage.base import Experiment, Storage
from celltune.search.tracking.trackers import check_installed
from celltune.search.tuning.packing import check_sampler
from celltune.search.types import ParameterValue

if TYPE_CHECKING:
    from celltune.data_prep.dataset.tensorized import PreparedData
    from celltune.search.cluster.gpu_checks import GpuNode


def resolve_for_run(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    name: str | None = None,
    *,
    view: View,
) -> SearchConfig:
    """Resolve a config, check what its own models do not, and infer what it does not say of data.

    Args:
        config: a config, its plain values, or the path of a YAML file.
        overrides: config values as `key.path=value`.
        name: the experiment's name, instead of the one in the config.
        view: shows what was inferred.

    Raises:
        ConfigError: the config is invalid or contradicts itself, a tracker's library is missing, or
            the sampler cannot propose the packed trials that the config requests.
        DataError: the data is invalid, or does not tell what the config omits.
    """
    return with_inferred_data(checked_config(config, overrides, name), view)


def with_inferred_data(config: SearchConfig, view: View) -> SearchConfig:
    """Return a config whose section `data` is complete, and show what was inferred.

    Raises:
        DataError: the data is invalid, or does not tell what the config omits.
        ConfigError: the objective is not meant for the classes of the data.
    """
    from celltune.data_prep.inference.infer import infer

    inferred = infer(config.data, progress=view.progress)
    for line in (*inferred.lines(), *inferred.warnings):
        view.message(line)
    completed = config.model_copy(update={"data": inferred.config})
    _check_known_classes(completed)
    return completed


def checked_config(
    config: SearchConfig | Mapping[str, Any] | Path | str,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> SearchConfig:
    """Resolve a config and check what its own models do not: libraries, packs and rules.

    Raises:
        ConfigError: as for `resolve_for_run`.
    """
    resolved = resolve(config, overrides, name)
    check_given(resolved)
    # Not part of the config's models, so that experiments of earlier releases stay readable.
    vectors = resolved.data.vectors
    try:
        if vectors is not None and vectors.dimensions is not None:
            check_vector_size(resolved.space, resolved.first_trials, vectors.dimensions)
        check_schedule(resolved.space, resolved.first_trials)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _check_known_classes(resolved)
    return _checked(resolved)


def _check_known_classes(config: SearchConfig) -> None:
    """Check the objective if the config contains the classes, which some sources define.

    Raises:
        ConfigError: see `check_classes_of`.
    """
    if config.data.classes is None:
        return
    try:
        check_classes_of(config, config.data.classes)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_classes_of(config: SearchConfig, classes: Sequence[str]) -> None:
    """Check that the objective of a config is meant for the classes of its data.

    Raises:
        ValueError: a metric needs another number of classes, or class weights are those of others.
    """
    check_classes(config.metric, len(classes))
    if config.early_stopping is not None:
        check_classes(config.early_stopping.by, len(classes), "early_stopping.by")
    if config.threshold is not None and len(classes) != 2:
        raise ValueError(
            f"threshold is {config.threshold}, but the data has {len(classes)} classes. A "
            "threshold decides between two. Remove it."
        )
    check_class_weights(config.space, config.first_trials, classes)


def config_for_run(experiment: Experiment, overrides: Sequence[str]) -> SearchConfig:
    """Return an experiment's config with the overrides of a resume or an evaluation.

    Raises:
        ConfigError: an override is invalid, or sets a key that a later run cannot change.
    """
    config = experiment.config(restore=True)
    for override in overrides:
        check_changeable(override)
    if not overrides:
        return config
    plain = config.model_dump(mode="json")
    changed = parse_config(plain, origin=f"'{experiment.name}'", overrides=overrides)
    check_given(changed, [key_of(override) for override in overrides])
    return _checked(anchored(changed))


def _checked(config: SearchConfig) -> SearchConfig:
    check_installed(config.tracking)
    check_gpu_share(config.resources.gpus_per_trial)
    check_sampler(config)
    return config


@dataclass(frozen=True)
class Cluster:
    """A connected cluster."""

    slots: int
    """Number of workers that can run at the same time."""
    is_own: bool
    """Whether this process started it, so that it ends with the process."""


class StartingCluster:
    """A cluster that a thread connects to, while the caller prepares what does not need it."""

    def __init__(self, cluster: Future[Cluster], view: View) -> None:
        self._cluster = cluster
        self._view = view

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Show the progress of the preparation, which ends early if the cluster cannot be used.

        Raises:
            ResourceError, ExperimentError: see `starting_cluster`.
        """
        if self._cluster.done():
            self._cluster.result()
        self._view.progress(stage, done, total)

    def ready(self) -> Cluster:
        """Wait until the cluster is connected and can run workers.

        Raises:
            ResourceError, ExperimentError: see `starting_cluster`.
        """
        if not self._cluster.done():
            self._view.stage("Waiting for Ray")
        return self._cluster.result()


@contextmanager
def starting_cluster(
    resources: Resources,
    storage: Storage,
    address: str | None,
    view: View,
    *,
    trials_per_worker: int = 1,
    workers: int = 0,
) -> Iterator[StartingCluster]:
    """Connect to a cluster and check that trials can run there, beside what the caller does.

    Args:
        resources: resources of the trials.
        storage: storage that every node has to reach.
        address: address of a running Ray cluster; `None` starts a local one.
        view: shows the progress.
        trials_per_worker: number of trials that a worker trains at the same time.
        workers: number of workers that will train, at most. If that are most processes of a local
            cluster, all of them import what training needs when they start.

    Raises:
        ResourceError: no cluster answers, no node can run a worker, a node cannot use the storage,
            or trials need a GPU and the torch of a local cluster has no CUDA.
        ExperimentError: the storage cannot be written.
    """
    if address is None and resources.gpus_per_trial > 0:
        with interrupts_deferred():
            from celltune.search.cluster.gpu_checks import check_own_torch

        check_own_torch(resources)
    view.stage(describe_connection(address))
    many = workers * resources.cpus_per_trial >= available_cpus() / 2
    preloaded = ["celltune.search.runs.preload"] if many else []
    cluster = _cluster(resources, storage, address, trials_per_worker, preloaded)
    # A cluster that remains for the next search must not end with a thread of this one. Connecting
    # to a cluster that runs takes no time, and a wrong address is an error at once.
    enter = entered if address is not None or SHARED.wanted else entered_by_thread
    with enter(cluster) as future:
        yield StartingCluster(future, view)


@contextmanager
def _cluster(
    resources: Resources,
    storage: Storage,
    address: str | None,
    trials_per_worker: int,
    preloaded: Sequence[str],
) -> Iterator[Cluster]:
    with interrupts_deferred():
        from celltune.search.cluster.connection import connected, trial_slots
        from celltune.search.cluster.storage_check import check_storage_shared

    with connected(address, preloaded) as is_own:
        slots = trial_slots(resources, trials_per_worker)
        check_storage_shared(storage)
        yield Cluster(slots, is_own)


@contextmanager
def connected_cluster(
    resources: Resources, storage: Storage, address: str | None, view: View
) -> Iterator[int]:
    """Connect to a cluster as `starting_cluster` does, and wait for it.

    Yields:
        The number of workers that can run at the same time.
    """
    with starting_cluster(resources, storage, address, view) as starting:
        yield starting.ready().slots


def usable_gpus(
    resources: Resources, precisions: Collection[ParameterValue], view: View
) -> list[GpuNode]:
    """Check that the GPUs of the connected cluster can train; return the nodes that have them.

    If trials do not use the GPUs of the cluster, the view says so.

    Args:
        resources: resources of one trial.
        precisions: all values that space.precision may have.
        view: shows the progress.

    Raises:
        ResourceError: torch cannot use the GPUs of a node, or they lack a precision.
    """
    from celltune.search.cluster.gpu_checks import check_devices, find_gpu_nodes, unused_gpus

    if message := unused_gpus(resources):
        view.message(message)
    if resources.gpus_per_trial == 0 and set(precisions) - {"float32"}:
        view.message(
            "Trials run on the CPU, which computes in float32, so space.precision has no effect."
        )
    if resources.gpus_per_trial > 0:
        view.stage("Checking the GPUs of the cluster")
    nodes = find_gpu_nodes(resources)
    check_devices(nodes, resources, [str(value) for value in precisions])
    return nodes


def check_same_data(experiment: Experiment, state: ExperimentState, data: PreparedData) -> None:
    """Check that an experiment continues with the data that it was launched with.

    Raises:
        ExperimentError: the data is different.
    """
    recorded = state.created.fingerprint if state.created else ""
    if recorded != data.fingerprint:
        vectors = experiment.config().data.vectors
        learned = vectors is not None and vectors.train is not None
        gensim = " Word vectors that an earlier release learned with gensim are such a change."
        raise ExperimentError(
            f"The data of the experiment '{experiment.name}' has changed: the experiment was "
            f"launched with fingerprint {recorded[:12]}, and the data now has "
            f"{data.fingerprint[:12]}. Metrics from different data cannot be compared."
            f"{gensim if learned else ''} Restore the original data, or launch a new experiment."
        )
