"""A training state as a folder: ``tensors.safetensors`` beside ``state.json``, never pickled.

``state.json`` holds the format's version, the name, size and sha256 of the tensors, what isn't a
tensor, and the sha256 of that. A folder is written aside, brought to disk, and then renamed, so
that whoever looks sees an old state or a new one, and never half of one, whenever the machine dies.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from celltune.data_prep.io.files import sync_folder, write_durably
from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"
_ASIDE = ".old"
_FILE_NAME = re.compile(r"[\w-][\w.-]*")

State = tuple[dict[str, Tensor], dict[str, JSON]]
"""What ``Trainer.state`` gives: tensors, and what else there is."""


class Files(Protocol):
    """A file or a folder of files: a path on the disk, or a key of an object store."""

    def __truediv__(self, name: str, /) -> Files:
        """Give what is called so in it."""

    def read_bytes(self) -> bytes:
        """Give the content."""


def save(state: State, folder: Path) -> None:
    """Write a state; if ``folder`` exists, it is replaced whole.

    Args:
        state: tensors and what else there is, as ``Trainer.state`` gives them.
        folder: where; its parent must exist.

    Raises:
        OSError: the disk is full or may not be written; an older state is still there.
    """
    payload, described = pack(state)
    for left in folder.parent.glob(f".{folder.name}.*.new"):
        shutil.rmtree(left, ignore_errors=True)
    aside = folder.parent / f".{folder.name}.{uuid4().hex}.new"
    aside.mkdir()
    try:
        write_durably(aside / TENSORS, payload)
        write_durably(aside / STATE, described)
        sync_folder(aside)
        _replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def pack(state: State, tensors_name: str = TENSORS) -> tuple[bytes, bytes]:
    """Give the contents of the two files: of the tensors, and of ``state.json``.

    Args:
        state: as for ``save``.
        tensors_name: what the file of the tensors will be called; ``{sha256}`` in it is filled in.
    """
    tensors, rest = state
    payload = tensors_to_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(payload).hexdigest()
    described: dict[str, JSON] = {
        "format": FORMAT,
        "tensors": tensors_name.format(sha256=digest),
        "bytes": len(payload),
        "sha256": digest,
        "state_sha256": _digest(rest),
        "state": rest,
    }
    return payload, json.dumps(described, indent=1, allow_nan=False).encode()


def tensors_file(described: bytes) -> str:
    """Give the name that ``pack`` put down for the file of the tensors."""
    return str(json.loads(described)["tensors"])


def load(folder: Path) -> State:
    """Read and verify a state that ``save`` wrote.

    Args:
        folder: what ``save`` wrote.

    Returns:
        The tensors, on the CPU, and what else there is.

    Raises:
        CheckpointError: a file is missing, cut short or altered, or of another format.
        OSError: the disk can't be read now; the state may be whole.
    """
    return read(folder if folder.exists() else _set_aside(folder))


def read(folder: Files) -> State:
    """Read and verify a state where its two files lie (see ``load``)."""
    described = _read_state(folder / STATE)
    tensors_name = described.get("tensors", TENSORS)
    if not isinstance(tensors_name, str) or not _FILE_NAME.fullmatch(tensors_name):
        raise _broken(folder / STATE, f"its key 'tensors' names no file: {tensors_name!r}")
    place = folder / tensors_name
    payload = _read(place)
    _verify(place, payload, described)
    try:
        tensors = tensors_from_bytes(payload)
    except SafetensorError as error:
        raise _broken(place, f"it isn't a safetensors file ({error})") from error
    rest = described.get("state")
    if not isinstance(rest, dict):
        raise _broken(folder / STATE, "its key 'state' is missing or isn't an object")
    if described.get("state_sha256", _digest(rest)) != _digest(rest):
        raise _broken(folder / STATE, "it is altered: its state isn't the one that was written")
    return tensors, rest


def _digest(rest: JSON) -> str:
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _set_aside(folder: Path) -> Path:
    """The name of the old state for the moment in which a new one takes its place."""
    return folder.parent / f".{folder.name}{_ASIDE}"


def _replace(new: Path, folder: Path) -> None:
    """Rename ``new`` to ``folder``.

    A folder can't be renamed over a full one, so the old one steps aside first; a crash between the
    two renames leaves it there, where ``load`` finds it.
    """
    old = _set_aside(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _read(path: Files) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        # Anything else is no damage: the storage is out of reach, and the state may be whole.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EIO):
            raise _broken(path, f"it can't be read ({error.strerror})") from error
        raise


def _read_state(path: Files) -> dict[str, JSON]:
    try:
        described = json.loads(_read(path))
    except ValueError as error:
        raise _broken(path, f"it is cut short or altered: not JSON ({error})") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise _broken(path, f"it isn't of format {FORMAT}, the only one this version reads")
    return described


def _verify(path: Files, payload: bytes, described: dict[str, JSON]) -> None:
    size = described.get("bytes")
    if len(payload) != size:
        raise _broken(path, f"it is cut short or altered: {len(payload)} bytes instead of {size}")
    if hashlib.sha256(payload).hexdigest() != described.get("sha256"):
        raise _broken(path, "it is altered: its sha256 isn't the one in state.json")


def _broken(path: Files, reason: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint file {path} can't be used: {reason}. "
        "Go on from an older checkpoint, or train this trial from the start."
    )
