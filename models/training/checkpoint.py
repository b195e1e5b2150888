"""Checkpoints: a training state as `tensors.safetensors` and `state.json`, without pickle.

`state.json` contains the version of the format, the name, size and sha256 of the tensors, the part
of the state that is not a tensor, and the sha256 of that part. A folder is written under a
temporary name, synced to disk and renamed, so a reader finds the old or the new state after a crash
at any moment.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from celltune.data_prep.io.enclosed import EnclosedPath
from celltune.data_prep.io.regular import FileTooLargeError
from celltune.data_prep.io.strict_json import parse_json
from celltune.data_prep.io.tensor_file import LARGEST_WEIGHT, are_weights, read_header
from celltune.data_prep.types import JSON
from celltune.models.errors import CheckpointError
from celltune.printable import quoted

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"
_OLD_SUFFIX, _NEW_SUFFIX = ".old", ".new"
_FILE_NAME = re.compile(r"[\w-][\w.-]{0,199}")
_STATE_BYTES = 1 << 26
"""Largest size of a `state.json`, which grows by 1 KB in an epoch of a retraining."""
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
    for written in (saved, _old_folder(saved)):
        if written.exists():
            return read(written)
    raise CheckpointError(
        f"The checkpoint {saved} does not exist: it was removed, such as by pruning."
    )


def read(folder: ReadablePath) -> State:
    """Read and verify a state from a path or an object store; see `load`.

    It may be someone else's: sizes are checked before the tensors are read, and their values are.
    """
    description = _read_state(folder / STATE)
    tensors_name = description.get("tensors", TENSORS)
    if not isinstance(tensors_name, str) or not _FILE_NAME.fullmatch(tensors_name):
        raise _broken(folder / STATE, f"'tensors' is not a file name: {quoted(tensors_name)}")
    values = description.get("state")
    if not isinstance(values, dict):
        raise _broken(folder / STATE, "'state' is missing or not an object")
    if description.get("state_sha256", _digest(values)) != _digest(values):
        raise _broken(folder / STATE, "its 'state' was altered after it was written")
    return _read_tensors(folder / tensors_name, description), values


def _read_tensors(path: ReadablePath, description: Mapping[str, JSON]) -> dict[str, Tensor]:
    size = description.get("bytes")
    if type(size) is not int or size < 0:
        raise _broken(path, f"the size in {STATE} is {quoted(size)}")
    if isinstance(path, EnclosedPath):
        _check_header(path, size)
    content = _read(path, size)
    if len(content) != size:
        raise _broken(path, f"it is truncated or altered: {len(content)} bytes instead of {size}")
    if hashlib.sha256(content).hexdigest() != description.get("sha256"):
        raise _broken(path, f"it is altered: its sha256 differs from the one in {STATE}")
    try:
        header = read_header(io.BytesIO(content), size)
        arrays = header.arrays(content)
        for name, array in arrays.items():
            _check_values(name, array)
    except ValueError as error:
        raise _broken(path, str(error)) from error
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def _check_header(path: EnclosedPath, size: int) -> None:
    """Check that a file claims to have tensors of its size, before its memory is allocated.

    A sparse file takes no space on the disk, whatever its size is.
    """
    with _reading(path), path.open() as file:
        actual = os.fstat(file.fileno()).st_size
        try:
            if actual != size:
                raise ValueError(f"{actual} bytes instead of {size}")  # noqa: TRY301
            read_header(file, size)
        except ValueError as error:
            raise _broken(path, f"it is truncated or altered: {error}") from error


def _check_values(name: str, array: NDArray[Any]) -> None:
    """Check that the weights of a model are numbers, and that no other tensor contains NaN."""
    if array.dtype.kind != "f":
        return
    is_weight = name.startswith("model.") or name.endswith(".weights")
    if is_weight and not are_weights(array):
        raise ValueError(f"a value of its tensor {quoted(name)} is NaN or above {LARGEST_WEIGHT:g}")
    # Moments may be infinite. The minimum is NaN if a value is.
    if array.size and np.isnan(array.min()):
        raise ValueError(f"a value of its tensor {quoted(name)} is NaN")


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


def _read(path: ReadablePath, limit: int) -> bytes:
    """Read a file of at most `limit` bytes; an object store has no such limit."""
    with _reading(path):
        return path.read_bytes(limit) if isinstance(path, EnclosedPath) else path.read_bytes()


@contextmanager
def _reading(path: ReadablePath) -> Iterator[None]:
    """Report a damaged file; with any other error, the state may be intact."""
    try:
        yield
    except FileTooLargeError as error:
        raise _broken(path, f"it is {str(error.strerror).lower()}") from error
    except OSError as error:
        if error.errno in _DAMAGE:
            raise _broken(path, f"it cannot be read ({error.strerror})") from error
        raise
    except MemoryError as error:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from error


def _read_state(path: ReadablePath) -> dict[str, JSON]:
    try:
        description = parse_json(_read(path, _STATE_BYTES))
    except ValueError as error:
        raise _broken(path, f"it is truncated or altered: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise _broken(path, f"its format is not {FORMAT}, the only one that this version reads")
    return description


def _broken(path: ReadablePath, reason: str) -> CheckpointError:
    # The message has no fix, because it depends on what the caller wants to do with the state.
    return CheckpointError(f"The checkpoint file {path} cannot be used: {reason}.")
