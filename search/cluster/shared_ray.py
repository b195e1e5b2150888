"""The local Ray cluster that the searches of one Python session share.

Starting Ray takes seconds. A command starts it once and ends, but in a notebook one search follows
another. This module imports no Ray, so that a session can ask for sharing before it needs Ray.
"""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass

from celltune.search.uris import without_secrets


@dataclass
class SharedRay:
    """What is known about the shared cluster of this process."""

    wanted: bool = False
    """Whether a cluster that is started from now on remains for the next search."""
    cluster: str | None = None
    """Identifies the running cluster and its connection; None if there is none."""
    environment: dict[str, str] | None = None
    """The environment variables that its workers inherited."""

    def keep(self, cluster: str) -> None:
        """Record the connection that remains open."""
        if self.cluster != cluster:
            self.cluster, self.environment = cluster, dict(os.environ)
            # Handlers run in reverse order: this one before Ray's own, which waits half a second.
            atexit.unregister(stop_shared_ray)
            atexit.register(stop_shared_ray)

    def forget(self) -> None:
        """Record that the connection is closed."""
        self.cluster = self.environment = None

    def has_current_environment(self) -> bool:
        """Return whether workers that start now get the environment of this process.

        They inherit the environment in which the cluster was started, such as the credentials of an
        object store.
        """
        return self.environment == dict(os.environ)


SHARED = SharedRay()


def describe_connection(address: str | None) -> str:
    """Return which cluster a run with this address uses, as the name of a stage."""
    # Ray may not be imported yet, which takes time; then the process has no connection.
    ray = sys.modules.get("ray")
    is_connected = ray is not None and ray.is_initialized()
    if is_connected and SHARED.cluster is None:
        return "Using the Ray cluster to which this process is connected"
    if address:
        # An invalid address, which may contain a password, is rejected later.
        return f"Connecting to the Ray cluster at {without_secrets(address).rpartition('@')[2]}"
    if is_connected and SHARED.has_current_environment():
        return "Using the local Ray cluster of the previous search"
    return "Starting a local Ray cluster"


def share_local_ray() -> None:
    """Let a local cluster that this process starts remain for its next search."""
    SHARED.wanted = True


def stop_shared_ray() -> None:
    """Stop the local cluster that earlier searches of this process left running, if there is one.

    Raises:
        ResourceError: another thread is using it.
    """
    if SHARED.cluster is not None:
        from celltune.search.cluster.connection import stop_shared

        stop_shared()
