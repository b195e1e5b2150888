"""One epoch of the model of benchmarks/imdb.py, compared with a straightforward PyTorch script.

Usage: python benchmarks/epoch.py [--quick] [--reviews FOLDER]

The plain script uses DataLoader, pad_sequence, pack_padded_sequence, nn.GRU and Adam. Both sides
train for one epoch on the same 22,500 reviews of at most 512 tokens in one process with two
threads. celltune runs before and after the plain script, and the mean of the two is used. --quick
trains on 1,280 reviews of at most 128 tokens. Figures, training only:
  epoch_ratio        wall-clock time of an epoch, celltune to the plain script
  epoch_cpu_ratio    the same in CPU time, which depends less on other load
  average_cpu_ratio  CPU time of an epoch with weight_average to one without
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _measure import REVIEWS, finish
from _plain_epoch import plain_epoch
from imdb import MODEL, TOKENS, TRAINING, VALID, data_config, make_trainer

from celltune.data_prep.preparation.pipeline import prepare
from celltune.models.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter reviews")
    parser.add_argument("--reviews", type=Path, default=REVIEWS.parent)
    options = parser.parse_args()
    sizes: dict[str, Any] = {"train": None, "valid": VALID, "tokens": TOKENS}
    if options.quick:
        sizes = {"train": 1280, "valid": 128, "tokens": 128}
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as cache:
        data = prepare(data_config(options.reviews, sizes), cache_dir=Path(cache))
    trainer = make_trainer(data, MODEL, TRAINING)
    averaging = TRAINING.model_copy(update={"weight_average": 0.999})
    with_average = make_trainer(data, MODEL, averaging)

    def ours(trainer: Trainer = trainer) -> tuple[float, float]:
        clock, cpu = time.perf_counter(), time.process_time()
        trainer.train_epoch()
        wall_seconds, cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
        print(f"celltune {wall_seconds:.1f} s, CPU {cpu_seconds:.1f} s", flush=True)
        return wall_seconds, cpu_seconds

    first = ours()
    cpu = time.process_time()
    plain = plain_epoch(MODEL, data.train, data.vocabulary_size, TRAINING.learning_rate)
    plain_cpu = time.process_time() - cpu
    print(f"plain {plain:.1f} s, CPU {plain_cpu:.1f} s", flush=True)
    second, averaged = ours(), ours(with_average)
    details = {
        "reviews": len(data.train),
        "tokens": data.train.tokens,
        "ours_seconds": [first[0], second[0]],
        "ours_cpu_seconds": [first[1], second[1]],
        "average_cpu_seconds": averaged[1],
        "plain_seconds": plain,
        "plain_cpu_seconds": plain_cpu,
    }
    figures = {
        "epoch_ratio": (first[0] + second[0]) / 2 / plain,
        "epoch_cpu_ratio": (first[1] + second[1]) / 2 / plain_cpu,
        "average_cpu_ratio": averaged[1] / second[1],
    }
    finish("epoch", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
