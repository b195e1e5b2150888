"""Find experiments by name in a storage."""

from __future__ import annotations

from pathlib import Path

from celltune.search.config.schema import NAME
from celltune.search.errors import ExperimentError
from celltune.search.storage.base import (
    CONFIG,
    ExperimentFolder,
    StorageRoot,
    unreadable,
)
from celltune.search.storage.object_path import ObjectPath
from celltune.spelling import closest_match


def experiment_at(name: str, storage: StorageRoot) -> ExperimentFolder:
    """Give the place of an experiment; it need not exist."""
    if isinstance(storage, Path):
        from celltune.search.storage.local import LocalExperiment

        return LocalExperiment(storage / name)
    from celltune.search.storage.object_store import ObjectStoreExperiment

    return ObjectStoreExperiment(storage, name)


def reserve_name(name: str, storage: StorageRoot) -> ExperimentFolder:
    """Check that an experiment of this name can be created; nothing is written.

    Raises:
        ExperimentError: the name is no name, or is taken, or the storage can't be read.
    """
    if not NAME.fullmatch(name):
        raise ExperimentError(
            f"'{name}' can't name an experiment: use up to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit."
        )
    folder = experiment_at(name, storage)
    if folder.exists():
        raise folder.taken()
    return folder


def experiment_names(storage: StorageRoot) -> list[str]:
    """Give the names of the experiments in a storage, in order.

    Raises:
        ExperimentError: the storage can't be read.
    """
    try:
        found = _local_names(storage) if isinstance(storage, Path) else _remote_names(storage)
    except OSError as error:
        raise unreadable(storage, error) from error
    return sorted(name for name in found if NAME.fullmatch(name))


def _local_names(storage: Path) -> list[str]:
    if storage.exists() and not storage.is_dir():
        raise ExperimentError(f"The storage {storage} is a file; name a folder with --storage.")
    return [path.parent.name for path in storage.glob(f"*/{CONFIG}")]


def _remote_names(storage: ObjectPath) -> list[str]:
    return [name for name in storage.names() if experiment_at(name, storage).complete()]


def find_experiment(name: str, storage: StorageRoot) -> ExperimentFolder:
    """Find an experiment by name.

    Raises:
        ExperimentError: there is none, or the storage can't be read.
    """
    folder = experiment_at(name, storage)
    if NAME.fullmatch(name) and folder.complete():
        return folder
    known = experiment_names(storage)
    hint = (
        closest_match(name, known).replace("Allowed:", "There are:")
        if known
        else "There is no experiment yet."
    )
    raise ExperimentError(
        f"There is no experiment '{name}' in {storage}. {hint} "
        "Another storage is chosen with --storage or $CELLTUNE_STORAGE."
    )
