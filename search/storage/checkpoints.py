"""The checkpoints of a trial, in a folder or an object store.

torch is imported only when a checkpoint is read or written.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.search.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from celltune.models.training.checkpoint import State

DAMAGED = ".damaged"
"""Suffix of a damaged checkpoint that was set aside."""


class Checkpoints(Protocol):
    """The checkpoints of one trial, by name.

    Instances are small and picklable, because they are sent to the workers.

    Invariant: `load` returns an old or a new state, never a mixture, even if a writer dies at any
    moment.
    """

    def location(self, name: str) -> str:
        """Return the address of a checkpoint, for messages."""

    def save(self, state: State, name: str) -> None:
        """Write or replace a checkpoint.

        Raises:
            OSError: the checkpoint cannot be written; an earlier one of this name is intact.
        """

    def load(self, name: str) -> State:
        """Read and verify a checkpoint.

        Raises:
            CheckpointError: the checkpoint is missing or damaged.
            OSError: the storage cannot be reached.
        """

    def remove(self, name: str) -> None:
        """Remove a checkpoint if it exists.

        Raises:
            OSError: the checkpoint cannot be removed.
        """

    def set_aside(self, name: str) -> str:
        """Rename a damaged checkpoint, so that it can be examined, and return its new address.

        Raises:
            FileNotFoundError: the checkpoint is missing.
            OSError: the checkpoint cannot be renamed.
        """


@dataclass(frozen=True)
class LocalCheckpoints:
    """Checkpoints as folders. In a cluster, all nodes must see them under the same path."""

    path: EnclosedPath
    """The folder of the trial's checkpoints. The folder of the experiment must exist."""

    @property
    def folder(self) -> Path:
        """The path of the folder."""
        return Path(str(self.path))

    def location(self, name: str) -> str:
        """Return the checkpoint's folder."""
        return str(self.path / name)

    def save(self, state: State, name: str) -> None:
        """Write a temporary folder, flush it to disk and rename it."""
        from celltune.models.training import checkpoint

        # Not the experiment's folder: where a user has removed it, it must not appear again.
        self.path.parent.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)
        try:
            checkpoint.save(state, self.path / name)
        except OSError as error:
            # A worker that the driver has replaced, but that is still running, may write the same
            # checkpoint here at the same moment. It does so once, and its state is identical.
            if error.errno not in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY):
                raise
            checkpoint.save(state, self.path / name)

    def load(self, name: str) -> State:
        """Read and verify a checkpoint."""
        from celltune.models.training import checkpoint

        return checkpoint.load(self.path / name)

    def remove(self, name: str) -> None:
        """Remove a checkpoint's folder if it exists."""
        with suppress(FileNotFoundError):
            (self.path / name).remove_all()

    def set_aside(self, name: str) -> str:
        """Rename a damaged checkpoint's folder."""
        damaged = _free_damaged_name(name, self.path.names())
        (self.path / name).rename(damaged)
        return str(self.path / damaged)


@dataclass(frozen=True)
class ObjectStoreCheckpoints:
    """Checkpoints as two objects: the tensors, named by their hash, and a `state.json`.

    A save uploads new tensors before it replaces `state.json`, which refers to them by name. This
    makes the replacement atomic.
    """

    folder: ObjectPath
    """The prefix of the trial's checkpoints."""

    def location(self, name: str) -> str:
        """Return the checkpoint's prefix."""
        return str(self.folder / name)

    def save(self, state: State, name: str) -> None:
        """Upload the tensors, then the `state.json` that refers to them."""
        from celltune.models.training import checkpoint

        tensors, description = checkpoint.pack(state, "tensors-{sha256}.safetensors")
        prefix, tensors_name = self.folder / name, checkpoint.tensors_file_name(description)
        (prefix / tensors_name).write_bytes(tensors)
        (prefix / checkpoint.STATE).write_bytes(description)
        for old in prefix.names():
            if old not in (tensors_name, checkpoint.STATE):
                (prefix / old).unlink()

    def load(self, name: str) -> State:
        """Download and verify a checkpoint."""
        from celltune.models.training import checkpoint

        return checkpoint.read(self.folder / name)

    def remove(self, name: str) -> None:
        """Remove a checkpoint's objects if they exist."""
        try:
            (self.folder / name).remove_all()
        except FileNotFoundError:
            return

    def set_aside(self, name: str) -> str:
        """Copy a damaged checkpoint's objects and remove them: a store cannot rename."""
        prefix = self.folder / name
        objects = prefix.names()
        if not objects:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(prefix))
        target = self.folder / _free_damaged_name(name, self.folder.names())
        for object_name in objects:
            (target / object_name).write_bytes((prefix / object_name).read_bytes())
        self.remove(name)
        return str(target)


def _free_damaged_name(name: str, used: Collection[str]) -> str:
    """Return `<name>.damaged`, or `<name>.damaged-2`, -3, ... if that name is used."""
    first = f"{name}{DAMAGED}"
    candidates = (first if number == 1 else f"{first}-{number}" for number in count(1))
    return next(candidate for candidate in candidates if candidate not in used)
