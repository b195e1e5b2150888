"""What a user waits for in a tiny search, compared with a plain Ray Tune script that trains it.

Usage: python benchmarks/start.py [--quick]

The search has 4 trials of 2 epochs on 160 + 40 synthetic reviews, so that nearly all of its time is
start and end. Both sides run alternately, each in a process of its own; figures are medians. The
compiled libraries are in the cache, the prepared data is not. Figures:
  launch_to_first_epoch_s  from the start of `celltune launch` to the first recorded epoch
  last_epoch_to_prompt_s   from the last recorded epoch to the end of the command
  tiny_vs_stock            duration of the command, relative to plain_ray_tune.py
The details also contain the duration with the linear baselines (`baselines: true`), which the
script does not have, and the first launch of a machine, which compiles.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from _measure import HERE, Usage, finish, measure

from celltune.data_prep.sources.synthetic import SyntheticSource
from celltune.search.ledger.events import EpochReported
from celltune.search.storage.locate import find_experiment

CELLTUNE = str(Path(sys.executable).with_name("celltune"))
TRAIN, VALID, TRIALS, EPOCHS = 160, 40, 4, 2


@dataclass(frozen=True)
class Launch:
    """Seconds of a launch."""

    total: float
    first_epoch: float
    """Until the first epoch was recorded."""
    end: float
    """After the last epoch was recorded."""
    cpu: float


def write_reviews(path: Path) -> None:
    source = SyntheticSource(reviews=TRAIN + VALID, label_noise=0.05, seed=1)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for document in source.documents():
            writer.writerow((document.text, document.label))


def launch(folder: Path, baselines: bool = False) -> Launch:
    """Launch the search with an empty cache of prepared data."""
    cache, storage = folder / "cache", folder / "storage"
    for entry in cache.glob("*"):
        if not entry.name.startswith("native-"):
            shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(storage, ignore_errors=True)
    values = {
        "data.path": folder / "reviews.csv.gz",
        "data.train_size": TRAIN,
        "data.valid_size": VALID,
        "budget.trials": TRIALS,
        "budget.max_epochs": EPOCHS,
        "baselines": str(baselines).lower(),
    }
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    env = {**os.environ, "CELLTUNE_STORAGE": str(storage), "CELLTUNE_CACHE": str(cache)}
    started = time.time()
    usage = measure([CELLTUNE, "launch", str(HERE / "search.yaml"), *sets], env)
    ended = started + usage.wall
    events = find_experiment("benchmark", storage).events()
    epochs = [event.at for event in events if isinstance(event, EpochReported)]
    return Launch(usage.wall, epochs[0] - started, ended - epochs[-1], usage.cpu)


def plain(folder: Path) -> Usage:
    sizes = {"train": TRAIN, "valid": VALID, "trials": TRIALS, "epochs": EPOCHS}
    arguments = [f"--{name}={value}" for name, value in sizes.items()]
    script = str(HERE / "plain_ray_tune.py")
    return measure([sys.executable, script, str(folder / "reviews.csv.gz"), *arguments])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two pairs, about a minute")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    launches: list[Launch] = []
    scripts: list[Usage] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_reviews(folder / "reviews.csv.gz")
        first = launch(folder)
        print(f"first launch, which compiles: {first}", flush=True)
        for _ in range(2 if options.quick else 7):
            launches.append(launch(folder))
            scripts.append(plain(folder))
            print(f"{launches[-1]}, plain {scripts[-1].wall:.2f} s", flush=True)
        with_baselines = launch(folder, baselines=True)
    totals = [one.total for one in launches]
    details = {
        "launches": [vars(one) for one in launches],
        "plain": [{"wall": one.wall, "cpu": one.cpu} for one in scripts],
        "first_launch": vars(first),
        "with_baselines": vars(with_baselines),
        "load_before_and_after": [load, os.getloadavg()[0]],
    }
    figures = {
        "launch_to_first_epoch_s": statistics.median(one.first_epoch for one in launches),
        "last_epoch_to_prompt_s": statistics.median(one.end for one in launches),
        "tiny_vs_stock": statistics.median(totals) / statistics.median(s.wall for s in scripts),
    }
    finish("start", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
