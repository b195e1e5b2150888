"""Prepared data in a Ray cluster: one copy a node, opened without copying.

The driver publishes once, a handle of a few bytes goes to the trials, and a trial opens views into
the node's object store. The DataCache actor is detached and owns the objects, so they outlive the
search that published them: an object dies with its owner. The only module of data_prep that
imports Ray.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from celltune.data_prep.cache.eviction import LruTracker
from celltune.data_prep.cache.inventory import match_fingerprint
from celltune.data_prep.dataset.packed_words import PackedWords
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.errors import DataError, DataLostError

ACTOR_NAME = "celltune-data-cache"
NAMESPACE = "celltune"


@dataclass(frozen=True)
class DataHandle:
    """Names published data; small, so it can travel with every trial."""

    fingerprint: str


@dataclass(frozen=True)
class DataStat:
    """What the cluster holds of one data set.

    Attributes:
        fingerprint: names the data.
        reviews: how many, of both parts.
        nbytes: what the arrays take in the object store of each node that opened them.
        users: how many running searches hold it.
    """

    fingerprint: str
    reviews: int
    nbytes: int
    users: int = 0


class DataCache:
    """Owns the published data of a cluster; runs as one detached actor.

    An actor takes one call at a time, so nothing here needs a lock.
    """

    def __init__(self) -> None:
        """Starts with nothing."""
        self._refs: dict[str, Any] = {}
        self._stats: dict[str, DataStat] = {}
        self._shelf = LruTracker(_job_lives)

    def publish(self, prepared: PreparedData, ceiling: int | None = None) -> None:
        """Keeps the data; a second time is no error and changes nothing.

        Args:
            prepared: the data.
            ceiling: bytes that all data together may take; what was least recently used and
                nobody holds is dropped first.

        Raises:
            DataError: what is held leaves too little room.
        """
        name = prepared.fingerprint
        if name not in self._refs:
            self._forget(self._shelf.make_room(prepared.nbytes, ceiling))
            # Put by the actor: only then does the actor own it.
            self._refs[name] = ray.put(replace(prepared, words=PackedWords.of(prepared.words)))
            self._shelf.put(name, prepared.nbytes)
            reviews = len(prepared.train) + len(prepared.valid)
            self._stats[name] = DataStat(name, reviews, prepared.nbytes)

    def hold(self, fingerprint: str, job: str) -> bool:
        """Keeps data from being dropped while a job lives and needs them; False: not here."""
        if fingerprint in self._refs:
            self._shelf.hold(fingerprint, job)
        return fingerprint in self._refs

    def let_go(self, fingerprint: str, job: str) -> None:
        """Takes one `hold` back."""
        self._shelf.let_go(fingerprint, job)

    def clear(self, names: Collection[str] | None = None) -> list[str]:
        """Drops data that nobody holds, all or of these fingerprints, and names them."""
        gone = self._shelf.clear(names)
        self._forget(gone)
        return gone

    def _forget(self, names: list[str]) -> None:
        for name in names:
            del self._refs[name], self._stats[name]

    def contains(self, fingerprint: str) -> bool:
        """Whether the data are here."""
        return fingerprint in self._refs

    def reference(self, fingerprint: str) -> list[Any]:
        """The data's object reference in a list (else Ray would send the data), or no item."""
        if fingerprint not in self._refs:
            return []
        self._shelf.use(fingerprint)
        return [self._refs[fingerprint]]

    def stat(self) -> list[DataStat]:
        """What is here, in the order it came."""
        return [replace(stat, users=self._shelf.users(n)) for n, stat in self._stats.items()]


def publish(prepared: PreparedData, *, ceiling: int | None = None) -> DataHandle:
    """Puts the data into the cluster's object store, unless they are there.

    Args:
        prepared: the data.
        ceiling: bytes that all published data together may take; None: there is none.

    Raises:
        DataError: no cluster is joined, its object store has no room, or what searches use leaves
            too little room under the ceiling.
    """
    _check_joined()
    actor = _made_actor()
    if not ray.get(actor.contains.remote(prepared.fingerprint)):
        _publish(actor, prepared, ceiling)
    return DataHandle(prepared.fingerprint)


