"""One search of benchmarks/quality.py, by the commands of a user."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from _measure import REPOSITORY, measure

from _quality.sets import TextSet, write_tables
from celltune.search.evaluation.summaries import summaries
from celltune.search.storage.locate import find_experiment

CELLTUNE = str(Path(sys.executable).with_name("celltune"))
ENSEMBLE = "ensemble"
BASELINES = ("tfidf_logistic", "nb_svm", "tfidf_char_logistic")


@dataclass(frozen=True)
class Record:
    """The results of one search.

    Accuracies and F1 scores (macro if there are more than two classes) are those of the test split.
    """

    set_name: str
    seed: int
    accuracy: dict[str, float]
    """By model: the winner, ensemble, and each baseline."""
    f1: dict[str, float]
    winner: dict[str, Any] = field(default_factory=dict)
    """Number of the winning trial, its hyperparameters and validation metrics."""
    wall_seconds: float = 0.0
    """Of the launch, the ensemble and the retraining of the winner, without the baselines."""
    cpu_seconds: float = 0.0
    test_reads: int = 0
    trials: int = 0
    documents: int = 0
    """Documents in the training and the validation split together."""
    overrides: list[str] = field(default_factory=list)
    """Changes of the config besides paths, classes and seeds."""
    log: dict[str, str] = field(default_factory=dict)
    """The last lines that each command printed."""


@dataclass(frozen=True)
class Setting:
    """What all searches have in common."""

    data: Path
    """The folder of the data sets."""
    work: Path
    """The folder of the results, which a repeated call continues."""
    config: Path
    overrides: tuple[str, ...] = ()
    """Changes of the config besides its paths and columns."""
    retrainings: int = 1


def search(text_set: TextSet, seed: int, setting: Setting) -> Record:
    """Run a search and evaluate it, or return the results of an earlier call."""
    name = f"{text_set.name}-{seed}"
    stored = _file(text_set, seed, setting)
    if stored.is_file():
        return Record(**json.loads(stored.read_text()))
    train, test = write_tables(text_set, setting.data, seed, setting.work / "data" / name)
    own = [
        f"data.path={train}",
        f"data.test_path={test}",
        "data.test_size=null",
        f"data.seed={seed}",
        f"seed={seed}",
        *([f"data.classes={list(text_set.classes)}"] if text_set.classes else []),
        *setting.overrides,
    ]
    storage = setting.work / "experiments"
    started = (storage / name).exists()
    launch = ["resume", name] if started else ["launch", str(setting.config), "--name", name]
    changes = [] if started else [part for value in own for part in ("--set", value)]
    commands = {
        "launch": [*launch, *changes],
        "ensemble": ["ensemble", name],
        "evaluate": [
            *("evaluate", name, "--top", "1", "--seeds", str(setting.retrainings)),
            "--no-baselines",
        ],
        "baselines": ["evaluate", name, "--top", "1", "--seeds", str(setting.retrainings)],
        "evaluate_ensemble": ["evaluate", name, "--ensemble"],
    }
    wall = cpu = 0.0
    log: dict[str, str] = {}
    env = {**os.environ, "COLUMNS": "120"}
    for step, arguments in commands.items():
        usage = measure([CELLTUNE, *arguments, "--storage", str(storage)], env)
        log[step] = "\n".join(usage.output.splitlines()[-25:])
        if step in ("launch", "ensemble", "evaluate"):
            wall, cpu = wall + usage.wall, cpu + usage.cpu
    record = Record(
        text_set.name,
        seed,
        documents=len(pd.read_csv(train)),
        overrides=list(setting.overrides),
        wall_seconds=wall,
        cpu_seconds=cpu,
        log=log,
        **_results(name, storage),
    )
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(asdict(record), indent=1))
    return record


def is_finished(text_set: TextSet, seed: int, setting: Setting) -> bool:
    """Return whether `search` would return the results of an earlier call."""
    return _file(text_set, seed, setting).is_file()


def _file(text_set: TextSet, seed: int, setting: Setting) -> Path:
    return setting.work / "records" / f"{text_set.name}-{seed}.json"


def _results(name: str, storage: Path) -> dict[str, Any]:
    """Return what the ledger of a search contains, by the fields of `Record`."""
    snapshot = find_experiment(name, storage).snapshot()
    metric, state = snapshot.config.metric, snapshot.state
    models = {_model(summary): summary for summary in summaries(state, metric)}
    best = state.ranked(metric)[0]
    epoch = best.best(metric)
    return {
        "accuracy": {model: summary["test_accuracy"]["mean"] for model, summary in models.items()},
        "f1": {model: summary["test_f1"]["mean"] for model, summary in models.items()},
        "winner": {
            "trial": best.number,
            "params": dict(best.params),
            "metrics": dict(epoch.metrics) if epoch else {},
        },
        "test_reads": state.test_reads,
        "trials": len(state.trials),
    }


def _model(summary: dict[str, Any]) -> str:
    """Return the key of a model in `Record.accuracy`."""
    names = {"trial": "winner", "ensemble": ENSEMBLE}
    return names.get(summary["kind"]) or str(summary["name"])


def default_config() -> Path:
    """Return the shipped config for labelled text."""
    return REPOSITORY / "configs" / "csv.yaml"
