"""Published models for the tests: their configs and their results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from celltune.data_prep.types import JSON
from celltune.search.evaluation.checkpoints import LAST, retraining_name
from celltune.search.evaluation.published_models import PublishedModel, load_published_models
from celltune.search.ledger.events import (
    EvaluationFailed,
    EvaluationReported,
    ExperimentCreated,
    TrialCreated,
)
from celltune.search.metrics import combine_scores, score_split

RAW: dict[str, Any] = {
    "name": "old",
    "data": {"source": "synthetic", "reviews": 40, "test_size": 10},
    "space": {"cell": "gru", "hidden_size": 4, "embedding_size": 4},
    "budget": {"trials": 1, "max_epochs": 2},
    "early_stopping": None,
    "published": {"source": "A paper", "reported": {"test_accuracy": 0.9, "parameters": 100}},
}


def write_config(folder: Path, name: str = "old", **changes: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**RAW, "name": name, **changes}))
    return path


def load_one(path: Path, storage: Path, scale: float = 1.0) -> PublishedModel:
    (model,) = load_published_models(path, scale=scale, storage=storage)
    return model


def ledger_of(model: PublishedModel) -> Path:
    return Path(model.experiment.location) / "ledger.jsonl"


def start_training(model: PublishedModel) -> None:
    """Create the experiment of a model and its trial."""
    model.experiment.create(model.config, ExperimentCreated(at=0.0, fingerprint="f"))
    with model.experiment.open_ledger() as ledger:
        ledger.append(
            TrialCreated(at=0.0, number=0, params=dict(model.config.space.fixed), max_epochs=2)
        )


def record_epochs(model: PublishedModel, seconds: Sequence[float]) -> None:
    """Leave the checkpoint of a training with seed 1 that was interrupted after some epochs."""
    start_training(model)
    meta: dict[str, JSON] = {"epochs": 2, "curve": [{"seconds": value} for value in seconds]}
    name = retraining_name(1, "train") + LAST
    model.experiment.checkpoints(0).save(({"x": torch.zeros(1)}, meta), name)


def record_failure(model: PublishedModel, error: str, seed: int = 1) -> None:
    with model.experiment.open_ledger() as ledger:
        ledger.append(EvaluationFailed(at=0.0, number=0, seed=seed, on="train", error=error))


def record_result(
    model: PublishedModel, *, seed: int = 1, seconds: float = 75.4, correct: int = 4
) -> None:
    """Write the result of a seed, which classifies `correct` of 4 documents correctly."""
    if not model.experiment.is_complete():
        start_training(model)
    labels = np.array([0, 1, 1, 0])
    predicted = np.where(np.arange(4) < correct, labels, 1 - labels)
    scores = score_split(labels, predicted, None, 2)
    metrics = {"seconds": seconds, "parameters": 123456.0, "vector_coverage": 0.8}
    with model.experiment.open_ledger() as ledger:
        ledger.append(
            EvaluationReported(
                at=0.0,
                number=0,
                seed=seed,
                epoch=2,
                on="train",
                classes=["a", "b"],
                test_fingerprint="t",
                **vars(combine_scores(scores, scores, metrics)),
            ),
        )
