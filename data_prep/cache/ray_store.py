"""Prepared data in a Ray cluster: one copy per node, opened without copying.

The driver acquires the data, which publishes it in Ray's object store if necessary. Trials get a
handle of a few bytes and open views into the object store of their node.

An object dies with the process that owns it. The owner is therefore a detached actor, `DataCache`,
so that published data outlives the search that published it and other searches can use it. Only in
a cluster that ends with the driver, the driver is the owner (`owned`).
Outside of `ray_internals`, this is the only module of data_prep that imports Ray.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from celltune.data_prep.cache import ray_internals
from celltune.data_prep.cache.eviction import LruTracker
from celltune.data_prep.cache.inventory import match_fingerprint
from celltune.data_prep.dataset.packed_words import PackedWords
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError, DataLostError

ACTOR_NAME = "celltune-data-cache-2"
"""The number changes with the actor's methods, because the actor of an older release may still run
in a cluster."""
NAMESPACE = "celltune"
ACTOR_SECONDS, RETRY_SECONDS = 60.0, 0.2
"""How long the actor may be unavailable, for example after a node died, and the time between two
attempts to reach it."""


@dataclass(frozen=True)
class DataHandle:
    """Reference to published data, small enough to be sent with every trial."""

    fingerprint: str
    reference: tuple[Any, ...] = ()
    """Ray's reference, if the process that published the data owns it (see `owned`); otherwise
    empty, and `DataCache` has it. Ray would replace a reference that is not in a tuple with the
    data."""


@dataclass(frozen=True)
class PublishedDataset:
    """A data set in the cluster.

    Attributes:
        fingerprint: identifies the data.
        documents: number of documents in the training and validation split.
        nbytes: size of the arrays, on each node that opened them.
        users: number of running searches that have acquired it.
    """

    fingerprint: str
    documents: int
    nbytes: int
    users: int = 0


class DataCache:
    """Actor that owns the published data of a cluster.

    An actor processes one call at a time, so it needs no locks.
    """

    def __init__(self) -> None:
        self._references: dict[str, Any] = {}
        self._datasets: dict[str, PublishedDataset] = {}
        self._tracker = LruTracker(lambda job: not ray_internals.job_has_ended(job))

    def publish(self, data: PreparedData, limit: int | None = None) -> None:
        """Put data into Ray's object store; does nothing if it is there.

        Args:
            data: the data.
            limit: maximum size of all data in bytes. The least recently used data that no search
                has acquired is dropped.

        Raises:
            DataError: the data in use leaves too little room.
        """
        name = data.fingerprint
        if name not in self._references:
            self._forget(self._tracker.make_room(data.nbytes, limit))
            self._references[name] = _put(data)
            self._tracker.add(name, data.nbytes)
            documents = len(data.train) + len(data.valid)
            self._datasets[name] = PublishedDataset(name, documents, data.nbytes)

    def acquire(self, fingerprint: str, job: str) -> bool:
        """Protect data from being dropped while a job runs; return False if it is missing."""
        if fingerprint in self._references:
            self._tracker.acquire(fingerprint, job)
        return fingerprint in self._references

    def release(self, fingerprint: str, job: str) -> None:
        """Release what one call of `acquire` acquired."""
        self._tracker.release(fingerprint, job)

    def clear(self, fingerprints: Collection[str] | None = None) -> list[str]:
        """Drop all unused data, or the given fingerprints among it; return the dropped ones."""
        dropped = self._tracker.evict_unused(fingerprints)
        self._forget(dropped)
        return dropped

    def _forget(self, fingerprints: list[str]) -> None:
        for name in fingerprints:
            del self._references[name], self._datasets[name]

    def reference(self, fingerprint: str) -> list[Any]:
        """Return the data's object reference in a list, or an empty list if it is missing.

        Ray would replace a reference that is not in a list with the data.
        """
        if fingerprint not in self._references:
            return []
        self._tracker.touch(fingerprint)
        return [self._references[fingerprint]]

    def datasets(self) -> list[PublishedDataset]:
        """Return all published data sets in the order of publication."""
        return [
            replace(dataset, users=self._tracker.users(name))
            for name, dataset in self._datasets.items()
        ]


@contextmanager
def acquired(data: PreparedData, *, limit: int | None = None) -> Iterator[DataHandle]:
    """Acquire data for the duration of the context; see `acquire`.

    Raises:
        DataError: see `acquire`.
    """
    acquire(data, limit=limit)
    try:
        yield DataHandle(data.fingerprint)
    finally:
        release(data.fingerprint)


@contextmanager
def owned(data: PreparedData, *, limit: int | None = None) -> Iterator[DataHandle]:
    """Publish data for the duration of the context, in a cluster that ends with this process.

    No other search can use the cluster, so that this process can own the data. The actor would take
    a process of its own, whose start delays the first trials.

    Raises:
        DataError: Ray is not connected, its object store is full, or the data exceeds the limit.
    """
    _check_connected()
    LruTracker(lambda job: False).make_room(data.nbytes, limit)  # noqa: ARG005 (no other job)
    try:
        reference = _put(replace(data, wide=None))
    except ray.exceptions.RayError as error:
        raise _store_full(data, error) from error
    yield DataHandle(data.fingerprint, (reference,))


def acquire(data: PreparedData, *, limit: int | None = None) -> None:
    """Publish data if the cluster does not have it, and protect it from being dropped.

    The protection ends with `release` or with the Ray job of this process.

    Args:
        data: the data.
        limit: maximum size of all published data in bytes; None for no limit.

    Raises:
        DataError: Ray is not connected, its object store is full, the data in use leaves too little
            room below the limit, or the actor that keeps the data was unavailable for too long.
    """
    _check_connected()
    data = replace(data, wide=None)
    job, deadline = ray.get_runtime_context().get_job_id(), time.monotonic() + ACTOR_SECONDS
    while True:
        try:
            actor = _get_or_create_actor()
            # Another search can drop the data between the two calls; then it is published again.
            while not ray.get(actor.acquire.remote(data.fingerprint, job)):
                _publish(actor, data, limit)
        except ray.exceptions.RayActorError as error:
            # The node of the actor died: Ray starts the actor on another one.
            if time.monotonic() > deadline:
                raise DataError(
                    "The prepared data cannot be shared in the Ray cluster: the actor that keeps "
                    f"it was unavailable for {ACTOR_SECONDS:g} s ({type(error).__name__}). Check "
                    "with 'ray status' that the nodes of the cluster are alive, then try again."
                ) from error
            time.sleep(RETRY_SECONDS)
        else:
            return


def release(fingerprint: str) -> None:
    """Release data that this process acquired."""
    job = ray.get_runtime_context().get_job_id()
    _get_or_create_actor().release.remote(fingerprint, job)


def clear(fingerprints: Collection[str] | None = None) -> list[str]:
    """Drop published data that no search uses, and return their fingerprints.

    Args:
        fingerprints: fingerprints or unique beginnings of fingerprints; None for all.

    Raises:
        DataError: Ray is not connected, or a fingerprint matches no data set or several.
    """
    selected = None
    if fingerprints is not None:
        existing = [dataset.fingerprint for dataset in published_datasets()]
        selected = [match_fingerprint(text, existing, "the cluster") for text in fingerprints]
    _check_connected()
    actor = _find_actor()
    return ray.get(actor.clear.remote(selected)) if actor else []


def open_handle(handle: DataHandle) -> PreparedData:
    """Return published data; the arrays are read-only views into the node's object store.

    A process keeps the data that it opened last, so the next trial in a worker opens it at once.

    Raises:
        DataError: Ray is not connected.
        DataLostError: the data was not published or was lost with a node.
    """
    _check_connected()
    key = (ray.get_runtime_context().get_node_id(), handle.fingerprint)
    if _last.data is None or _last.key != key:
        # Ray cannot evict an object that a process still refers to, so drop the old data first.
        _last.data = None
        _last.data, _last.key = _fetch(handle), key
    return _last.data


def published_datasets() -> list[PublishedDataset]:
    """Return the data sets in the cluster.

    Raises:
        DataError: Ray is not connected.
    """
    _check_connected()
    actor = _find_actor()
    return ray.get(actor.datasets.remote()) if actor else []


class _Last:
    """The data that this process opened last; the key is (node, fingerprint)."""

    def __init__(self) -> None:
        self.key: tuple[str, str] | None = None
        self.data: PreparedData | None = None


_last = _Last()


def _put(data: PreparedData) -> Any:
    """Put data into Ray's object store; the calling process owns it."""
    return ray.put(replace(data, words=PackedWords.of(data.words)))


