"""Checkpoints with stored predictions: damaged, forged with valid digests, replaced.

Damaged content must not change a prediction. Forged weights may, but it has to be a possible one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

from _hostile import catalogue, special
from _hostile.box import Box
from _hostile.cases import ORIGINAL, Case, Kind
from _hostile.kinds.folders import checkpoint_files
from _hostile.kinds.ledgers import possible_numbers
from _hostile.mutations import dumped, mutated_bytes, mutated_json, mutated_tensors

STATE, TENSORS = "state.json", "tensors.safetensors"


def build(box: Box, random: Random) -> Case:
    """Change a checkpoint of an experiment."""
    name = random.choice(("small", "open"))
    folders = sorted({path.parent for path in checkpoint_files(box / f"storage/{name}")})
    count = random.choice((1, 1, len(folders)))
    strategy, is_damage = random.choices(
        ((_damaged, True), (_state, False), (_tensors, False), (_special, True), (_swapped, False)),
        (4, 3, 4, 2, 1),
    )[0]
    labels = [strategy(folder, box, random) for folder in random.sample(folders, count)]
    first = random.choice(("predict", "resume", "ensemble", "export"))
    commands = catalogue.for_experiment(name, random, first=first)
    label = f"{name}: {'; '.join(labels)[:200]}"
    if is_damage:
        return Case(label, commands, (ORIGINAL,))
    return Case(label, commands, check=possible_numbers)


def _damaged(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    path = folder / random.choice((STATE, TENSORS))
    content, label = mutated_bytes(path.read_bytes(), random)
    path.write_bytes(content)
    return f"{folder.name}/{path.name} {label}"


def _special(folder: Path, box: Box, random: Random) -> str:
    return special.replace_any([folder, folder / STATE, folder / TENSORS], box, random)


def _state(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    """Change the values of the state; digests are those of the changed content."""
    description = json.loads((folder / STATE).read_bytes())
    if random.random() < 0.3:
        description, label = mutated_json(description, random)
    else:
        description["state"], label = mutated_json(description["state"], random)
        text = json.dumps(description["state"], sort_keys=True)
        description["state_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / STATE).write_bytes(dumped(description))
    return f"{folder.name}/{STATE} {label}"


def _tensors(folder: Path, box: Box, random: Random) -> str:  # noqa: ARG001
    content, label = mutated_tensors((folder / TENSORS).read_bytes(), random)
    _store(folder, content)
    return f"{folder.name}/{TENSORS} {label}"


def _swapped(folder: Path, box: Box, random: Random) -> str:
    """Use the tensors of another trial."""
    other = random.choice([p for p in checkpoint_files(box / "storage/other") if p.name == TENSORS])
    _store(folder, other.read_bytes())
    return f"{folder.name}/{TENSORS} of {other.parent}"


def _store(folder: Path, content: bytes) -> None:
    (folder / TENSORS).write_bytes(content)
    description = json.loads((folder / STATE).read_bytes())
    description["bytes"] = len(content)
    description["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / STATE).write_bytes(dumped(description))


CHECKPOINTS = Kind("checkpoints", 8, build)
