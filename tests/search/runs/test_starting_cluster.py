"""A cluster that starts while the data is prepared."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import ray

from celltune.search.cluster.shared_ray import SHARED
from celltune.search.config.schema import Resources
from celltune.search.errors import ResourceError
from celltune.search.runs import session
from celltune.search.runs.session import Cluster, StartingCluster, starting_cluster
from celltune.search.runs.view import SilentView


class Recorded(SilentView):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, stage: str, done: int, total: int | None) -> None:
        self.lines.append(f"{stage} {done}")


def starting(view: SilentView, address: str | None = None) -> Any:
    return starting_cluster(Resources(), cast("Any", None), address, view, workers=2)


class Start(threading.Event):
    """Lets the cluster start, or fail."""

    error: Exception | None = None
    preloaded: list[str]
    thread: int

    def fail(self, error: Exception) -> None:
        self.error = error
        self.set()


@pytest.fixture(autouse=True)
def _not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    event = Start()

    @contextmanager
    def cluster(*arguments: Any) -> Iterator[Cluster]:
        *_, event.preloaded = arguments
        event.thread = threading.get_ident()
        event.wait(30)
        if event.error is not None:
            raise event.error
        yield Cluster(3, is_own=True)

    monkeypatch.setattr(session, "_cluster", cluster)
    return event


def test_data_is_prepared_while_a_local_cluster_starts(start: Start) -> None:
    view = Recorded()
    with starting(view) as cluster:
        cluster.progress("read", 1, None)
        threading.Timer(0.01, start.set).start()
        assert cluster.ready() == Cluster(3, is_own=True)
        cluster.progress("read", 2, None)
    assert start.thread != threading.get_ident()
    expected = ["Starting a local Ray cluster", "read 1", "Waiting for Ray", "read 2"]
    assert view.lines == expected


def test_the_preparation_ends_when_the_cluster_cannot_start(start: Start) -> None:
    start.fail(ResourceError("no memory"))
    with starting(SilentView()) as cluster, pytest.raises(ResourceError, match="no memory"):
        prepared(cluster)


def prepared(cluster: StartingCluster) -> None:
    for done in itertools.count():
        cluster.progress("read", done, None)


def test_a_given_cluster_is_connected_before_anything_else(start: Start) -> None:
    start.fail(ResourceError("no such cluster"))
    view = Recorded()
    with pytest.raises(ResourceError, match="no such cluster"), starting(view, "a@head:1"):
        view.lines.append("not reached")
    assert view.lines == ["Connecting to the Ray cluster at head:1"]


def test_a_cluster_that_remains_is_started_by_the_thread_of_the_caller(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SHARED, "wanted", True)
    start.set()
    view = Recorded()
    with starting(view) as cluster:
        cluster.ready()
    assert start.thread == threading.get_ident()
    assert view.lines == ["Starting a local Ray cluster"]


@pytest.mark.parametrize(("cpus", "preloaded"), [(4, ["celltune.search.runs.preload"]), (5, [])])
def test_processes_import_what_training_needs_if_most_of_them_will_train(
    cpus: int, preloaded: list[str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "available_cpus", lambda: cpus)
    start.set()
    with starting(SilentView()) as cluster:
        cluster.ready()
    assert start.preloaded == preloaded
