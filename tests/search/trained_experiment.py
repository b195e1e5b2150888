"""An experiment whose trials were trained for real, without a cluster."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.config.loading import parse_config
from celltune.search.ledger.events import (
    EpochReported,
    ExperimentCreated,
    TrialCreated,
    TrialFailed,
    TrialStopped,
)
from celltune.search.storage.local import LocalExperiment
from celltune.search.storage.locate import new_experiment
from celltune.search.tuning.trial import TrialTask, run_trial

PARAMS: dict[str, Any] = {
    "cell": "gru",
    "hidden_size": 8,
    "num_layers": 1,
    "bidirectional": True,
    "learning_rate": 0.02,
    "embedding_size": 8,
    "readout": "max",
}
EPOCHS = (3, 1)
"""Number of epochs of trials 0 and 1; trial 2 failed before its first epoch."""


def make_experiment(
    storage: Path, cache: Path, name: str = "small", **data: Any
) -> LocalExperiment:
    """Create an experiment with checkpoints of trials 0 (the best) and 1, and a failed trial 2."""
    synthetic = {"source": "synthetic", "reviews": 300, "label_noise": 0.0}
    raw = {
        "name": name,
        "data": data if "source" in data else {**synthetic, **data},
        "space": {**PARAMS, "hidden_size": {"low": 4, "high": 8}},
        "budget": {"trials": 3, "max_epochs": 3},
        "baselines": False,
    }
    config = parse_config(raw)
    prepared = prepare(config.data, cache_dir=cache)
    folder = new_experiment(name, storage)
    folder.create(config, ExperimentCreated(at=1.0, fingerprint=prepared.fingerprint))
    with folder.open_ledger() as ledger:
        for number, epochs in enumerate(EPOCHS):
            params = {**PARAMS, "hidden_size": 8 - 4 * number}
            ledger.append(TrialCreated(at=2.0, number=number, params=params, max_epochs=3))
            task = TrialTask(number, params, config.seed, folder.checkpoints(number))
            for done in islice(run_trial(task, prepared), epochs):
                ledger.append(
                    EpochReported(
                        at=3.0,
                        number=number,
                        epoch=done.epoch,
                        metrics=done.metrics,
                        checkpoint=done.checkpoint,
                    )
                )
            ledger.append(TrialStopped(at=4.0, number=number, reason="completed"))
        ledger.append(TrialCreated(at=2.0, number=2, params=PARAMS, max_epochs=3))
        ledger.append(TrialFailed(at=4.0, number=2, error="it broke"))
    return folder


WIDE_TRIALS: tuple[dict[str, Any], ...] = ({"wide": "only"}, {"wide": "add", **PARAMS})
"""The trials of `make_wide_experiment`."""


def make_wide_experiment(storage: Path, cache: Path, name: str = "wide") -> LocalExperiment:
    """Create an experiment with one epoch of the wide part alone and of a network next to it."""
    raw = {
        "name": name,
        "data": {"source": "synthetic", "reviews": 300, "label_noise": 0.0, "wide": True},
        "space": {**PARAMS, "wide": "add", "hidden_size": {"low": 4, "high": 8}},
        "first_trials": [{"wide": "only"}],
        "budget": {"trials": 2, "max_epochs": 1},
    }
    config = parse_config(raw)
    prepared = prepare(config.data, cache_dir=cache)
    folder = new_experiment(name, storage)
    folder.create(config, ExperimentCreated(at=1.0, fingerprint=prepared.fingerprint))
    with folder.open_ledger() as ledger:
        for number, params in enumerate(WIDE_TRIALS):
            ledger.append(TrialCreated(at=2.0, number=number, params=params, max_epochs=1))
            task = TrialTask(number, params, config.seed, folder.checkpoints(number))
            done = next(run_trial(task, prepared))
            ledger.append(EpochReported(at=3.0, number=number, **asdict(done)))
            ledger.append(TrialStopped(at=4.0, number=number, reason="completed"))
    return folder
