"""Loading of bundles, which may come from someone else.

Nothing in a bundle is trusted: only regular files directly in its folder are opened, their sizes
are checked before they are read, and the shapes of all tensors are compared with the model that
`config.json` describes before anything is allocated for it. A checksum shows that a file is
complete, not that its content is sensible.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from numpy.typing import NDArray
from pydantic import ValidationError

from celltune.data_prep.dataset.names import check_words
from celltune.data_prep.errors import DataError
from celltune.data_prep.io.regular import open_regular, read_regular
from celltune.data_prep.io.strict_json import parse_json
from celltune.data_prep.io.tensor_file import Specs, read_header
from celltune.data_prep.text.encoder import TextEncoder
from celltune.data_prep.wide.model import WideModel
from celltune.models.network.weights import check_shapes
from celltune.printable import printable, quoted
from celltune.search.bundles.bundle import (
    CONFIG,
    FORMAT,
    LATEST_FORMAT,
    MANIFEST,
    VOCABULARY,
    WEIGHTS,
    WIDE,
    largest_size,
)
from celltune.search.bundles.bundle_config import BundleConfig
from celltune.search.errors import ModelError
from celltune.search.wording import counted

if TYPE_CHECKING:
    from celltune.models.network.classifier import TextClassifier
    from celltune.models.network.trained import Network
    from celltune.search.bundles.predictor import TrainedModel

Item = TypeVar("Item")

_CHUNK_BYTES = 1 << 20
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def load_bundle(path: Path) -> TrainedModel:
    """Load and verify a bundle.

    Raises:
        ModelError: there is no bundle, one of its files is missing, modified or invalid, or its
            format is not supported.
    """
    from celltune.search.bundles.predictor import TrainedModel

    with _memory(path):
        files = _Files(path)
        config, words = _read_config(files), _read_words(files)
        network = _read_network(files, config, len(words))
        reads_wide = any(model.wide != "none" for model in config.architectures)
        wide = _read_wide(files, config) if reads_wide else None
        reader = TextEncoder(config.text, words)
        return TrainedModel(network, reader, config.classes, wide, config.decision)


def load_classifier_of(path: Path) -> tuple[BundleConfig, TextClassifier | None]:
    """Load the config and the classifier of PyTorch; None for the wide part alone.

    Raises:
        ModelError: there is no bundle, it is invalid (see `load_bundle`), or it contains several
            models.
    """
    with _memory(path):
        files = _Files(path)
        config = _read_config(files)
        if config.model is None:
            raise ModelError(
                f"The bundle {path} contains an ensemble of {len(config.members)} models. Give the "
                "bundle of a single model, or an experiment and a `trial`."
            )
        if config.model.wide == "only":
            return config, None
        import torch

        from celltune.models.network.trained import load_classifier

        sizes = len(_read_words(files)), len(config.classes)
        (arrays,) = _read_weights(files, config, sizes[0])
        tensors = {name: torch.from_numpy(values.copy()) for name, values in arrays.items()}
        try:
            return config, load_classifier(config.model, *sizes, tensors)
        except ValueError as error:
            raise files.invalid(WEIGHTS, _mismatch("", error)) from error


class _Entry(NamedTuple):
    """What the manifest says about a file."""

    size: int
    sha256: str


class _Files:
    """The files of a bundle. Their content is verified against the manifest when it is read."""

    def __init__(self, path: Path) -> None:
        """Read the manifest, and verify the files that are not read later.

        Raises:
            ModelError: the manifest is invalid, or one of these files is missing or modified.
        """
        self._path = path
        self._entries = self._read_manifest()
        for name in (CONFIG, VOCABULARY):
            self._entry(name)
        for name in sorted(self._entries):
            with self._opened(name) as file:
                if name not in (CONFIG, VOCABULARY, WEIGHTS, WIDE):
                    self._verify(name, file)

    def invalid(self, name: str, reason: str) -> ModelError:
        """Return the error for an invalid file; the reason is a predicate."""
        return _invalid(self._path, name, reason)

    def content(self, name: str) -> bytes:
        """Return the verified content of a file.

        Raises:
            ModelError: it is missing, modified or too large.
        """
        with self._opened(name) as file:
            content = file.read(self._entries[name].size)
            self._verify(name, file, hashlib.sha256(content))
        return content

    def arrays(
        self, name: str, check: Callable[[Specs], None] = lambda _: None
    ) -> dict[str, NDArray[Any]]:
        """Return the verified tensors of a file.

        Args:
            name: name of the file.
            check: is called with their types and shapes before they are read, and raises an error
                if they are not those of the model.

        Raises:
            ModelError: the file is missing, modified or not a file of tensors.
        """
        with self._opened(name) as file:
            size = self._entries[name].size
            try:
                header = read_header(file, size)
            except ValueError as error:
                raise self.invalid(name, f"contains no arrays: {error}") from error
            check(header.specs)
            file.seek(0)
            content = file.read(size)
            self._verify(name, file, hashlib.sha256(content))
        return header.arrays(content)

    def _read_manifest(self) -> dict[str, _Entry]:
        try:
            content = read_regular(
                self._path / MANIFEST, limit=largest_size(MANIFEST), follow=False
            )
        except (OSError, ValueError) as error:
            if not os.path.exists(self._path):  # noqa: PTH110
                raise ModelError(
                    f"There is no bundle {self._path}. Give the folder of a bundle, or the name of "
                    "an experiment."
                ) from error
            raise self._unreadable(MANIFEST, error) from error
        try:
            manifest = parse_json(content)
        except ValueError as error:
            raise self.invalid(MANIFEST, f"is truncated or modified: {error}") from error
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise self.invalid(MANIFEST, "is truncated or modified: it lists no files")
        form = manifest.get("format")
        if type(form) is not int or not FORMAT <= form <= LATEST_FORMAT:
            raise self.invalid(
                MANIFEST,
                f"has the format {quoted(form)}; this version supports {FORMAT} to {LATEST_FORMAT}",
            )
        return {name: self._parse_entry(name, entry) for name, entry in manifest["files"].items()}

    def _parse_entry(self, name: str, entry: Any) -> _Entry:
        if not _FILE_NAME.fullmatch(name):
            raise self.invalid(MANIFEST, f"lists {quoted(name)}, which is not a valid file name")
        size, sha256 = (entry.get(key) if isinstance(entry, dict) else None for key in _KEYS)
        if type(size) is not int or size < 0:
            raise self.invalid(MANIFEST, f"has no valid size of {name}: {quoted(size)}")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise self.invalid(MANIFEST, f"has no valid sha256 of {name}: {quoted(sha256)}")
        return _Entry(size, sha256)

    def _entry(self, name: str) -> _Entry:
        """Return a file's entry; the manifest has to list every file that is read."""
        if name not in self._entries:
            raise self.invalid(MANIFEST, f"does not list {name}")
        return self._entries[name]

    @contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        """Open a file of the size that the manifest lists."""
        expected = self._entry(name).size
        try:
            with open_regular(self._path / name, follow=False) as file:
                size, limit = os.fstat(file.fileno()).st_size, largest_size(name)
                if size != expected:
                    raise self.invalid(name, f"has {size:,} bytes instead of {expected:,}")
                if size > limit:
                    raise self.invalid(name, f"has {size:,} bytes, more than {limit:,}")
                yield file
        except OSError as error:
            raise self._unreadable(name, error) from error

    def _verify(self, name: str, file: BinaryIO, digest: Any = None) -> None:
        """Check the digest of a file whose beginning was read."""
        digest = digest or hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
        if digest.hexdigest() != self._entries[name].sha256:
            raise self.invalid(name, f"is modified: its sha256 differs from the one in {MANIFEST}")

    def _unreadable(self, name: str, error: Exception) -> ModelError:
        if isinstance(error, FileNotFoundError):
            return self.invalid(name, "is missing")
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return self.invalid(name, f"cannot be read ({reason})")


