"""What tests of more than one package share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One small Ray for all tests that need one: starting it takes seconds."""
    import ray

    from tests.search.object_store import KEYS

    os.environ.update(KEYS)  # Workers have the environment in which Ray was started.
    ray.init(
        # Else a cluster that happens to run on this machine would be joined.
        address="local",
        num_cpus=2,
        include_dashboard=False,
        namespace="celltune",
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The address of one server that speaks S3, for all tests that need one."""
    from tests.search.object_store import serving

    with serving() as address:
        yield address


@pytest.fixture
def bucket(object_store: str) -> str:
    """The URI of a storage in a bucket of its own."""
    from uuid import uuid4

    from tests.search.object_store import make_bucket

    return make_bucket(object_store, f"b{uuid4().hex[:20]}")