def _fetch(handle: DataHandle) -> PreparedData:
    try:
        references = handle.reference or _published_references(handle)
        if references:
            data: PreparedData = ray.get(references[0])
            return data
    except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
        raise _lost(handle) from error
    raise _lost(handle)


def _published_references(handle: DataHandle) -> Sequence[Any]:
    actor = _find_actor()
    return ray.get(actor.reference.remote(handle.fingerprint)) if actor else ()


def _lost(handle: DataHandle) -> DataLostError:
    return DataLostError(
        f"The prepared data {handle.fingerprint} is not in the cluster. Publish it again."
    )


def _get_or_create_actor() -> Any:
    return (
        ray.remote(num_cpus=0)(DataCache)
        .options(
            name=ACTOR_NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            # A search does not survive the loss of the driver's node, so put the actor there.
            scheduling_strategy=NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=True
            ),
        )
        .remote()
    )


def _find_actor() -> Any:
    try:
        return ray.get_actor(ACTOR_NAME, namespace=NAMESPACE)
    except ValueError:
        return None


def _publish(actor: Any, data: PreparedData, limit: int | None) -> None:
    try:
        ray.get(actor.publish.remote(data, limit))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DataError):
            raise error.cause from error
        raise _store_full(data, error) from error
    except ray.exceptions.RayError as error:
        raise _store_full(data, error) from error


def _store_full(data: PreparedData, error: Exception) -> DataError:
    return DataError(
        f"The prepared data of {data.nbytes:,} bytes cannot be put into Ray's object store "
        f"({error}). Give Ray more object store memory, or lower data.train_size or "
        f"data.max_tokens."
    )


def _check_connected() -> None:
    if not ray.is_initialized():
        raise DataError(
            "Ray is not connected to a cluster, so data cannot be shared. Call ray.init first."
        )
