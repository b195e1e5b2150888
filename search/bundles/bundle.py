"""Bundles: a model in a folder of its own, which needs neither the experiment nor its data.

::

    DIR/manifest.json       format, size and sha256 of every other file
        model.safetensors   the weights, by the names of the classifier's parameters (not for the
                            wide part alone)
        wide.safetensors    the arrays of the wide part, if the model has one
        config.json         the model, the text rules, the classes, the model's origin
        vocabulary.json     the words in the order of their ids, unk and pad first
        README.md           the model card
        DATA-TERMS.md       the origin and the terms of the data
        model.onnx          the same model for other runtimes (optional)

No file is unpickled. A bundle is written to a temporary folder, which is then renamed.
`bundle_reading.py` verifies and loads it.

An ensemble shares the vocabulary and the wide part; its weights are in one file, with a prefix for
each member (see `BundleConfig`).

The format is 1 for a single network, 2 for a model with a wide part, 3 for an ensemble and 4 for a
model of any kind with a temperature or a threshold, so that earlier releases reject what they
cannot load. The manifest of format 4 also contains both numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.types import JSON, check_local_path
from celltune.data_prep.wide.model import WideModel
from celltune.search.bundles.bundle_config import BundleConfig, json_file
from celltune.search.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT, FORMAT_WITH_WIDE, FORMAT_OF_ENSEMBLES, FORMAT_WITH_DECISION = 1, 2, 3, 4
LATEST_FORMAT = FORMAT_WITH_DECISION
MANIFEST = "manifest.json"
WEIGHTS, WIDE = "model.safetensors", "wide.safetensors"
CONFIG = "config.json"
VOCABULARY = "vocabulary.json"
MODEL_CARD = "README.md"
TERMS = "DATA-TERMS.md"
ONNX = "model.onnx"

_LARGEST_SIZES = {
    MANIFEST: 1 << 16,
    CONFIG: 1 << 23,
    VOCABULARY: 1 << 26,
    MODEL_CARD: 1 << 24,
    TERMS: 1 << 24,
    # The shapes in these files are compared with the model before more than the header is read.
    WEIGHTS: 1 << 34,
    WIDE: 1 << 34,
}


def largest_size(name: str) -> int:
    """Return the largest allowed size of a file in bytes; that of ONNX is the limit of ONNX."""
    return _LARGEST_SIZES.get(name, 1 << 31)


def user_path(value: Path | str, argument: str) -> Path:
    """Return a path that a user names, with the home folder in the place of `~`.

    Args:
        value: the path.
        argument: name of the argument, for messages.

    Raises:
        ModelError: no folder can have this path, or its user is unknown.
    """
    try:
        check_local_path(str(value))
    except ValueError as error:
        raise ModelError(f"`{argument}` {error}") from error
    return Path(value).expanduser()


def is_bundle(path: Path) -> bool:
    """Return whether a folder contains the manifest of a bundle."""
    # Unlike that of `Path`, this method also returns False for a path that is too long.
    return os.path.isfile(path / MANIFEST)  # noqa: PTH113


def check_alone(path: Path, *, trial: int | None, ensemble: bool = False) -> None:
    """Check that a bundle was not requested together with a model of an experiment.

    Raises:
        ModelError: it was.
    """
    if trial is not None:
        raise ModelError(
            f"`trial` is {trial}, but {path} is a bundle, which contains one model. Omit `trial`."
        )
    if ensemble:
        raise ModelError(
            f"`ensemble` was given, but {path} is a bundle, which is used as it is. Omit "
            "`ensemble`."
        )


def check_output_folder(path: Path) -> None:
    """Check that a bundle can be written to a path, before the work for it starts.

    Raises:
        ModelError: the path is a file or a folder that is not empty, or cannot be accessed.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise ModelError(
                f"`output` is {path}, which is not a folder. Give a new or an empty folder."
            )
        if path.is_dir() and any(path.iterdir()):
            raise ModelError(
                f"`output` is {path}, a folder that is not empty. Nothing was written. Give a new "
                "or an empty folder."
            )
    except OSError as error:
        raise ModelError(f"`output` is {path}, which cannot be read: {error.strerror}.") from error


def write_bundle(
    path: Path,
    config: BundleConfig,
    words: Sequence[str],
    tensors: Mapping[str, Tensor],
    other_files: Mapping[str, bytes],
    wide: WideModel | None = None,
) -> None:
    """Write a bundle atomically, and create its parent folders.

    Args:
        path: the folder to write; it must be new or empty.
        config: content of config.json.
        words: the vocabulary in the order of the word ids.
        tensors: the weights, by the names of the classifier's parameters; empty for the wide part
            alone.
        other_files: content of the other files by file name.
        wide: the wide part, if the model has one.

    Raises:
        ModelError: the folder is not empty, or cannot be written, or a file would be too large.
    """
    check_output_folder(path)
    files = {
        CONFIG: config.content(),
        VOCABULARY: json.dumps(list(words)).encode(),
        **other_files,
    }
    if tensors:
        files[WEIGHTS] = _weights_file(tensors)
    if wide is not None:
        files[WIDE] = _wide_file(wide)
    for name, content in files.items():
        if len(content) > largest_size(name):
            raise ModelError(
                f"The bundle {path} cannot be written: {name} would have {len(content):,} bytes, "
                f"more than {largest_size(name):,}. No file was written. Shorten the names of the "
                "classes, or use a smaller vocabulary."
            )
    files = _add_manifest(files, config, FORMAT if wide is None else FORMAT_WITH_WIDE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            temporary.chmod(0o755)
            for name, content in files.items():
                _write_durably(temporary / name, content)
            # A rename replaces an empty folder, but fails if the folder was filled meanwhile.
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"The bundle {path} cannot be written: {error.strerror}. No file was written. Free "
            "some space, or choose another `output` folder."
        ) from error


def _weights_file(tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return save(contiguous, metadata={"format": "pt"})


def _wide_file(wide: WideModel) -> bytes:
    from safetensors.numpy import save

    content: bytes = save(wide.arrays())
    return content


def _add_manifest(
    files: Mapping[str, bytes], config: BundleConfig, single: int
) -> dict[str, bytes]:
    """Return the files with the manifest; `single` is the format of a single model."""
    checksums: dict[str, JSON] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    }
    content: dict[str, JSON] = {"format": FORMAT_OF_ENSEMBLES if config.members else single}
    if decision := config.decision.metrics():
        content = {"format": FORMAT_WITH_DECISION, **decision}
    return {**files, MANIFEST: json_file({**content, "files": checksums})}


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
