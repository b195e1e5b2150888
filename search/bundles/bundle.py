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

No file is unpickled. A bundle is written to a temporary folder, which is then renamed. Before any
content of a bundle is used, all its files are verified against the manifest.

An ensemble shares the vocabulary and the wide part; its weights are in one file, with a prefix for
each member (see `BundleConfig`).

The format is 1 for a single network, 2 for a model with a wide part and 3 for an ensemble, so that
earlier releases reject what they cannot load.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray
from pydantic import ValidationError

from celltune.data_prep.errors import DataError
from celltune.data_prep.text.encoder import TextEncoder
from celltune.data_prep.types import JSON
from celltune.data_prep.wide.model import WideModel
from celltune.search.bundles.bundle_config import BundleConfig, json_file
from celltune.search.errors import ModelError
from celltune.search.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

    from celltune.models.network.classifier import TextClassifier
    from celltune.models.network.trained import Network
    from celltune.search.bundles.predictor import TrainedModel

Content = TypeVar("Content")

FORMAT, FORMAT_WITH_WIDE, FORMAT_OF_ENSEMBLES = 1, 2, 3
MANIFEST = "manifest.json"
WEIGHTS, WIDE = "model.safetensors", "wide.safetensors"
CONFIG = "config.json"
VOCABULARY = "vocabulary.json"
MODEL_CARD = "README.md"
TERMS = "DATA-TERMS.md"
ONNX = "model.onnx"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_bundle(path: Path) -> bool:
    """Return whether a folder contains the manifest of a bundle."""
    return (path / MANIFEST).is_file()


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
        ModelError: the folder is not empty, or cannot be written.
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
    single = FORMAT if wide is None else FORMAT_WITH_WIDE
    files = _add_manifest(files, FORMAT_OF_ENSEMBLES if config.members else single)
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


def _add_manifest(files: Mapping[str, bytes], form: int) -> dict[str, bytes]:
    checksums: dict[str, JSON] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    }
    return {**files, MANIFEST: json_file({"format": form, "files": checksums})}


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def load_bundle(path: Path) -> TrainedModel:
    """Load and verify a bundle.

    Raises:
        ModelError: there is no bundle, one of its files is missing or modified, or its format is
            not supported.
    """
    from celltune.search.bundles.predictor import TrainedModel

    files = _read_verified(path)
    config = _parse_config(path, files[CONFIG])
    words = _parse_vocabulary(path, files[VOCABULARY])
    network = _load_network(path, config, len(words), files)
    reads_wide = any(model.wide != "none" for model in config.architectures)
    wide = _load_wide(path, config, files) if reads_wide else None
    return TrainedModel(network, TextEncoder(config.text, words), config.classes, wide)


def load_classifier_of(path: Path) -> tuple[BundleConfig, TextClassifier | None]:
    """Load the config and the classifier of PyTorch; None for the wide part alone.

    Raises:
        ModelError: there is no bundle, it is invalid (see `load_bundle`), or it contains several
            models.
    """
    files = _read_verified(path)
    config = _parse_config(path, files[CONFIG])
    if config.model is None:
        raise ModelError(
            f"The bundle {path} contains an ensemble of {len(config.members)} models. Give the "
            "bundle of a single model, or an experiment and a `trial`."
        )
    if config.model.wide == "only":
        return config, None
    import torch

    from celltune.models.network.trained import load_classifier

    sizes = len(_parse_vocabulary(path, files[VOCABULARY])), len(config.classes)
    arrays = _read_arrays(path, WEIGHTS, files)
    tensors = {name: torch.from_numpy(values.copy()) for name, values in arrays.items()}
    try:
        return config, load_classifier(config.model, *sizes, tensors)
    except ValueError as error:
        raise _invalid(path, WEIGHTS, f"does not match the model: {error}") from error


