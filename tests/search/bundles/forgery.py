"""Small bundles of every kind, and changes of them with valid checksums."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from celltune.models.config import ModelConfig
from celltune.models.network.classifier import TextClassifier
from celltune.search.bundles.bundle import write_bundle
from celltune.search.bundles.bundle_config import BundleConfig, BundleMember
from tests.search.bundles.test_wide import RULES, WIDE, WORDS

KINDS = ("recurrent", "wide", "ensemble", "linear")
CLASSES = ("a", "b")
_GRU = {"cell": "gru", "hidden_size": 3, "embedding_size": 2}
_MODELS = {
    "recurrent": [ModelConfig(**_GRU)],
    "wide": [ModelConfig(**_GRU, wide="add")],
    "ensemble": [ModelConfig(**_GRU), ModelConfig(**{**_GRU, "cell": "lstm"}, wide="add")],
    "linear": [ModelConfig(wide="only")],
}


def write_one(folder: Path, kind: str) -> Path:
    """Write a bundle of a kind and return its folder."""
    models = _MODELS[kind]
    classifiers = [
        None if model.wide == "only" else TextClassifier(model, len(WORDS), len(CLASSES))
        for model in models
    ]
    single = len(models) == 1
    tensors = {
        name if single else f"{index}.{name}": tensor
        for index, classifier in enumerate(classifiers)
        for name, tensor in (classifier.state_dict() if classifier else {}).items()
    }
    members = tuple(BundleMember(model=model, weight=1 / len(models)) for model in models)
    config = BundleConfig(
        model=models[0] if single else None,
        members=() if single else members,
        text=RULES,
        classes=CLASSES,
        origin={"experiment": "own", "trial": 0, "epoch": 1},
    )
    reads_wide = any(model.wide != "none" for model in models)
    pages = {"README.md": b"# Model\n"}
    write_bundle(folder, config, WORDS, tensors, pages, WIDE[2] if reads_wide else None)
    return folder


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Replace or add a file, with its entry in the manifest."""
    (folder / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change_manifest(folder, name, {"bytes": len(content), "sha256": digest})


def change_manifest(folder: Path, name: str, entry: Any) -> None:
    """Replace an entry of the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest))


def change_config(folder: Path, **values: Any) -> None:
    """Replace values in config.json; a key such as `model__cell` is that of an inner object."""
    config = json.loads((folder / "config.json").read_text())
    for path, value in values.items():
        inner = config
        *parents, last = path.split("__")
        for key in parents:
            inner = inner[int(key)] if isinstance(inner, list) else inner[key]
        inner[last] = value
    replace_file(folder, "config.json", json.dumps(config).encode())


def arrays_in(folder: Path, name: str) -> dict[str, NDArray[np.float32]]:
    """Return copies of the arrays in a file."""
    return {key: array.copy() for key, array in load((folder / name).read_bytes()).items()}


def replace_arrays(folder: Path, name: str, arrays: dict[str, Any]) -> None:
    """Replace the arrays in a file."""
    replace_file(folder, name, save(arrays))