@contextmanager
def published(prepared: PreparedData, *, ceiling: int | None = None) -> Iterator[DataHandle]:
    """Publishes data and keeps them from being dropped, until the end or the job's death.

    Raises:
        DataError: as `publish`.
    """
    hold(prepared, ceiling=ceiling)
    try:
        yield DataHandle(prepared.fingerprint)
    finally:
        _made_actor().let_go.remote(prepared.fingerprint, ray.get_runtime_context().get_job_id())


def hold(prepared: PreparedData, *, ceiling: int | None = None) -> None:
    """Publishes data, also when they were lost, and keeps them from being dropped.

    Raises:
        DataError: as `publish`.
    """
    _check_joined()
    actor, job = _made_actor(), ray.get_runtime_context().get_job_id()
    # Another search may drop them between publishing and holding; then they are put once more.
    while not ray.get(actor.hold.remote(prepared.fingerprint, job)):
        _publish(actor, prepared, ceiling)


def clear(names: Collection[str] | None = None) -> list[str]:
    """Drops published data that no search holds, and gives their fingerprints.

    Args:
        names: fingerprints, or beginnings of them; None: all.

    Raises:
        DataError: no cluster is joined, or a name that no set has or several have.
    """
    _check_joined()
    known = [each.fingerprint for each in stat()]
    chosen = (
        None if names is None else [match_fingerprint(name, known, "the cluster") for name in names]
    )
    actor = _actor()
    return ray.get(actor.clear.remote(chosen)) if actor else []


def open_handle(handle: DataHandle) -> PreparedData:
    """The published data; the arrays are read-only views into the node's object store.

    A process remembers what it opened last, so the next trial in a reused worker opens at once.

    Raises:
        DataError: no cluster is joined.
        DataLostError: the data aren't in it, or not any more.
    """
    _check_joined()
    key = (ray.get_runtime_context().get_node_id(), handle.fingerprint)
    if _last.data is None or _last.key != key:
        # Let go of the old data first: the store can't drop what a process still looks at.
        _last.data = None
        _last.data, _last.key = _fetch(handle), key
    return _last.data


def stat() -> list[DataStat]:
    """What the cluster holds; nothing if nothing was ever published.

    Raises:
        DataError: no cluster is joined.
    """
    _check_joined()
    actor = _actor()
    return ray.get(actor.stat.remote()) if actor else []


class _Last:
    """The data that this process opened last, and where."""

    def __init__(self) -> None:
        self.key: tuple[str, str] | None = None
        self.data: PreparedData | None = None


_last = _Last()


def _fetch(handle: DataHandle) -> PreparedData:
    actor = _actor()
    try:
        found = ray.get(actor.reference.remote(handle.fingerprint)) if actor else []
        if found:
            prepared: PreparedData = ray.get(found[0])
            return prepared
    except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
        raise _lost(handle) from error
    raise _lost(handle)


def _lost(handle: DataHandle) -> DataLostError:
    return DataLostError(
        f"the prepared data {handle.fingerprint} aren't in this cluster; publish them first"
    )


def _made_actor() -> Any:
    return (
        ray.remote(num_cpus=0)(DataCache)
        .options(
            name=ACTOR_NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            # With the driver, whose node a search can't outlive anyway.
            scheduling_strategy=NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=True
            ),
        )
        .remote()
    )


def _publish(actor: Any, prepared: PreparedData, ceiling: int | None) -> None:
    try:
        ray.get(actor.publish.remote(prepared, ceiling))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DataError):
            raise error.cause from error
        raise _no_room(prepared, error) from error
    except ray.exceptions.RayError as error:
        raise _no_room(prepared, error) from error


def _no_room(prepared: PreparedData, error: Exception) -> DataError:
    return DataError(
        f"{prepared.nbytes:,} bytes of prepared data can't be put into the cluster's "
        f"object store ({error}); give Ray more object store memory, or lower "
        f"data.train_size or data.max_tokens"
    )


def _job_lives(job: str) -> bool:
    # Ray tells the end of a job by this table alone, without a dashboard. A job that it doesn't
    # list is taken for alive: rather too much memory than data dropped under a search.
    return not any(each["JobID"] == job and each["IsDead"] for each in ray._private.state.jobs())


def _actor() -> Any:
    try:
        return ray.get_actor(ACTOR_NAME, namespace=NAMESPACE)
    except ValueError:
        return None


def _check_joined() -> None:
    if not ray.is_initialized():
        raise DataError("no Ray cluster is joined, so no data can be shared; call ray.init first")
