"""The original files: experiments, exported models, prepared data and the folders around them.

They are made by the commands themselves, in a process of its own.
"""

from __future__ import annotations

import csv
import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from _hostile import archives, standins
from _hostile.running import run_here
from celltune.data_prep.io.native_build import libraries_dir

INTERRUPTED = 130

CONFIG: dict[str, Any] = {
    "name": "small",
    "seed": 1,
    "data": {
        "source": "synthetic",
        "reviews": 300,
        "test_size": 0.2,
        "wide": True,
    },
    "space": {
        "wide": ["add", "none"],
        "cell": ["gru", "lstm"],
        "hidden_size": {"low": 4, "high": 8},
        "embedding_size": 8,
        "learning_rate": {"low": 0.005, "high": 0.05, "log": True},
    },
    "budget": {"trials": 4, "max_epochs": 2},
    "early_stopping": {"grace_period": 1, "reduction_factor": 2},
    "sampler": {"startup_trials": 2},
}
"""The config of all experiments."""

PLANTED = (
    "from pathlib import Path\nPath(__file__).parents[1].joinpath('outside/executed').touch()\n"
)
"""A module that must not be imported from the working directory."""


def make(root: Path) -> None:
    """Make the original files in a new folder."""
    for name in (
        "storage",
        "bundles",
        "cache",
        "outside/victim",
        "cwd/models",
        "matplotlib",
        "home",
    ):
        (root / name).mkdir(parents=True)
    compiled = libraries_dir()
    os.environ.update(
        HOME=str(root / "home"),
        CELLTUNE_STORAGE=str(root / "storage"),
        CELLTUNE_CACHE=str(root / "cache"),
        MPLCONFIGDIR=str(root / "matplotlib"),
    )
    if compiled.is_dir():  # Compiling takes seconds.
        shutil.copytree(compiled, libraries_dir())
    standins.install()
    config = root / "small.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    _run("launch", str(config))
    _run("launch", str(config), "--name", "other", "--set", "seed=2")
    standins.STOP_AFTER.append(3)
    _run("launch", str(config), "--name", "open", expected=INTERRUPTED)
    _run("ensemble", "small", "other", "--size", "3")
    _run("evaluate", "small", "--top", "1", "--seeds", "1")
    _run("evaluate", "small", "--ensemble", "--no-baselines")
    bundles = root / "bundles"
    _run("export", "small", "-o", str(bundles / "trial"))
    _run("export", "small", "--ensemble", "-o", str(bundles / "ensemble"))
    _run("export", "small", "--baseline", "-o", str(bundles / "linear"))
    # Also prepares what the commands need at their first use: compiled code, lists of fonts.
    for bundle in ("trial", "ensemble", "linear"):
        _run("predict", str(bundles / bundle), "good", "--explain")
    _run("graph", "small", "-o", str(root / "home/graph.png"))
    archives.make(root / "bombs")
    _write_neighbours(root)
    shutil.rmtree(root / "home")


def _run(*arguments: str, expected: int = 0) -> None:
    outcome = run_here(arguments)
    if outcome.code != expected:
        shown = outcome.stderr.decode() + outcome.text + outcome.error
        raise SystemExit(f"celltune {' '.join(arguments)} ended with {outcome.code}:\n{shown}")


def _write_neighbours(root: Path) -> None:
    """Write files that no command may touch, and modules that none may import."""
    for path in ("outside/victim.txt", "outside/victim/state.json", "outside/victim/data.bin"):
        (root / path).write_text("do not touch")
    for module in ("numpy.py", "search.py", "sitecustomize.py", "models/__init__.py", "json.py"):
        (root / "cwd" / module).write_text(PLANTED)


def reviews(count: int) -> list[tuple[str, str]]:
    """Return generated texts and their labels, 0 or 1."""
    words = ("plot", "actor", "film", "scene", "music", "story", "end", "joke")
    rows = []
    for number in range(count):
        label = number % 2
        first, second = words[number % 8], words[(number * 5 + 3) % 8]
        judgement = ("boring", "wonderful")[label]
        rows.append((f"the {first} is {judgement} and the {second} too, {number}", str(label)))
    return rows


def write_csv(path: Path, count: int = 60) -> None:
    """Write a table of generated texts, gzipped if the name ends in .gz."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(reviews(count))