_KEYS = ("bytes", "sha256")


def _read_config(files: _Files) -> BundleConfig:
    try:
        return BundleConfig.model_validate(parse_json(files.content(CONFIG)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        reason = printable(f"{key}: {message}" if key else message, 300)
        raise files.invalid(CONFIG, f"is not supported by this version ({reason})") from error
    except ValueError as error:
        raise files.invalid(CONFIG, f"cannot be used: {error}") from error


def _read_words(files: _Files) -> tuple[str, ...]:
    content = files.content(VOCABULARY)
    try:
        words = parse_json(content)
    except ValueError as error:
        raise files.invalid(VOCABULARY, f"cannot be used: {error}") from error
    try:
        return check_words(words)
    except ValueError as error:
        raise files.invalid(VOCABULARY, str(error)) from error


def _read_network(files: _Files, config: BundleConfig, vocabulary_size: int) -> Network:
    from celltune.models.network.averaged import averaged
    from celltune.models.network.trained import load_network

    weights = _read_weights(files, config, vocabulary_size)
    networks: list[tuple[float, Network]] = []
    for (share, prefix, model), arrays in zip(config.parts(), weights, strict=True):
        try:
            network = load_network(model, vocabulary_size, len(config.classes), arrays)
        except ValueError as error:
            raise files.invalid(WEIGHTS, _mismatch(prefix, error)) from error
        networks.append((share, network))
    return averaged(networks)


def _read_weights(
    files: _Files, config: BundleConfig, vocabulary_size: int
) -> list[dict[str, NDArray[Any]]]:
    """Return the weights of each model, whose shapes are those that its config needs."""

    def check(specs: Specs) -> None:
        grouped = _by_model(files, config, specs)
        for (_, prefix, model), own in zip(config.parts(), grouped, strict=True):
            try:
                check_shapes(model, vocabulary_size, len(config.classes), own)
            except ValueError as error:
                raise files.invalid(WEIGHTS, _mismatch(prefix, error)) from error

    if all(model.wide == "only" for model in config.architectures):
        return [{} for _ in config.parts()]
    return _by_model(files, config, files.arrays(WEIGHTS, check))


def _mismatch(prefix: str, error: ValueError) -> str:
    model = f"model {prefix.rstrip('.')} of the ensemble" if prefix else "the model"
    return f"does not match {model}: {error}"


def _by_model(
    files: _Files, config: BundleConfig, items: Mapping[str, Item]
) -> list[dict[str, Item]]:
    """Return the items of each model, without the prefix of their names."""
    if config.model is not None:
        return [dict(items)]
    models: dict[str, dict[str, Item]] = {prefix: {} for _, prefix, _ in config.parts()}
    for name, item in items.items():
        index, dot, rest = name.partition(".")
        if index + dot not in models:
            raise files.invalid(WEIGHTS, f"contains {quoted(name)}, which belongs to no model")
        models[index + dot][rest] = item
    return list(models.values())


def _read_wide(files: _Files, config: BundleConfig) -> WideModel:
    try:
        wide = WideModel.from_arrays(files.arrays(WIDE))
    except DataError as error:
        raise files.invalid(WIDE, f"contains no wide part: {str(error).rstrip('.')}") from error
    expected = 1 if len(config.classes) == 2 else len(config.classes)
    if wide.outputs != expected:
        raise files.invalid(
            WIDE,
            f"has {counted(wide.outputs, 'output')}, but {len(config.classes)} classes need "
            f"{expected}",
        )
    return wide


@contextmanager
def _memory(path: Path) -> Iterator[None]:
    """Report a model that does not fit into memory."""
    try:
        yield
    except MemoryError as error:
        raise ModelError(
            f"The bundle {path} does not fit into memory. Use a machine with more memory."
        ) from error


def _invalid(path: Path, name: str, reason: str) -> ModelError:
    return ModelError(
        f"The bundle {path} is invalid: {name} {reason}. Copy the complete folder again, or export "
        "the model again."
    )
