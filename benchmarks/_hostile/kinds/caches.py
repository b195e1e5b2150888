"""Prepared data in the cache: damaged, forged with valid digests, replaced; and compiled code.

Damaged data is prepared again, so the numbers stay the original ones.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from _hostile import catalogue, special
from _hostile.box import Box
from _hostile.cases import ORIGINAL, Case, Command, Kind
from _hostile.kinds.ledgers import possible_numbers
from _hostile.mutations import damage_file, dumped, files_of, mutated_bytes, mutated_json

MANIFEST = "manifest.json"


def build(box: Box, random: Random) -> Case:
    """Change the cache."""
    strategy, is_damage = random.choices(
        ((_damaged, True), (_special, True), (_manifest, False), (_array, False)), (4, 2, 2, 4)
    )[0]
    folders = sorted(path for path in (box / "cache").iterdir() if len(path.name) == 32)
    folder = random.choice(folders)
    label = strategy(folder, box, random)
    commands = _commands(random)
    if is_damage:
        return Case(label, commands, (ORIGINAL,))
    return Case(label, commands, check=possible_numbers)


def _commands(random: Random) -> list[Command]:
    using = catalogue.using("small")
    writers = catalogue.writing("open")
    last = Command(("cache", "clear", "00000000"))
    return [
        Command(("cache", "list")),
        using[0],
        random.choice((random.choice(using[1:]), random.choice(writers[1:]))),
        random.choice((Command(("cache", "clear")), last)),
    ]


def _damaged(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    return damage_file(files_of(folder), random)


def _special(folder: Path, box: Box, random: Random) -> str:
    lock = folder.with_name(f"{folder.name}.lock")
    return special.replace_any([folder, lock, *files_of(folder)], box, random)


def _manifest(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    manifest, label = mutated_json(json.loads((folder / MANIFEST).read_bytes()), random)
    _seal(folder, manifest)
    return f"{MANIFEST} {label}"


def _array(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    """Replace an array by one of another shape, type or content; digests are valid."""
    path = random.choice([path for path in files_of(folder) if path.suffix == ".npy"])
    values = np.load(path, allow_pickle=False)
    action = random.choice(("type", "shape", "values", "length", "empty", "header", "object"))
    if action == "type":
        values = values.astype(random.choice(("float64", "int8", "complex64", "U4", "bool", ">i8")))
    elif action == "shape":
        values = values.reshape(random.choice(((-1, 1), (1, -1), (1, 1, -1))))
    elif action == "values":
        value = random.choice((-1, 0, 2**31 - 1, -(2**31), 1, 10**6))
        values = np.full_like(values, value) if random.random() < 0.5 else values[::-1].copy()
    elif action == "length":
        values = values[: len(values) // 2] if random.random() < 0.5 else np.resize(values, 99_999)
    elif action == "empty":
        values = values[:0]
    file = io.BytesIO()
    np.save(file, values.astype(object) if action == "object" else values, allow_pickle=True)
    content = file.getvalue()
    if action == "header":
        content, _ = mutated_bytes(content[:128], random)
        content += values.tobytes()
    path.write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["sha256"][path.name] = hashlib.sha256(content).hexdigest()
    _seal(folder, manifest)
    return f"{path.name} {action}"


def _seal(folder: Path, manifest: Any) -> None:
    if isinstance(manifest, dict):
        manifest.pop("manifest_sha256", None)
        text = json.dumps(manifest, sort_keys=True)
        manifest["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_bytes(dumped(manifest))


def build_native(box: Box, random: Random) -> Case:
    """Change compiled code; a process of its own loads it."""
    path = random.choice(sorted((box / "cache").glob("native*/*.so")))
    action = random.choice(("truncated", "damaged", "special", "other mode", "link"))
    if action == "truncated":
        path.write_bytes(path.read_bytes()[: random.choice((0, 10, 4096, 20_000))])
    elif action == "damaged":
        content = bytearray(path.read_bytes())
        start = random.randrange(len(content))
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))
        path.write_bytes(content)
    elif action == "special":
        action = special.replace_any([path], box, random)
    elif action == "other mode":
        path.parent.chmod(0o777)
        path.chmod(0o777)
    else:
        path.rename(box / "outside/library.so")
        path.symlink_to(box / "outside/library.so")
    command = catalogue.for_bundle("../bundles/trial")[0]
    own = Command(command.arguments, numbers=True, own_process=True)
    return Case(f"{path.name}: {action}", [own], (ORIGINAL,))


CACHES = Kind("caches", 6, build)
NATIVE = Kind("native", 0.2, build_native)
