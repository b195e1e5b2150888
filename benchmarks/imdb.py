"""One bidirectional GRU on all of IMDB, without outside vectors.

Usage: python benchmarks/imdb.py [--quick] [--reviews FOLDER] [--epochs 12] [--validate-only]

FOLDER holds train.csv.gz and test.csv.gz with the columns text and label. Of the 25,000 training
reviews 2,500 are held out; their loss chooses the epoch, as it chose the learning rate
(--validate-only). The test split is read once, at the very end, by the weights of that epoch. Then
one epoch of a plain script (DataLoader, pad_sequence, pack_padded_sequence, nn.GRU) over the same
reviews is timed in the same run.
Figures:
  test_accuracy      points of percent, of the epoch that validation chose
  train_seconds      all epochs, validation included
  tokens_per_second  of training and validation
  epoch_ratio        time a token, ours to the plain script's, training only
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from _measure import REVIEWS, finish
from _plain_epoch import plain_epoch

from data_prep import DataConfig, PreparedData, prepare, prepare_test
from models.config import ModelConfig, TrainingConfig
from models.training import EpochMetrics, Trainer

# Word vectors that start at torch's N(0, 1): see docs/decisions/0005-word-vectors-start-small.md.
MODEL = ModelConfig(
    cell="gru",
    hidden_size=64,
    bidirectional=True,
    dropout=0.5,
    readout="max",
    embedding_std=1.0,
)
TRAINING = TrainingConfig(learning_rate=3e-3, batch_size=64)


def data_config(files: list[Path], sizes: dict[str, Any]) -> DataConfig:
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
    return Trainer(
        model,
        training,
        train=data.train,
        valid=data.valid,
        vocabulary_size=data.vocabulary_size,
        num_classes=2,
        seed=1,
    )


def train(trainer: Trainer, epochs: int) -> list[EpochMetrics]:
    """Train, and go back to the epoch with the smallest validation loss, the steadier figure."""
    best, curve = None, list[EpochMetrics]()
    for _ in range(epochs):
        curve.append(trainer.run_epoch())
        print(
            "epoch {epoch}: train {train_loss:.3f} {train_accuracy:.4f}, valid {valid_loss:.3f} "
            "{valid_accuracy:.4f}, {seconds:.1f} s, {tokens_per_second:,.0f} tokens/s".format(
                **asdict(curve[-1])
            ),
            flush=True,
        )
        if curve[-1].valid_loss == min(metrics.valid_loss for metrics in curve):
            best = trainer.state()
    if best is not None:
        trainer.load_state(*best)
    return curve


def epoch_ratio(trainer: Trainer, data: PreparedData, limit: int | None) -> dict[str, float]:
    """Nanoseconds a token of one training epoch: ours, then the plain script's."""
    begun = time.perf_counter()
    trainer.train_epoch()
    ours = (time.perf_counter() - begun) / data.train.tokens
    seconds, tokens = plain_epoch(
        MODEL, data.train, data.vocabulary_size, TRAINING.learning_rate, limit
    )
    plain = seconds / tokens
    return {"ours_ns": ours * 1e9, "plain_ns": plain * 1e9, "plain_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few reviews, under a minute")
    parser.add_argument("--reviews", type=Path, default=REVIEWS.parent)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--plain-batches", type=int, help="cut the plain epoch short")
    parser.add_argument("--rate", type=float, default=TRAINING.learning_rate)
    parser.add_argument("--dropout", type=float, default=MODEL.dropout)
    parser.add_argument("--validate-only", action="store_true", help="to choose the two by")
    options = parser.parse_args()
    files = [options.reviews / name for name in ("train.csv.gz", "test.csv.gz")]
    if not all(file.is_file() for file in files):
        sys.exit(f"{files[0]} or {files[1]} is missing; give their folder: --reviews")
    sizes: dict[str, Any] = {"train": None, "valid": 2500, "tokens": 256}
    if options.quick:
        sizes = {"train": 256, "valid": 128, "tokens": 64}
        options.epochs = 2
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as cache:
        config = data_config(files, sizes)
        data = prepare(config, cache_dir=Path(cache))
        model = MODEL.model_copy(update={"dropout": options.dropout})
        training = TRAINING.model_copy(update={"learning_rate": options.rate})
        trainer = make_trainer(data, model, training)
        curve = train(trainer, options.epochs)
        if options.validate_only:
            return
        test = prepare_test(config, cache_dir=Path(cache))
        test_loss, test_accuracy = trainer.evaluate(test.split)
        print(f"test of epoch {trainer.epoch}: {test_loss:.3f} {test_accuracy:.4f}", flush=True)
        sides = epoch_ratio(make_trainer(data, model, training), data, options.plain_batches)
    seconds = sum(metrics.seconds for metrics in curve)
    figures = {
        "test_accuracy": 100 * test_accuracy,
        "train_seconds": seconds,
        "tokens_per_second": len(curve) * (data.train.tokens + data.valid.tokens) / seconds,
        "epoch_ratio": sides["ours_ns"] / sides["plain_ns"],
    }
    details = {
        "model": model.model_dump(),
        "training": training.model_dump(),
        "parameters": trainer.parameters,
        "chosen_epoch": trainer.epoch,
        "test_loss": test_loss,
        "curve": [asdict(metrics) for metrics in curve],
        "epoch": sides,
        "data": data.info,
    }
    finish("imdb", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
