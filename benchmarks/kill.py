"""Crash safety: a search whose driver is killed half-way (SIGKILL) and then resumed.

Usage: python benchmarks/kill.py [--quick] [--reviews train.csv.gz] [--seed 1]

The search is that of `benchmarks/search.py`. Figures:
  trials            number of trials in the ledger at the end
  trials_twice      trial numbers that occur in the ledger more than once
  trials_unfinished unfinished trials at the end
  epochs_at_kill    acknowledged epochs when the driver was killed
  epochs_lost       acknowledged epochs that are missing or different in the ledger at the end
  trials_under_way  unfinished trials at the kill; each repeats at most the epoch in progress
  continued         trials that continued from a checkpoint
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from _measure import HERE, REVIEWS, finish

from celltune.search.ledger.events import EpochReported, Event, TrialCreated
from celltune.search.ledger.ledger import read
from celltune.search.storage.local import LocalExperiment

CELLTUNE = str(Path(sys.executable).with_name("celltune"))


def launch_and_kill(
    options: argparse.Namespace, folder: LocalExperiment, env: dict[str, str]
) -> None:
    sizes = {"train": 256, "valid": 128, "epochs": 3} if options.quick else {}
    sets = {
        "data.path": options.reviews.resolve(),
        "seed": options.seed,
        "data.seed": options.seed,
        "data.train_size": sizes.get("train", 4000),
        "data.valid_size": sizes.get("valid", 1500),
        "budget.max_epochs": sizes.get("epochs", 4),
    }
    command = [CELLTUNE, "launch", str(HERE / "search.yaml")]
    command += [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    driver = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    while driver.poll() is None:
        # Half of the trials have ended, and another one has finished an epoch.
        if folder.ledger.exists() and _ended(folder) >= 6 and _under_way(folder):
            driver.send_signal(signal.SIGKILL)
        time.sleep(0.01)
    driver.wait()
    if driver.returncode != -signal.SIGKILL:
        sys.exit(f"The driver ended ({driver.returncode}) before it could be killed.")


def _ended(folder: LocalExperiment) -> int:
    return sum(trial.status != "unfinished" for trial in folder.state().trials)


def _under_way(folder: LocalExperiment) -> bool:
    return any(trial.status == "unfinished" and trial.epochs for trial in folder.state().trials)


def epochs_of(events: list[Event]) -> dict[tuple[int, int], EpochReported]:
    return {(e.number, e.epoch): e for e in events if isinstance(e, EpochReported)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small search, under a minute")
    parser.add_argument("--reviews", type=Path, default=REVIEWS, help="csv.gz: text, label")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        env = {**os.environ, "CELLTUNE_STORAGE": scratch, "CELLTUNE_CACHE": f"{scratch}/cache"}
        folder = LocalExperiment(Path(scratch) / "benchmark")
        launch_and_kill(options, folder, env)
        before = read(folder.ledger)
        unfinished = [t for t in folder.state().trials if t.status == "unfinished"]
        print(f"Killed with {len(unfinished)} unfinished trials, {len(epochs_of(before))} epochs")
        subprocess.run([CELLTUNE, "resume", "benchmark"], env=env, check=True)
        after, state = read(folder.ledger), folder.state()
    created = Counter(event.number for event in after if isinstance(event, TrialCreated))
    epochs_after = epochs_of(after)
    figures = {
        "trials": len(created),
        "trials_twice": sum(count > 1 for count in created.values()),
        "trials_unfinished": state.count("unfinished"),
        "epochs_at_kill": len(epochs_of(before)),
        "epochs_lost": sum(
            epochs_after.get(key) != event for key, event in epochs_of(before).items()
        ),
        "trials_under_way": len(unfinished),
        "continued": sum(bool(trial.epochs) for trial in unfinished),
    }
    finish("kill", figures, {"seed": options.seed}, keep=not options.quick)


if __name__ == "__main__":
    main()
