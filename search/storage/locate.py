"""Find a storage by its address, and experiments in it by name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from celltune.printable import quoted
from celltune.registry import ExtensionError
from celltune.search.errors import ExperimentError
from celltune.search.extensions import STORAGES
from celltune.search.ledger.fields import NAME, NAME_RULE
from celltune.search.storage.base import Experiment, Storage
from celltune.spelling import closest_match

StorageAddress = Storage | Path | str | None
"""A storage, its path or URI, or None for the default storage."""

_DEFAULT = "~/celltune_results"
_FOLDER = "local folder"
"""The backend for addresses without a URI scheme. The blank keeps it apart from all schemes."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def open_storage(address: StorageAddress = None) -> Storage:
    """Return the storage at an address; it may not exist yet.

    Args:
        address: a path, a URI whose scheme selects the backend, or a storage, which is returned.
            None means $CELLTUNE_STORAGE or, if that is not set, `~/celltune_results`.

    Raises:
        ExperimentError: the address is invalid, or no backend has its scheme.
    """
    if isinstance(address, Storage):
        return address
    chosen = str(address or os.environ.get("CELLTUNE_STORAGE") or _DEFAULT)
    match = None if isinstance(address, Path) else _SCHEME.match(chosen.strip())
    scheme = match[1].lower() if match else _FOLDER
    if match is None and "://" in chosen and not isinstance(address, Path):
        # The address is omitted, because it can contain a password.
        raise ExperimentError(
            "The storage address contains '://', but does not begin with the scheme of a URI. "
            "Remove what is before the scheme, such as a quotation mark, or use a path."
        )
    if match:
        chosen = f"{scheme}://{chosen.strip()[match.end() :]}"
    if scheme not in STORAGES:
        schemes = [name for name in STORAGES.names() if name != _FOLDER]
        # The address is omitted, because it can contain a password.
        raise ExperimentError(
            f"The storage address has the unknown scheme '{scheme}'. Use a path, or one of the "
            f"schemes {', '.join(schemes)}."
        )
    try:
        backend = STORAGES.load(scheme)
    except ExtensionError as error:
        raise ExperimentError(f"The storage cannot be opened. {error}") from error
    return backend.open(chosen)


def new_experiment(name: str, storage: StorageAddress) -> Experiment:
    """Return an experiment that can be created: its name is valid and not in use.

    Raises:
        ExperimentError: the name is invalid or in use, or the storage cannot be read or written.
    """
    if not NAME.fullmatch(name):
        raise ExperimentError(f"{quoted(name)} is not a valid experiment name. {NAME_RULE}")
    experiment = open_storage(storage).experiment(name)
    if experiment.exists():
        raise experiment.exists_error()
    experiment.check_can_be_created()
    return experiment


def find_experiment(name: str, storage: StorageAddress) -> Experiment:
    """Return the existing experiment of this name.

    Raises:
        ExperimentError: the experiment does not exist, or the storage cannot be read.
    """
    opened = open_storage(storage)
    experiment = opened.experiment(name)
    if NAME.fullmatch(name) and experiment.is_complete():
        return experiment
    names = opened.names()
    # The name and the storage are arguments of many functions, each under its own name, so the
    # message cannot name the arguments.
    if not names:
        raise ExperimentError(
            f"The storage {opened} has no experiment '{name}': it contains no experiments. Launch "
            "one, or select another storage."
        )
    hint = closest_match(name, names).replace("Allowed:", "Its experiments are:")
    raise ExperimentError(
        f"The storage {opened} has no experiment '{name}'. {hint} Use one of them, or select the "
        f"storage that contains '{name}'."
    )
