"""Exported models: damaged files, and absurd content whose digests are valid.

Damaged content must not change a prediction. Forged content may, but it has to be a possible one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

from _hostile import catalogue, special
from _hostile.box import Box
from _hostile.cases import ORIGINAL, Case, Kind
from _hostile.kinds.ledgers import possible_numbers
from _hostile.mutations import (
    TEXTS,
    damage_file,
    dumped,
    files_of,
    mutated_json,
    mutated_tensors,
)

MANIFEST = "manifest.json"


def build(box: Box, random: Random) -> Case:
    """Change a bundle."""
    folder = box / "bundles" / random.choice(("trial", "ensemble", "linear"))
    strategy, is_damage = random.choices(
        (
            (_damaged, True),
            (_special, True),
            (_manifest, False),
            (_json, False),
            (_arrays, False),
            (_absurd, False),
            (_swapped, False),
        ),
        (4, 2, 2, 4, 4, 3, 1),
    )[0]
    label = f"{folder.name}: {strategy(folder, box, random)}"
    commands = random.sample(catalogue.for_bundle(f"../bundles/{folder.name}"), 3)
    if is_damage:
        return Case(label, commands, (ORIGINAL,))
    return Case(label, commands, check=possible_numbers)


def _damaged(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    return damage_file(files_of(folder), random)


def _special(folder: Path, box: Box, random: Random) -> str:
    return special.replace_any([folder, *files_of(folder)], box, random)


def _manifest(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    manifest, label = mutated_json(json.loads((folder / MANIFEST).read_bytes()), random)
    (folder / MANIFEST).write_bytes(dumped(manifest))
    return f"{MANIFEST} {label}"


def _json(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    name = random.choice(("config.json", "config.json", "vocabulary.json"))
    content, label = mutated_json(
        json.loads((folder / name).read_bytes()), random, random.choice((1, 1, 2))
    )
    store(folder, name, dumped(content))
    return f"{name} {label}"


def _arrays(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    path = random.choice([path for path in files_of(folder) if path.suffix == ".safetensors"])
    content, label = mutated_tensors(path.read_bytes(), random)
    store(folder, path.name, content)
    return f"{path.name} {label}"


def _absurd(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    """Set a value that has the right type but makes no sense."""
    config: Any = json.loads((folder / "config.json").read_bytes())
    action = random.choice(("classes", "sizes", "text", "vocabulary", "weights"))
    if action == "classes":
        config["classes"] = random.choice(
            (
                ["a", "a"],
                [],
                ["a"],
                [""] * 2,
                list(TEXTS[8:14]),
                random.sample(TEXTS, 2),
                ["x"] * 9_999,
            )
        )
    elif action == "vocabulary":
        words: Any = random.choice(
            (
                [],
                ["<unk>"],
                ["<unk>", "<pad>"],
                ["<unk>", "<pad>", "a", "a"],
                list(TEXTS),
                ["a"] * 99_999,
            )
        )
        store(folder, "vocabulary.json", dumped(words))
    elif action == "weights" and config.get("members"):
        config["members"][0]["weight"] = random.choice((0, -1, 1e308, float("nan"), "1"))
    else:
        models = [config.get("model"), *(member["model"] for member in config.get("members", ()))]
        section = config["text"] if action == "text" else next(m for m in models if m)
        key = random.choice([key for key in section if not isinstance(section[key], dict)])
        section[key] = random.choice((0, -1, 1, 10**6, 10**9, 2**62, 1e300, True, "none", None))
        action = f"{action} {key} = {section[key]}"
    store(folder, "config.json", dumped(config))
    return f"absurd {action}"


def _swapped(folder: Path, box: Box, random: Random) -> str:
    other = box / "bundles" / random.choice(("trial", "ensemble", "linear"))
    path = random.choice(files_of(other))
    if random.random() < 0.5:
        store(folder, path.name, path.read_bytes())
    else:
        (folder / path.name).write_bytes(path.read_bytes())
    return f"{path.name} of {other.name}"


def store(folder: Path, name: str, content: bytes) -> None:
    """Write a file and its entry in the manifest."""
    (folder / name).write_bytes(content)
    manifest: Any = json.loads((folder / MANIFEST).read_bytes())
    if name != MANIFEST:
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"bytes": len(content), "sha256": digest}
        (folder / MANIFEST).write_bytes(dumped(manifest))


BUNDLES = Kind("bundles", 18, build)
