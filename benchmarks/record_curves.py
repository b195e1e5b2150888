"""Record the learning curves that `benchmarks/regret.py` replays searches over.

Usage: python benchmarks/record_curves.py [--reviews REVIEWS] [--configurations 160] [--epochs 6]
       [--workers 2] [--out benchmarks/results/curves.json]

REVIEWS is a csv.gz file with the columns text and label, the archive aclImdb_v1.tar.gz or its
unpacked folder. The configurations are drawn at random from the space of benchmarks/curves.yaml,
number i with the seed (seed, i). Each is trained for all epochs in a process with one thread. The
output contains the hyperparameters, and for each epoch the validation accuracy, validation loss and
CPU seconds, which reflect the cost of an epoch better than wall-clock time on a machine with other
load. An interrupted run continues when it is started again; more configurations can be added later.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from _measure import REPOSITORY, RESULTS, REVIEWS

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.preparation.pipeline import prepare
from celltune.search.config.loading import load_config
from celltune.search.config.space import model_and_training
from celltune.search.tuning.trial import trial_seed

SPACE = REPOSITORY / "benchmarks" / "curves.yaml"
SIZES = {"train_size": 3000, "valid_size": 2000, "max_tokens": 64}
SEED = 1


def data_config(reviews: Path) -> DataConfig:
    source = "csv" if reviews.name.endswith((".csv", ".csv.gz")) else "imdb"
    return DataConfig(source=source, path=reviews, keep="both", seed=SEED, **SIZES)


def draw(count: int) -> list[dict[str, Any]]:
    """Draw configurations; the first n are the same for every count."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_config(SPACE).space
    drawn = []
    for number in range(count):
        sampler = optuna.samplers.RandomSampler(seed=trial_seed(SEED, number))
        drawn.append(space.suggest(optuna.create_study(sampler=sampler).ask()))
    return drawn


_shared: dict[str, PreparedData] = {}
"""Data of a pool process."""


def _open(reviews: Path, cache: Path) -> None:
    import torch

    torch.set_num_threads(1)
    _shared["data"] = prepare(data_config(reviews), cache_dir=cache)


def record(number: int, params: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Train one configuration in a process initialized by `_open`."""
    from celltune.models.training.trainer import Trainer

    data = _shared["data"]
    model, training = model_and_training(params)
    trainer = Trainer(model, training, data, seed=trial_seed(SEED, number), clock=time.process_time)
    curve = [trainer.run_epoch() for _ in range(epochs)]
    return {
        "number": number,
        "params": params,
        "valid_accuracy": [round(metrics.valid_accuracy, 4) for metrics in curve],
        "valid_loss": [round(metrics.valid_loss, 4) for metrics in curve],
        "seconds": [round(metrics.seconds, 3) for metrics in curve],
    }


def write(out: Path, recording: dict[str, Any]) -> None:
    """Write one curve per line, so that curves can be read and compared."""
    curves = sorted(recording["curves"], key=lambda curve: curve["number"])
    head = json.dumps({key: value for key, value in recording.items() if key != "curves"})
    lines = ",\n".join(json.dumps(curve) for curve in curves)
    temporary = out.with_suffix(".part")
    temporary.write_text(f'{head[:-1]}, "curves": [\n{lines}\n]}}\n')
    temporary.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=Path, default=REVIEWS)
    parser.add_argument("--configurations", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "curves.json")
    options = parser.parse_args()
    if not options.reviews.exists():
        sys.exit(f"{options.reviews} is missing; set --reviews to a csv.gz file or the archive.")
    drawn = draw(options.configurations)
    recording: dict[str, Any] = {"data": SIZES, "epochs": options.epochs, "curves": []}
    if options.out.exists():
        recording = json.loads(options.out.read_text())
        if (recording["data"], recording["epochs"]) != (SIZES, options.epochs):
            sys.exit(f"{options.out} contains curves of other sizes; set --out to another file.")
    known = {curve["number"]: curve["params"] for curve in recording["curves"]}
    if any(number < len(drawn) and drawn[number] != params for number, params in known.items()):
        sys.exit(f"{options.out} contains curves of another space; set --out to another file.")
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch)
        prepare(data_config(options.reviews), cache_dir=cache)
        with ProcessPoolExecutor(
            options.workers, initializer=_open, initargs=(options.reviews, cache)
        ) as pool:
            tasks = [
                pool.submit(record, number, params, options.epochs)
                for number, params in enumerate(drawn)
                if number not in known
            ]
            for task in as_completed(tasks):
                recording["curves"].append(task.result())
                write(options.out, recording)
                print(json.dumps(task.result()), flush=True)


if __name__ == "__main__":
    main()
