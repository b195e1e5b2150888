"""A training state as a folder: ``tensors.safetensors`` beside ``state.json``, never pickled.

``state.json`` holds the format's version, the size and sha256 of the tensors, and what isn't a
tensor. A folder is written aside, brought to disk, and then renamed, so that whoever looks sees an
old state or a new one, and never half of one, whenever the machine dies.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from data_prep.dataset import JSON
from models.errors import CheckpointError

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"
_ASIDE = ".old"


def save(state: tuple[dict[str, Tensor], dict[str, JSON]], folder: Path) -> None:
    """Write a state; if ``folder`` exists, it is replaced whole.

    Args:
        state: tensors and what else there is, as ``Trainer.state`` gives them.
        folder: where; its parent must exist.

    Raises:
        OSError: the disk is full or may not be written; an older state is still there.
    """
    tensors, rest = state
    payload = tensors_to_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
    described: dict[str, JSON] = {
        "format": FORMAT,
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
        "state": rest,
    }
    aside = folder.parent / f".{folder.name}.{uuid4().hex}.new"
    aside.mkdir()
    try:
        _write(aside / TENSORS, payload)
        _write(aside / STATE, json.dumps(described, indent=1, allow_nan=False).encode())
        _sync(aside)
        _replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """Read and verify a state.

    Args:
        folder: what ``save`` wrote.

    Returns:
        The tensors, on the CPU, and what else there is.

    Raises:
        CheckpointError: a file is missing, cut short or altered, or of another format.
    """
    found = folder if folder.exists() else _set_aside(folder)
    described = _read_state(found / STATE)
    payload = _read(found / TENSORS)
    _verify(found / TENSORS, payload, described)
    try:
        tensors = tensors_from_bytes(payload)
    except SafetensorError as error:
        raise _broken(found / TENSORS, f"it isn't a safetensors file ({error})") from error
    rest = described.get("state")
    if not isinstance(rest, dict):
        raise _broken(found / STATE, "its key 'state' is missing or isn't an object")
    return tensors, rest


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
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, payload: bytes) -> None:
    with path.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Bring a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _broken(path, f"it can't be read ({error.strerror})") from error


def _read_state(path: Path) -> dict[str, JSON]:
    try:
        described = json.loads(_read(path))
    except ValueError as error:
        raise _broken(path, f"it is cut short or altered: not JSON ({error})") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise _broken(path, f"it isn't of format {FORMAT}, the only one this version reads")
    return described


def _verify(path: Path, payload: bytes, described: dict[str, JSON]) -> None:
    size = described.get("bytes")
    if len(payload) != size:
        raise _broken(path, f"it is cut short or altered: {len(payload)} bytes instead of {size}")
    if hashlib.sha256(payload).hexdigest() != described.get("sha256"):
        raise _broken(path, "it is altered: its sha256 isn't the one in state.json")


def _broken(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint file {path} can't be used: {reason}. "
        "Go on from an older checkpoint, or train this trial from the start."
    )
