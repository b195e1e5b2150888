"""Test accuracy and training time of a bidirectional GRU on IMDB without pretrained vectors.

Usage: python benchmarks/imdb.py [--quick] [--reviews FOLDER] [--epochs 5] [--validate-only]

FOLDER contains train.csv.gz and test.csv.gz with the columns text and label. 2,500 of the 25,000
training reviews are held out for validation. The validation loss selects the epoch; it also
selected the learning rate, dropout and number of tokens (--validate-only). The test split is
evaluated once, at the end, with the weights of the selected epoch. benchmarks/epoch.py compares an
epoch of the same model with a plain script.
Figures:
  test_accuracy      in percent, of the selected epoch
  train_seconds      wall-clock time of all epochs, including validation
  cpu_seconds        the same in CPU time, which depends less on other load
  tokens_per_second  of training and validation, by wall-clock time
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from _measure import REVIEWS, finish

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.preparation.pipeline import prepare, prepare_test
from celltune.models.config import ModelConfig, TrainingConfig
from celltune.models.training import checkpoint
from celltune.models.training.trainer import Trainer

# The embedding starts with torch's N(0, 1); docs/decisions/0005-word-vectors-start-small.md.
MODEL = ModelConfig(
    cell="gru",
    hidden_size=64,
    bidirectional=True,
    dropout=0.5,
    readout="max",
    embedding_std=1.0,
)
TRAINING = TrainingConfig(learning_rate=3e-3, batch_size=64)
TOKENS = 512
VALID = 2500


def data_config(folder: Path, sizes: dict[str, Any]) -> DataConfig:
    """Return the config of the reviews in a folder; exit if they are missing."""
    files = [folder / name for name in ("train.csv.gz", "test.csv.gz")]
    if not all(file.is_file() for file in files):
        sys.exit(f"{files[0]} or {files[1]} is missing; set --reviews to their folder.")
    return DataConfig(
        source="csv",
        path=files[0],
        test_path=files[1],
        train_size=sizes["train"],
        valid_size=sizes["valid"],
        max_tokens=sizes["tokens"],
        keep="both",
    )


def make_trainer(data: PreparedData, model: ModelConfig, training: TrainingConfig) -> Trainer:
    return Trainer(model, training, data, seed=1)


def train(trainer: Trainer, epochs: int, folder: Path) -> list[dict[str, float]]:
    """Train and restore the epoch with the lowest validation loss, which varies less than accuracy.

    The state and metrics of each epoch are stored in `folder`; an interrupted run continues there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curve_file = folder / "curve.jsonl"
    lines = curve_file.read_text().splitlines() if curve_file.exists() else []
    curve: list[dict[str, float]] = [json.loads(line) for line in lines][:epochs]
    if curve:
        trainer.load_state(*checkpoint.load(folder / f"epoch-{len(curve)}"))
    while len(curve) < epochs:
        started = time.process_time()
        metrics = trainer.run_epoch()
        curve.append({**asdict(metrics), "cpu_seconds": time.process_time() - started})
        checkpoint.save(trainer.state(), folder / f"epoch-{metrics.epoch}")
        with curve_file.open("a") as file:
            file.write(json.dumps(curve[-1]) + "\n")
        print(
            "epoch {epoch}: train {train_loss:.3f} {train_accuracy:.4f}, valid {valid_loss:.3f} "
            "{valid_accuracy:.4f}, {seconds:.1f} s, CPU {cpu_seconds:.1f} s".format(**curve[-1]),
            flush=True,
        )
    best = min(curve, key=lambda metrics: metrics["valid_loss"])
    trainer.load_state(*checkpoint.load(folder / f"epoch-{best['epoch']}"))
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few reviews, under a minute")
    parser.add_argument("--reviews", type=Path, default=REVIEWS.parent)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=TRAINING.learning_rate)
    parser.add_argument("--dropout", type=float, default=MODEL.dropout)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--states", type=Path, help="store states here and continue from them")
    parser.add_argument(
        "--validate-only",
        action="store_true",
        help="skip the test split, to choose hyperparameters",
    )
    options = parser.parse_args()
    sizes: dict[str, Any] = {"train": None, "valid": VALID, "tokens": options.tokens}
    if options.quick:
        sizes = {"train": 256, "valid": 128, "tokens": 64}
        options.epochs = 2
    torch.set_num_threads(2)
    config = data_config(options.reviews, sizes)
    model = MODEL.model_copy(update={"dropout": options.dropout})
    training = TRAINING.model_copy(update={"learning_rate": options.rate})
    with tempfile.TemporaryDirectory() as cache:
        data = prepare(config, cache_dir=Path(cache))
        trainer = make_trainer(data, model, training)
        curve = train(trainer, options.epochs, options.states or Path(cache) / "states")
        if options.validate_only:
            return
        test = prepare_test(config, cache_dir=Path(cache))
        test_loss, test_accuracy = trainer.evaluate(test.split)
    print(f"test, epoch {trainer.epoch}: {test_loss:.3f} {test_accuracy:.4f}", flush=True)
    seconds = sum(metrics["seconds"] for metrics in curve)
    figures = {
        "test_accuracy": 100 * test_accuracy,
        "train_seconds": seconds,
        "cpu_seconds": sum(metrics["cpu_seconds"] for metrics in curve),
        "tokens_per_second": len(curve) * (data.train.tokens + data.valid.tokens) / seconds,
    }
    details = {
        "model": model.model_dump(),
        "training": training.model_dump(),
        "parameters": trainer.parameters,
        "chosen_epoch": trainer.epoch,
        "test_loss": test_loss,
        "curve": curve,
        "data": data.info,
    }
    finish("imdb", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
