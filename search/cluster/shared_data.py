"""Prepared data in the memory of a cluster, for users who look at it or free it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from celltune.data_prep.cache import ray_store
from celltune.data_prep.cache.ray_store import PublishedDataset
from celltune.search.cluster.connection import connected


@dataclass(frozen=True)
class ClearedData:
    """Result of `clear_shared_data`: fingerprints of data sets."""

    removed: list[str]
    in_use: list[str]
    """Data sets that running searches use; they are not removed."""


def list_shared_data(address: str) -> list[PublishedDataset]:
    """Return the data sets in the memory of the cluster at `address`.

    Raises:
        ResourceError: no cluster answers at the address.
    """
    with connected(address):
        return ray_store.published_datasets()


def clear_shared_data(address: str, fingerprints: Collection[str] | None = None) -> ClearedData:
    """Remove data sets that no running search uses from the memory of the cluster at `address`.

    Args:
        address: `auto` or host:port.
        fingerprints: beginnings of the data sets' fingerprints; `None` for all data sets.

    Raises:
        ResourceError: no cluster answers at the address.
        DataError: a fingerprint matches no data set, or several.
    """
    with connected(address):
        removed = ray_store.clear(fingerprints)
        in_use = [
            dataset.fingerprint for dataset in ray_store.published_datasets() if dataset.users
        ]
    return ClearedData(removed, in_use)
