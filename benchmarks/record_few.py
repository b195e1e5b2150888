"""Record learning curves on few documents, which `benchmarks/short_searches.py` replays.

Usage: python benchmarks/record_few.py [--reviews REVIEWS] [--configurations 36] [--epochs 6]
       [--out benchmarks/results/curves-few.json]

REVIEWS is a csv.gz file with the columns text and label. Models with a wide part (`wide: add`)
train on 800 reviews. Of 800 others, 200 are the validation documents of the simulated searches, and
the accuracy on the remaining 600 is what a search achieves. Configuration number i is drawn with
the seed (seed, i) from `SPACE` and trained for all epochs by one thread. The output contains, for
each epoch, the metrics of the validation documents, the gain over the wide part with its standard
error, the accuracy on the other documents, and CPU seconds. An interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _measure import RESULTS, REVIEWS
from record_curves import write

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.config.space import Space, model_and_training
from celltune.search.config.space_parsing import parse_space
from celltune.search.tuning.trial import trial_seed
from celltune.search.tuning.valid_predictions import in_document_order

SPACE: dict[str, Any] = {
    "wide": "add",
    "cell": ["lstm", "gru"],
    "hidden_size": {"low": 16, "high": 64, "log": True},
    "bidirectional": [True, False],
    "dropout": {"low": 0.0, "high": 0.6},
    "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
    "embedding_size": 50,
    "embedding_std": {"low": 0.05, "high": 1.0, "log": True},
    "readout": "max",
    "batch_size": [16, 32],
}
SIZES: dict[str, Any] = {"train_size": 800, "valid_size": 800, "max_tokens": 80, "seed": 5}
VALIDATION = 200
SEED = 7


def draw(space: Space, number: int) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=trial_seed(SEED, number))
    return space.suggest(optuna.create_study(sampler=sampler).ask())


def wide_losses(data: PreparedData) -> np.ndarray:
    """Return the cross-entropy of the wide part alone, (n,)."""
    if data.valid.wide is None:
        raise RuntimeError("The data has no wide part.")
    log_odds = data.valid.wide[:, 0].astype(float)
    return np.logaddexp(0, np.where(np.asarray(data.valid.labels) == 1, -log_odds, log_odds))


def scores(losses: np.ndarray, gains: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """Return the scores of an epoch from the values of each document, (n,)."""
    # The documents are sorted by class.
    order = np.random.default_rng(0).permutation(len(losses))
    valid, others = order[:VALIDATION], order[VALIDATION:]
    return {
        "valid_accuracy": correct[valid].mean(),
        "valid_loss": losses[valid].mean(),
        "wide_gain": gains[valid].mean(),
        "wide_gain_error": gains[valid].std(ddof=1) / np.sqrt(VALIDATION),
        "other_accuracy": correct[others].mean(),
        "other_loss": losses[others].mean(),
    }


def record(number: int, data: PreparedData, epochs: int) -> dict[str, Any]:
    """Train one configuration."""
    from celltune.models.training.metrics import Predictions
    from celltune.models.training.trainer import Trainer

    params = draw(parse_space(SPACE), number)
    seed = trial_seed(1, number)
    trainer = Trainer(*model_and_training(params), data, seed=seed, clock=time.process_time)
    labels, wide = np.asarray(data.valid.labels), wide_losses(data)
    curve: dict[str, list[float]] = {}
    for _ in range(epochs):
        predictions = Predictions()
        metrics = trainer.run_epoch(predictions)
        logs = in_document_order(predictions, data.valid)
        losses = -logs[np.arange(len(labels)), labels]
        values = scores(losses, wide - losses, logs.argmax(1) == labels)
        for name, value in {**values, "seconds": metrics.seconds}.items():
            curve.setdefault(name, []).append(round(float(value), 5))
    return {"number": number, "params": params, **curve}


def wide_alone(data: PreparedData) -> dict[str, float]:
    """Return the scores of the wide part alone."""
    losses = wide_losses(data)
    values = scores(losses, np.zeros(len(losses)), losses < np.log(2))
    return {name: round(float(value), 5) for name, value in values.items()}


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=Path, default=REVIEWS)
    parser.add_argument("--configurations", type=int, default=36)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS / "curves-few.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = DataConfig(source="csv", path=options.reviews, keep="both", wide=True, **SIZES)
    with tempfile.TemporaryDirectory() as scratch:
        data = prepare(config, cache_dir=Path(scratch))
    recording: dict[str, Any] = {"data": SIZES, "space": SPACE, "curves": []}
    if options.out.exists():
        recording = json.loads(options.out.read_text())
    recording["wide_alone"] = wide_alone(data)
    for number in range(len(recording["curves"]), options.configurations):
        recording["curves"].append(record(number, data, options.epochs))
        write(options.out, recording)
        print(json.dumps(recording["curves"][-1]), flush=True)


if __name__ == "__main__":
    main()
