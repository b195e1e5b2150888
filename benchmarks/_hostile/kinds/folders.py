"""Folders of experiments: special files, missing files, edited configs, and odd neighbours.

The listing has to show the other experiments as before.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import yaml

from _hostile import catalogue, special
from _hostile.box import Box
from _hostile.cases import ORIGINAL, Case, Command, Kind
from _hostile.mutations import TEXTS, mutated_bytes, mutated_json

CONFIG = "experiment.yaml"
_PARTS = (
    "",
    CONFIG,
    "ledger.jsonl",
    "lock",
    "stop",
    "scratch",
    "trials",
    "trials/0",
    "trials/0/epoch-1",
    "trials/0/epoch-2",
)


def build(box: Box, random: Random) -> Case:
    """Change the folder of an experiment."""
    strategies = (_special, _edited, _damaged_config, _renamed, _neighbour)
    return random.choices(strategies, (6, 3, 2, 1, 2))[0](box, random)


def _special(box: Box, random: Random) -> Case:
    name = random.choice(("small", "open"))
    part = random.choice(_PARTS)
    path = box / f"storage/{name}" / part
    path.parent.mkdir(parents=True, exist_ok=True)
    action = random.choice(special.ACTIONS)
    special.replace(path, action, box)
    label = f"{name}/{part}: {action}"
    commands = catalogue.for_experiment(name, random, first=random.choice(("resume", "evaluate")))
    if catalogue.list_command() not in commands:
        commands = [catalogue.list_command(), *commands]
    return Case(label, commands, (ORIGINAL,), check=others_are_listed)


def _edited(box: Box, random: Random) -> Case:
    """Edit a value of the config, as a careless user may do between two runs."""
    name = random.choice(("small", "open"))
    path = box / f"storage/{name}/{CONFIG}"
    config, label = mutated_json(yaml.safe_load(path.read_text()), random, random.choice((1, 1, 3)))
    path.write_text(_yaml(config), "utf-8")
    return _config_case(name, label, random)


def _damaged_config(box: Box, random: Random) -> Case:
    name = random.choice(("small", "open"))
    path = box / f"storage/{name}/{CONFIG}"
    content, label = mutated_bytes(path.read_bytes(), random)
    path.write_bytes(content)
    return _config_case(name, label, random)


def _config_case(name: str, label: str, random: Random) -> Case:
    commands = catalogue.for_experiment(name, random, first=random.choice(("list", "resume")))
    return Case(f"{name}/{CONFIG}: {label}", commands, (ORIGINAL,), check=others_are_listed)


def _renamed(box: Box, random: Random) -> Case:
    """Copy an experiment to a name that no launch would accept."""
    name = random.choice([text for text in TEXTS if _is_file_name(text)])
    shutil.copytree(box / "storage/small", box / "storage" / name, symlinks=True)
    commands = [
        catalogue.list_command(),
        Command(("status", "--", name)),
        Command(("leaderboard", "--format", "csv", "--", name)),
        Command(("report", "-o", "../out/page.html", "--", name)),
        Command(("predict", "--format", "csv", "--", name, catalogue.TEXT)),
        Command(("status", "missing")),
    ]
    return Case(f"experiment named {name!r:.40}", commands, check=others_are_listed)


def _neighbour(box: Box, random: Random) -> Case:
    """Add something to the storage that is no experiment."""
    path = box / "storage" / random.choice(("new", "zz.damaged", ".hidden", "small.damaged"))
    if random.random() < 0.5:
        action = random.choice(special.ACTIONS)
        special.replace(path, action, box)
    else:
        path.mkdir()
        (path / "trials").mkdir()
        action = special.replace_any([path / CONFIG, path / "ledger.jsonl"], box, random)
        if random.random() < 0.5 and not os.path.lexists(path / CONFIG):
            shutil.copy(box / "storage/other" / CONFIG, path / CONFIG)
    name = path.name
    commands = [
        catalogue.list_command(),
        Command(("status", name)),
        Command(("status", "missing")),
        Command(("leaderboard", name)),
        Command(("resume", name), writes=(f"storage/{name}",)),
        Command(("launch", "../files/config.yaml", "--name", name, "--dry-run")),
        Command(("predict", name, catalogue.TEXT)),
    ]
    (box / "files/config.yaml").write_text((box / "storage/other" / CONFIG).read_text())
    return Case(f"neighbour {name}: {action}", commands, check=others_are_listed)


def others_are_listed(command: Command, shown: str) -> str:
    """Return what the listing lacks about the experiment that was not changed."""
    if command.arguments != ("list",):
        return ""
    rows = [line.split() for line in shown.splitlines()]
    if not any(row[:3] == ["other", "finished", "4/4"] for row in rows):
        return f"the listing hides 'other': {shown[:500]}"
    return ""


def _yaml(config: Any) -> str:
    try:
        return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, UnicodeEncodeError):
        return repr(config)


def _is_file_name(text: str) -> bool:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size <= 255 and text not in (".", "..") and not {"/", "\0"} & set(text)


def checkpoint_files(experiment: Path) -> list[Path]:
    """Return the files of all checkpoints."""
    return sorted(path for path in (experiment / "trials").rglob("*") if path.is_file())


FOLDERS = Kind("folders", 10, build)
