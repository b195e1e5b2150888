"""A model in a folder of its own, which needs neither the experiment nor its data.

::

    DIR/manifest.json       format, size and sha256 of every other file
        model.safetensors   the weights, under the classifier's names
        config.json         the model, how text is read, the classes, where the model comes from
        vocabulary.json     the words in the order of their ids, unk and pad first
        README.md           the model card
        DATA-TERMS.md       where the data come from and on what terms
        model.onnx          the same model for other runtimes, if asked for

Nothing in it is ever unpickled. A folder is written aside and renamed; every file is verified
against the manifest before anything of it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from celltune.data_prep.text.encoder import TextReader, TextRules
from celltune.data_prep.types import JSON
from celltune.models.config import ModelConfig
from celltune.search.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from celltune.models.network.classifier import TextClassifier
    from celltune.search.bundles.predictor import TrainedModel

FORMAT = 1
MANIFEST, WEIGHTS, CONFIG, WORDS = (
    "manifest.json",
    "model.safetensors",
    "config.json",
    "vocabulary.json",
)
CARD, TERMS, ONNX = "README.md", "DATA-TERMS.md", "model.onnx"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class BundleConfig(BaseModel):
    """What ``config.json`` holds."""

    # A later release may add fields, with a default that says what was done before.
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    model: ModelConfig
    """What the weights belong to."""
    text: TextRules
    """How text becomes ids."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    origin: dict[str, Any] = {}
    """Which experiment, trial and epoch it is of, what came of it, and the versions."""


@dataclass(frozen=True)
class Bundle:
    """What is written: a model, and what people want to know about it."""

    config: BundleConfig
    words: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    card: str
    terms: str
    extra: Mapping[str, bytes] = field(default_factory=dict)
    """Further files, by their name."""


def is_bundle(path: Path) -> bool:
    """Whether a folder says that it is a bundle."""
    return (path / MANIFEST).is_file()


def check_free(path: Path) -> None:
    """Check that a bundle can be written here, before the work for it is done.

    Raises:
        ModelError: it is a file or a folder with something in it, or can't be looked at.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise ModelError(f"{path} is no folder; name a new or an empty one with -o.")
        if path.is_dir() and any(path.iterdir()):
            raise ModelError(
                f"The folder {path} isn't empty; nothing was written. Name a new or an empty one "
                "with -o, or remove it first."
            )
    except OSError as error:
        raise ModelError(f"{path} can't be looked at: {error.strerror}.") from error


def write(bundle: Bundle, path: Path) -> None:
    """Write a bundle, whole or not at all; its parent folders are made.

    Raises:
        ModelError: the folder isn't free, or can't be written.
    """
    check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            aside.chmod(0o755)
            for name, content in _files(bundle).items():
                _write(aside / name, content)
            # Over an empty folder a rename is allowed, over one that was filled meanwhile not.
            aside.rename(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"The bundle {path} can't be written: {error.strerror}. Nothing was left there; make "
            "room, or choose another folder with -o."
        ) from error


def _files(bundle: Bundle) -> dict[str, bytes]:
    from safetensors.torch import save

    tensors = {name: values.contiguous() for name, values in bundle.tensors.items()}
    files = {
        WEIGHTS: save(tensors, metadata={"format": "pt"}),
        CONFIG: _json(bundle.config.model_dump(mode="json")),
        WORDS: json.dumps(list(bundle.words)).encode(),
        CARD: bundle.card.encode(),
        TERMS: bundle.terms.encode(),
        **bundle.extra,
    }
    sums: dict[str, JSON] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    }
    return {**files, MANIFEST: _json({"format": FORMAT, "files": sums})}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> TrainedModel:
    """Read and verify a bundle.

    Raises:
        ModelError: there is none, a file of it is missing or altered, or it is of a later format.
    """
    from celltune.search.bundles.predictor import TrainedModel

    files = _verified(path)
    config = _config(path, files[CONFIG])
    words = _words(path, files[WORDS])
    classifier = _classifier(path, config, len(words), files[WEIGHTS])
    return TrainedModel(classifier, TextReader(config.text, words), config.classes)


def _verified(path: Path) -> dict[str, bytes]:
    try:
        manifest = json.loads(_read(path, MANIFEST))
        listed = {str(name): dict(each) for name, each in manifest["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(path, MANIFEST, "it is cut short or altered") from error
    if manifest.get("format") != FORMAT:
        raise _broken(path, MANIFEST, f"it is of format {manifest.get('format')!r}, not {FORMAT}")
    files = {}
    for name in sorted({WEIGHTS, CONFIG, WORDS, *listed}):
        if name not in listed:
            raise _broken(path, MANIFEST, f"it doesn't list {name}")
        if not _FILE_NAME.fullmatch(name):
            raise _broken(path, MANIFEST, f"it lists {name!r}, which is no file of a bundle")
        files[name] = _read(path, name)
        _check(path, name, files[name], listed[name])
    return files


def _check(path: Path, name: str, content: bytes, listed: Mapping[str, Any]) -> None:
    size = listed.get("bytes")
    if len(content) != size:
        raise _broken(path, name, f"it has {len(content):,} bytes instead of {size}")
    if hashlib.sha256(content).hexdigest() != listed.get("sha256"):
        raise _broken(path, name, "it is altered: its sha256 isn't the one in manifest.json")


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except FileNotFoundError as error:
        raise _broken(path, name, "it is missing") from error
    except OSError as error:
        raise _broken(path, name, f"it can't be read ({error.strerror})") from error


def _config(path: Path, content: bytes) -> BundleConfig:
    try:
        return BundleConfig.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _broken(
            path, CONFIG, f"this version can't use it ({where}: {first['msg']})"
        ) from error


def _words(path: Path, content: bytes) -> list[str]:
    try:
        words = json.loads(content)
    except ValueError as error:
        raise _broken(path, WORDS, f"it isn't JSON ({error})") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _broken(path, WORDS, "it isn't a list of words")
    return words


def _classifier(
    path: Path, config: BundleConfig, vocabulary_size: int, weights: bytes
) -> TextClassifier:
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of

    try:
        tensors = tensors_of(weights)
        return build(config.model, vocabulary_size, len(config.classes), tensors)
    except (SafetensorError, ValueError) as error:
        raise _broken(path, WEIGHTS, str(error)) from error


def build(
    model: ModelConfig, vocabulary_size: int, num_classes: int, tensors: Mapping[str, Tensor]
) -> TextClassifier:
    """Make a classifier with given weights.

    Args:
        model: what the weights belong to.
        vocabulary_size: V.
        num_classes: C.
        tensors: by the names of the classifier's parameters.

    Raises:
        ValueError: the weights are of another model.
    """
    from celltune.models.network.classifier import TextClassifier

    classifier = TextClassifier(model, vocabulary_size, num_classes)
    try:
        classifier.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ValueError(f"its weights are of another model: {error}") from error
    return classifier.eval()


def _broken(path: Path, name: str, reason: str) -> ModelError:
    return ModelError(
        f"{path} can't be used as a model: {name}: {reason}. Get the whole folder again, or write "
        "it anew with celltune export."
    )