def _read_verified(path: Path) -> dict[str, bytes]:
    """Read all files that the manifest lists, and check their sizes and checksums."""
    if not path.exists():
        raise ModelError(
            f"There is no bundle {path}. Give the folder of a bundle, or the name of an experiment."
        )
    try:
        manifest = json.loads(_read(path, MANIFEST))
        listed = {str(name): dict(entry) for name, entry in manifest["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _invalid(path, MANIFEST, "is truncated or modified") from error
    if manifest.get("format") not in (FORMAT, FORMAT_WITH_WIDE, FORMAT_OF_ENSEMBLES):
        raise _invalid(
            path,
            MANIFEST,
            f"has the format {manifest.get('format')!r}; this version supports {FORMAT} to "
            f"{FORMAT_OF_ENSEMBLES}",
        )
    files = {}
    for name in sorted({CONFIG, VOCABULARY, *listed}):
        _listed(path, listed, name)
        if not _FILE_NAME.fullmatch(name):
            raise _invalid(path, MANIFEST, f"lists {name!r}, which is not a valid file name")
        files[name] = _read(path, name)
        _verify(path, name, files[name], listed[name])
    return files


def _listed(path: Path, files: Mapping[str, Content], name: str) -> Content:
    """Return a file's entry; the manifest has to list every file that is read."""
    if name not in files:
        raise _invalid(path, MANIFEST, f"does not list {name}")
    return files[name]


def _verify(path: Path, name: str, content: bytes, entry: Mapping[str, Any]) -> None:
    size = entry.get("bytes")
    if len(content) != size:
        raise _invalid(path, name, f"has {len(content):,} bytes instead of {size}")
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise _invalid(path, name, f"is modified: its sha256 differs from the one in {MANIFEST}")


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except FileNotFoundError as error:
        raise _invalid(path, name, "is missing") from error
    except OSError as error:
        raise _invalid(path, name, f"cannot be read ({error.strerror})") from error


def _parse_config(path: Path, content: bytes) -> BundleConfig:
    try:
        return BundleConfig.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _invalid(
            path, CONFIG, f"is not supported by this version ({key}: {first['msg']})"
        ) from error


def _parse_vocabulary(path: Path, content: bytes) -> list[str]:
    try:
        words = json.loads(content)
    except ValueError as error:
        raise _invalid(path, VOCABULARY, f"is not valid JSON ({error})") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _invalid(path, VOCABULARY, "is not a list of words")
    return words


def _load_network(
    path: Path, config: BundleConfig, vocabulary_size: int, files: Mapping[str, bytes]
) -> Network:
    from celltune.models.network.averaged import averaged
    from celltune.models.network.trained import load_network

    has_network = any(model.wide != "only" for model in config.architectures)
    arrays = _read_arrays(path, WEIGHTS, files) if has_network else {}
    networks: list[tuple[float, Network]] = []
    for weight, prefix, model in config.parts():
        own = {name: arrays.pop(name) for name in sorted(arrays) if name.startswith(prefix)}
        own = {name.removeprefix(prefix): values for name, values in own.items()}
        try:
            network = load_network(model, vocabulary_size, len(config.classes), own)
        except ValueError as error:
            raise _invalid(path, WEIGHTS, f"does not match the model: {error}") from error
        networks.append((weight, network))
    if arrays:
        raise _invalid(path, WEIGHTS, f"contains {min(arrays)}, which belongs to no model")
    return averaged(networks)


def _load_wide(path: Path, config: BundleConfig, files: Mapping[str, bytes]) -> WideModel:
    arrays = _read_arrays(path, WIDE, files)
    try:
        wide = WideModel.from_arrays(arrays)
    except DataError as error:
        raise _invalid(path, WIDE, f"contains no wide part: {str(error).rstrip('.')}") from error
    expected = 1 if len(config.classes) == 2 else len(config.classes)
    if wide.outputs != expected:
        raise _invalid(
            path,
            WIDE,
            f"has {counted(wide.outputs, 'output')}, but {len(config.classes)} classes need "
            f"{expected}",
        )
    return wide


def _read_arrays(path: Path, name: str, files: Mapping[str, bytes]) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: dict[str, NDArray[Any]] = load(_listed(path, files, name))
    # A type that numpy does not have, such as bfloat16, is an AttributeError or a KeyError.
    except (SafetensorError, ValueError, AttributeError, KeyError) as error:
        raise _invalid(path, name, f"contains no arrays: {error}") from error
    return arrays


def _invalid(path: Path, name: str, reason: str) -> ModelError:
    return ModelError(
        f"The bundle {path} is invalid: {name} {reason}. Copy the complete folder again, or export "
        "the model again."
    )
