"""Where a trial's checkpoints are: a small object that travels to its worker.

torch is imported only where a checkpoint is read or written.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from celltune.data_prep.io.files import make_folder_durably
from celltune.search.storage.object_path import ObjectPath

if TYPE_CHECKING:
    from celltune.models.training.checkpoint import State

DAMAGED = ".damaged"


class Checkpoints(Protocol):
    """The checkpoints of one trial, by name.

    Invariant: who loads sees an old state or a new one, never half of one, whenever the writer
    dies.
    """

    def location(self, name: str) -> str:
        """Return the address of a checkpoint, for messages."""

    def save(self, state: State, name: str) -> None:
        """Write a state; one of that name is replaced whole.

        Raises:
            OSError: it can't be written; the one before is still there.
        """

    def load(self, name: str) -> State:
        """Read and verify a state.

        Raises:
            CheckpointError: it is missing, cut short or altered.
            OSError: the storage can't be reached.
        """

    def remove(self, name: str) -> None:
        """Remove a checkpoint; one that isn't there is fine.

        Raises:
            OSError: it can't be removed.
        """

    def set_aside(self, name: str) -> str:
        """Move a damaged checkpoint out of the way, to be looked at; give where it is now.

        Raises:
            OSError: it can't be moved, or there is none.
        """


@dataclass(frozen=True)
class LocalCheckpoints:
    """Folders in a folder that every node sees under the same path."""

    folder: Path

    def location(self, name: str) -> str:
        """The checkpoint's folder."""
        return str(self.folder / name)

    def save(self, state: State, name: str) -> None:
        """Write it aside, bring it to the disk, and rename it."""
        from celltune.models.training import checkpoint

        make_folder_durably(self.folder)
        try:
            checkpoint.save(state, self.folder / name)
        except OSError as error:
            # A worker that was given up, behind a cut link say, may be writing its last epoch here
            # at the same moment. It does so once, and what it writes is the same.
            if error.errno not in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY):
                raise
            checkpoint.save(state, self.folder / name)

    def load(self, name: str) -> State:
        """Read and verify it."""
        from celltune.models.training import checkpoint

        return checkpoint.load(self.folder / name)

    def remove(self, name: str) -> None:
        """Remove its folder."""
        try:
            shutil.rmtree(self.folder / name)
        except FileNotFoundError:
            return

    def set_aside(self, name: str) -> str:
        """Rename its folder."""
        taken = {path.name for path in self.folder.iterdir()}
        aside = self.folder / next(each for each in _asides(name) if each not in taken)
        (self.folder / name).rename(aside)
        return str(aside)


@dataclass(frozen=True)
class ObjectStoreCheckpoints:
    """Objects under a prefix: the tensors, named by their content, and then `state.json`."""

    folder: ObjectPath

    def location(self, name: str) -> str:
        """The checkpoint's prefix."""
        return str(self.folder / name)

    def save(self, state: State, name: str) -> None:
        """Upload the tensors, then the `state.json` that names them."""
        from celltune.models.training import checkpoint

        payload, described = checkpoint.pack(state, "tensors-{sha256}.safetensors")
        place, tensors = self.folder / name, checkpoint.tensors_file(described)
        (place / tensors).write_bytes(payload)
        (place / checkpoint.STATE).write_bytes(described)
        for old in place.names():
            if old not in (tensors, checkpoint.STATE):
                (place / old).unlink()

    def load(self, name: str) -> State:
        """Download and verify it."""
        from celltune.models.training import checkpoint

        return checkpoint.read(self.folder / name)

    def remove(self, name: str) -> None:
        """Remove its objects."""
        try:
            (self.folder / name).remove_all()
        except FileNotFoundError:
            return

    def set_aside(self, name: str) -> str:
        """Copy its objects, then remove it: nothing can be renamed there."""
        place = self.folder / name
        objects = place.names()
        if not objects:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(place))
        taken = self.folder.names()
        aside = self.folder / next(each for each in _asides(name) if each not in taken)
        for each in objects:
            (aside / each).write_bytes((place / each).read_bytes())
        self.remove(name)
        return str(aside)


def _asides(name: str) -> Iterator[str]:
    yield f"{name}{DAMAGED}"
    yield from (f"{name}{DAMAGED}-{number}" for number in count(2))
