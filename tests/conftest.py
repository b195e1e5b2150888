"""What tests of more than one package share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One small Ray for all tests that need one: starting it takes seconds."""
    import ray

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
