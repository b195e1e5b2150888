"""Fixtures that tests of several packages share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Let commands under test receive Ctrl-C, and Ray's workers have the priority of the tests."""
    # A shell makes the commands that it starts in the background ignore it, and their children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Ray gives workers a low priority. The tests of the other process would take their time.
    os.environ.setdefault("RAY_worker_niceness", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that need Ray in one process, and skip those that need a missing GPU."""
    for item in items:
        if "local_ray" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))
    marked = [item for item in items if item.get_closest_marker("gpu") is not None]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        reason = f"needs a CUDA device, which torch {torch.__version__} does not find"
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A local Ray cluster that all tests share, because starting one takes seconds.

    As in a cluster that celltune starts, its workers inherit the environment of this process.
    """
    import ray

    from celltune.search.cluster.ray_internals import (
        few_processes,
        inherited_environment,
        worker_environment,
    )
    from tests.search.s3_server import KEYS

    os.environ.update(KEYS)
    with few_processes(), worker_environment():
        ray.init(
            # Otherwise Ray connects to a cluster that already runs on this machine.
            address="local",
            num_cpus=2,
            include_dashboard=False,
            namespace="celltune",
            log_to_driver=False,
        )
    with inherited_environment():
        yield
    ray.shutdown()


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The address of an S3 server that all tests share."""
    from tests.search.s3_server import serving

    with serving() as address:
        yield address


@pytest.fixture
def bucket(object_store: str) -> str:
    """The URI of a storage in a new bucket."""
    from uuid import uuid4

    from tests.search.s3_server import make_bucket

    return make_bucket(object_store, f"b{uuid4().hex[:20]}")
