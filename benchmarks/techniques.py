"""Effect of each technique of training on the validation loss, on two small data sets.

Usage: python benchmarks/techniques.py [--only NAME ...] [--seeds N] [--epochs N] [--reviews FOLDER]

Trains a bidirectional GRU of size 64 on 2,000 reviews (two classes) and on 2,000 reviews with their
ratings as four classes, without and with each technique. The test split is not read. Printed for
each training: the lowest validation loss of an epoch, its accuracy, the loss of the last epoch, and
CPU seconds. Figures, each the mean over data sets and seeds:
  loss_change.NAME    lowest validation loss with the technique minus that without it
  points_change.NAME  accuracy of that epoch, in points, minus that without it
"""

from __future__ import annotations

import argparse
import csv
import gzip
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from _measure import REVIEWS, finish

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.preparation.pipeline import prepare
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.training.trainer import Trainer

BASE: dict[str, Any] = {
    "cell": "gru",
    "hidden_size": 64,
    "bidirectional": True,
    "readout": "max",
    "dropout": 0.5,
    "embedding_std": 1.0,
    "learning_rate": 3e-3,
    "batch_size": 32,
}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "none": {},
    "weight_average": {"weight_average": 0.99},
    "decay": {"warmup_epochs": 0.5, "decay_epochs": 6},
    "wide": {"wide": "add"},
    "wide_output_scale": {"wide": "add", "output_scale": 0.1},
    "word_dropout": {"word_dropout": 0.1},
    "embedding_dropout": {"embedding_dropout": 0.2},
    "label_smoothing": {"label_smoothing": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "max_mean": {"readout": "max_mean"},
    "attention": {"readout": "attention"},
    "class_weights": {"class_weights": "balanced"},
    "adversarial": {"adversarial": 5.0},
}
STARS = {"1": "1-2", "2": "1-2", "3": "3-4", "4": "3-4", "7": "7-8", "8": "7-8"}
"""Class of each rating; higher ratings are the last class."""


@dataclass(frozen=True)
class Result:
    """One training."""

    technique: str
    data: str
    seed: int
    loss: float
    accuracy: float
    last_loss: float
    cpu_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TECHNIQUES, default=list(TECHNIQUES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--reviews", type=Path, default=REVIEWS.parent)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = list(dict.fromkeys(["none", *options.only]))
    with tempfile.TemporaryDirectory() as folder:
        data = load(options.reviews / "train.csv.gz", Path(folder))
    results = [
        train(name, key, data[key], seed, options.epochs)
        for name in names
        for key in data
        for seed in range(1, options.seeds + 1)
    ]
    figures: dict[str, float] = {}
    for name in names[1:]:
        figures[f"loss_change.{name}"] = change(results, name, "loss")
        figures[f"points_change.{name}"] = 100 * change(results, name, "accuracy")
    details = {"trainings": [vars(result) for result in results], "epochs": options.epochs}
    complete = options.only == list(TECHNIQUES) and options.seeds >= 2
    finish("techniques", figures, details, keep=complete)


def load(reviews: Path, folder: Path) -> dict[str, PreparedData]:
    """Prepare both data sets, whose documents are drawn from all training reviews."""
    stars = folder / "stars.csv"
    with gzip.open(reviews, "rt", newline="") as source, stars.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["text", "label"])
        for row in csv.DictReader(source):
            writer.writerow([row["text"], STARS.get(row["rating"], "9-10")])
    return {
        name: prepare(
            DataConfig(
                source="csv",
                path=path,
                classes=classes,
                test_size=1000,
                train_size=2000,
                valid_size=1000,
                max_tokens=256,
                keep="both",
                wide=True,
            ),
            cache_dir=folder,
        )
        for name, path, classes in (
            ("two classes", reviews, None),
            ("four classes", stars, ("1-2", "3-4", "7-8", "9-10")),
        )
    }


def train(technique: str, name: str, data: PreparedData, seed: int, epochs: int) -> Result:
    settings = {**BASE, **TECHNIQUES[technique]}
    model = ModelConfig(**{k: v for k, v in settings.items() if k in ModelConfig.model_fields})
    training = TrainingConfig(
        **{k: v for k, v in settings.items() if k in TrainingConfig.model_fields}
    )
    trainer, cpu = Trainer(model, training, data, seed=seed), time.process_time()
    metrics = [trainer.run_epoch() for _ in range(epochs)]
    best = min(metrics, key=lambda epoch: epoch.valid_loss)
    seconds = time.process_time() - cpu
    last = metrics[-1].valid_loss
    print(
        f"{technique:18} {name:12} seed {seed}: loss {best.valid_loss:.4f} at epoch {best.epoch}, "
        f"accuracy {best.valid_accuracy:.3f}, last loss {last:.4f}, CPU {seconds:.1f} s",
        flush=True,
    )
    return Result(technique, name, seed, best.valid_loss, best.valid_accuracy, last, seconds)


def change(results: list[Result], technique: str, field: str) -> float:
    """Return the mean of a field with a technique minus the mean without techniques."""
    with_it, without = (
        mean(getattr(result, field) for result in results if result.technique == name)
        for name in (technique, "none")
    )
    return with_it - without


if __name__ == "__main__":
    main()
