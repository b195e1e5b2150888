"""Checkpoints: a training state as `tensors.safetensors` and `state.json`, without pickle.

`state.json` contains the version of the format, the name, size and sha256 of the tensors, the part
of the state that is not a tensor, and the sha256 of that part. A folder is written under a
temporary name, synced to disk and renamed, so a reader finds the old or the new state after a crash
at any moment.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"
_OLD_SUFFIX, _NEW_SUFFIX = ".old", ".new"
_FILE_NAME = re.compile(r"[\w-][\w.-]*")
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EIO, errno.EINVAL, errno.ELOOP)
"""Errors of a missing or damaged file, and of links and special files in its place."""

State = tuple[dict[str, Tensor], dict[str, JSON]]
"""A training state: tensors, and the other values as JSON."""


class ReadablePath(Protocol):
    """A local path, or a key of an object store."""

    def __truediv__(self, name: str, /) -> ReadablePath:
        """Return the path of a file in this folder."""

    def read_bytes(self) -> bytes:
        """Return the content of this file."""


def save(state: State, folder: Path | EnclosedPath) -> None:
    """Write a state to a folder and replace an existing state atomically.

    Args:
        state: the result of `Trainer.state`.
        folder: the folder to write; its parent must exist.

    Raises:
        OSError: the disk is full or not writable. An existing state is unchanged.
    """
    target = _enclosed(folder)
    tensors_content, state_content = pack(state)
    for name in target.parent.names():
        if name.startswith(f".{target.name}.") and name.endswith(_NEW_SUFFIX):
            _remove(target.parent / name)
    temporary = target.parent / f".{target.name}.{uuid4().hex}{_NEW_SUFFIX}"
    temporary.mkdir()
    try:
        (temporary / TENSORS).create(tensors_content)
        (temporary / STATE).create(state_content)
        temporary.sync()
        _replace(temporary, target)
    finally:
        _remove(temporary)


def pack(state: State, tensors_name: str = TENSORS) -> tuple[bytes, bytes]:
    """Return the contents of the two files: the tensors, and `state.json`.

    Args:
        state: the result of `Trainer.state`.
        tensors_name: file name of the tensors; `{sha256}` in it is replaced by their hash.
    """
    tensors, values = state
    content = tensors_to_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    description: dict[str, JSON] = {
        "format": FORMAT,
        "tensors": tensors_name.format(sha256=digest),
        "bytes": len(content),
        "sha256": digest,
        "state_sha256": _digest(values),
        "state": values,
    }
    return content, json.dumps(description, indent=1, allow_nan=False).encode()


def tensors_file_name(state_content: bytes) -> str:
    """Return the file name of the tensors from the content of `state.json`."""
    return str(json.loads(state_content)["tensors"])


def load(folder: Path | EnclosedPath) -> State:
    """Read and verify a state that `save` wrote.

    Args:
        folder: the folder that `save` wrote.

    Returns:
        The tensors, on the CPU, and the other values.

    Raises:
        CheckpointError: a file is missing, truncated, altered, or in another format.
        OSError: the storage is not reachable; the state may be intact.
    """
    saved = _enclosed(folder)
    return read(saved if saved.exists() else _old_folder(saved))


def read(folder: ReadablePath) -> State:
    """Read and verify a state from a path or an object store; see `load`."""
    description = _read_state(folder / STATE)
    tensors_name = description.get("tensors", TENSORS)
    if not isinstance(tensors_name, str) or not _FILE_NAME.fullmatch(tensors_name):
        raise _broken(folder / STATE, f"'tensors' is not a file name: {tensors_name!r}")
    tensors_path = folder / tensors_name
    content = _read(tensors_path)
    _verify(tensors_path, content, description)
    try:
        tensors = tensors_from_bytes(content)
    except SafetensorError as error:
        raise _broken(tensors_path, f"it is not a safetensors file ({error})") from error
    values = description.get("state")
    if not isinstance(values, dict):
        raise _broken(folder / STATE, "'state' is missing or not an object")
    if description.get("state_sha256", _digest(values)) != _digest(values):
        raise _broken(folder / STATE, "its 'state' was altered after it was written")
    return tensors, values


def _digest(values: JSON) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _enclosed(folder: Path | EnclosedPath) -> EnclosedPath:
    return EnclosedPath.of(folder) if isinstance(folder, Path) else folder


def _old_folder(folder: EnclosedPath) -> EnclosedPath:
    """Return the temporary name of the old state while a new one replaces it."""
    return folder.parent / f".{folder.name}{_OLD_SUFFIX}"


def _replace(new: EnclosedPath, folder: EnclosedPath) -> None:
    """Rename `new` to `folder`.

    A folder cannot be renamed over another one that is not empty, so the old one is renamed first.
    After a crash between the two renames, `load` reads the old one.
    """
    old = _old_folder(folder)
    if folder.exists():
        _remove(old)
        folder.rename(old.name)
    new.rename(folder.name)
    folder.parent.sync()
    _remove(old)


def _remove(folder: EnclosedPath) -> None:
    """Remove a folder if that is possible; a later save tries it again."""
    with suppress(OSError):
        folder.remove_all()


def _read(path: ReadablePath) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        # With any other error the storage is not reachable, and the state may be intact.
        if error.errno in _DAMAGE:
            raise _broken(path, f"it cannot be read ({error.strerror})") from error
        raise


def _read_state(path: ReadablePath) -> dict[str, JSON]:
    try:
        description = json.loads(_read(path))
    except ValueError as error:
        raise _broken(path, f"it is truncated or altered: not JSON ({error})") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise _broken(path, f"its format is not {FORMAT}, the only one that this version reads")
    return description


def _verify(path: ReadablePath, content: bytes, description: dict[str, JSON]) -> None:
    size = description.get("bytes")
    if len(content) != size:
        raise _broken(path, f"it is truncated or altered: {len(content)} bytes instead of {size}")
    if hashlib.sha256(content).hexdigest() != description.get("sha256"):
        raise _broken(path, "it is altered: its sha256 differs from the one in state.json")


def _broken(path: ReadablePath, reason: str) -> CheckpointError:
    # The message has no fix, because it depends on what the caller wants to do with the state.
    return CheckpointError(f"The checkpoint file {path} cannot be used: {reason}.")
