"""A search without a cluster and without training: a formula computes the metrics."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import optuna

from celltune.search.config.loading import parse_config
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import Event, ExperimentCreated
from celltune.search.ledger.ledger import Ledger
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import new_experiment
from celltune.search.tuning.controller import Assignment, SearchController
from celltune.search.tuning.tpe import TPESampler
from celltune.search.types import EpochReport, ParameterValue

RAW: dict[str, Any] = {
    "name": "demo",
    "seed": 3,
    "data": {"source": "synthetic", "reviews": 40},
    "space": {
        "cell": ["gru", "lstm"],
        "hidden_size": {"low": 4, "high": 64, "log": True},
        "num_layers": [1, 2],
        "layer_dropout": {"low": 0.0, "high": 0.5},
        "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "embedding_size": 8,
    },
    "budget": {"trials": 12, "max_epochs": 4},
    "early_stopping": {"grace_period": 1, "reduction_factor": 2},
    "sampler": {"startup_trials": 4},
}


Metrics = Callable[[dict[str, ParameterValue], int], dict[str, float]]
"""Returns the metrics of an epoch of a trial with these hyperparameters."""


def make_config(**changes: Any) -> SearchConfig:
    """Return the config `RAW` with other values for some of its top-level keys."""
    return parse_config({**RAW, **changes})


def start_ledger(path: Path) -> Ledger:
    """Open a ledger; a new one starts with its first event."""
    ledger = Ledger(path)
    if not ledger.events:
        ledger.append(ExperimentCreated(at=0.0, fingerprint="f"))
    return ledger


def make_controller(config: SearchConfig, ledger: Ledger) -> SearchController:
    return SearchController(config, ledger, clock=lambda: 1.0)


def study_of(controller: SearchController) -> optuna.Study:
    """Return the Optuna study of a controller whose sampler is TPE."""
    assert isinstance(controller.sampler, TPESampler)
    return controller.sampler.study


def formula(params: dict[str, ParameterValue], epoch: int) -> dict[str, float]:
    """Return the metrics of an epoch: better near learning_rate 10**-2.5 and for larger cells."""
    if params.get("wide") == "only":
        return {"valid_accuracy": 0.7, "valid_loss": 0.3, "seconds": 0.5}
    rate = params["learning_rate"]
    size = params["hidden_size"]
    assert isinstance(rate, float)
    assert isinstance(size, int)
    fit = 1 - abs(math.log10(rate) + 2.5) / 4 + math.log2(size) / 60
    accuracy = 0.5 + 0.45 * fit * (1 - 0.5**epoch)
    return {"valid_accuracy": accuracy, "valid_loss": 1 - accuracy, "seconds": 0.5}


def steps(
    controller: SearchController, workers: int = 1, metrics_of: Metrics = formula
) -> Iterator[None]:
    """Run trials in turns and yield after each report, so that a test can stop anywhere."""
    running: list[tuple[Assignment, int]] = []
    while True:
        while len(running) < workers:
            assignment = controller.next()
            if assignment is None:
                break
            running.append((assignment, len(assignment.checkpoints)))
        if not running:
            return
        assignment, done = running.pop(0)
        epoch = done + 1
        metrics = metrics_of(assignment.params, epoch)
        if controller.report(assignment.number, [EpochReport(epoch, metrics, f"epoch-{epoch}")]):
            running.append((assignment, epoch))
        yield


def finished_search(storage: Path, config: SearchConfig) -> LocalExperiment:
    """Create an experiment in a folder with the events of a finished search."""
    folder = new_experiment(config.name, storage)
    folder.create(config, *_finished_events(config.model_dump_json()))
    return folder


@cache
def _finished_events(config: str) -> tuple[Event, ...]:
    # Cached, because each event of a search costs an fsync.
    parsed = parse_config(json.loads(config))
    with (
        tempfile.TemporaryDirectory() as folder,
        start_ledger(Path(folder) / "ledger.jsonl") as ledger,
    ):
        controller = make_controller(parsed, ledger)
        controller.start(celltune="1", host="h", pid=1, versions={"python": "3"})
        list(steps(controller))
        controller.end("finished")
        return tuple(ledger.events)
