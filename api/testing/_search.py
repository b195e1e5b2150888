"""A search with simulated trials, for contract suites."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from celltune.search.config.loading import parse_config
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.ledger.ledger import Ledger
from celltune.search.tuning.controller import Assignment, SearchController
from celltune.search.types import EpochReport

MAX_EPOCHS = 4
SPACE: Mapping[str, Any] = {
    "cell": ["gru", "lstm"],
    "hidden_size": {"low": 4, "high": 64, "log": True},
    "num_layers": [1, 2],
    "layer_dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
    "dropout": {"low": 0.0, "high": 0.5},
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "batch_size": {"low": 8, "high": 64, "step": 8},
    "embedding_size": 8,
}
"""A space with every kind of hyperparameter."""


def make_config(**changes: Any) -> SearchConfig:
    """Return a config with a small budget."""
    return parse_config(
        {
            "name": "contract",
            "data": {"source": "synthetic"},
            "space": SPACE,
            "budget": {"trials": 8, "max_epochs": MAX_EPOCHS},
            **changes,
        }
    )


def open_search(config: SearchConfig, ledger: Ledger) -> SearchController:
    """Return the controller of a new or a resumed search."""
    if not ledger.events:
        ledger.append(ExperimentCreated(at=0.0, fingerprint="contract"))
    return SearchController(config, ledger, clock=lambda: 1.0)


def simulated_metrics(
    config: SearchConfig, params: Mapping[str, Any], epoch: int
) -> dict[str, float]:
    """Return metrics that depend on the hyperparameters and improve with each epoch."""
    fit = 1 - abs(math.log10(params["learning_rate"]) + 2.5) / 4 + params["hidden_size"] / 640
    accuracy = 0.5 + 0.4 * fit * (1 - 0.5**epoch)
    metrics = {"valid_accuracy": accuracy, "valid_loss": 1 - accuracy}
    return {**dict.fromkeys(config.reported_metrics, accuracy), **metrics}


def steps(config: SearchConfig, search: SearchController, workers: int = 1) -> Iterator[None]:
    """Run a search with simulated workers, one report per iteration."""
    running: list[tuple[Assignment, int]] = []
    while True:
        while len(running) < workers and (assignment := search.next()) is not None:
            running.append((assignment, len(assignment.checkpoints)))
        if not running:
            return
        assignment, done = running.pop(0)
        metrics = simulated_metrics(config, assignment.params, done + 1)
        report = EpochReport(done + 1, metrics, f"epoch-{done + 1}")
        if search.report(assignment.number, [report]):
            running.append((assignment, done + 1))
        yield


def check_interruptions(config: SearchConfig, folder: Path) -> None:
    """Assert that a search that is interrupted at any report equals an uninterrupted one."""
    with Ledger(folder / "whole.jsonl") as ledger:
        whole = open_search(config, ledger)
        reports = sum(1 for _ in steps(config, whole))
    for count in range(0, reports, max(1, reports // 8)):
        path = folder / f"interrupted-{count}.jsonl"
        with Ledger(path) as ledger:
            running = steps(config, open_search(config, ledger))
            for _ in range(count):
                next(running)
        with Ledger(path) as ledger:
            resumed = open_search(config, ledger)
            for _ in steps(config, resumed):
                pass
        assert resumed.state.trials == whole.state.trials, f"interrupted after {count} reports"
