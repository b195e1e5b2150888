"""Overhead of the search engine with trials that do no work, compared with stock Ray Tune.

Usage: python benchmarks/engine.py [--quick]

Stock is `Tuner.fit` with OptunaSearch and ASHAScheduler as in Ray Tune's tutorials, with and
without reuse_actors=True. Both sides search the same space with two concurrent trials; see
`benchmarks/_sides/engine.py`. Figures:
  overhead_vs_stock        seconds per trial, celltune to stock, 200 trials
  overhead_vs_stock_reuse  the same, to stock with reuse_actors=True
  durable_results_per_s    epochs per second that were acknowledged after fsync, through Ray Tune's
                           loop, over 30 s; the details contain the rate of the controller alone
  driver_kb_per_trial      growth of the driver's memory, from trial 500 to 1,750 of 2,000
  resume_2000_s            time to restore a controller with rungs and study from a ledger of 2,000
                           trials with 8 epochs each
  leaderboard_2000_s       `celltune leaderboard` of this ledger in a new process, all 2,000 rows
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psutil
from _measure import HERE, REPOSITORY, finish

from celltune.search.config.loading import load_config
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import (
    EpochReported,
    Event,
    ExperimentCreated,
    TrialCreated,
    TrialStopped,
)
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import open_storage
from celltune.search.tuning.controller import SearchController
from celltune.search.types import EpochReport

CELLTUNE = str(Path(sys.executable).with_name("celltune"))
TRIALS = 2_000
EPOCHS = 8


def side(name: str, **options: float) -> dict[str, Any]:
    """Run one side in its own process and return its result."""
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    script = str(HERE / "_sides" / "engine.py")
    process = subprocess.run(
        [sys.executable, script, name, *arguments], capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        raise SystemExit(f"{name} failed ({process.returncode}):\n{process.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    shown = {key: value for key, value in result.items() if not isinstance(value, dict)}
    print(f"{name}: {shown}", flush=True)
    return result


def imdb(trials: int) -> SearchConfig:
    sets = ["name=engine", f"budget.trials={trials}", f"budget.max_epochs={EPOCHS}"]
    return load_config(REPOSITORY / "benchmarks" / "curves.yaml", sets)


def metrics(trial: int, epoch: int) -> dict[str, float]:
    """Return an epoch's metrics; each trial is slightly better, so none is pruned."""
    names = ("train_loss", "train_accuracy", "seconds", "tokens_per_second", "parameters")
    gain = trial / 1e6 + epoch / 1e4
    return {**dict.fromkeys(names, 0.5), "valid_loss": 0.5 - gain, "valid_accuracy": 0.5 + gain}


def events(config: SearchConfig) -> list[Event]:
    """Return the events of a finished search without the first one."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    written: list[Event] = []
    for number in range(config.budget.trials):
        params = config.space.suggest(study.ask())
        at = float(number)
        written.append(TrialCreated(at=at, number=number, params=params, max_epochs=EPOCHS))
        written += [
            EpochReported(
                at=at,
                number=number,
                epoch=epoch,
                metrics=metrics(number, epoch),
                checkpoint=f"epoch-{epoch}",
            )
            for epoch in range(1, EPOCHS + 1)
        ]
        written.append(TrialStopped(at=at, number=number, reason="completed"))
    return written


def finished_search(storage: Path, trials: int) -> Experiment:
    config = imdb(trials)
    experiment = open_storage(storage).experiment(config.name)
    first = ExperimentCreated(at=0.0, fingerprint="none")
    experiment.create(config, first, *events(config))
    return experiment


def resume(storage: Path, trials: int) -> dict[str, float]:
    """Return the seconds to restore a controller from the ledger, and of the next proposal."""
    experiment = finished_search(storage, trials)
    config = imdb(trials + 1)
    started = time.perf_counter()
    with experiment.open_ledger() as ledger:
        controller = SearchController(config, ledger, clock=time.time)
        ready = time.perf_counter()
        controller.next()
        return {"ready_s": ready - started, "proposal_s": time.perf_counter() - ready}


def leaderboard(storage: Path, trials: int) -> float:
    finished_search(storage, trials)
    started = time.perf_counter()
    shown = subprocess.run(
        [CELLTUNE, "leaderboard", "engine"],
        env={**os.environ, "CELLTUNE_STORAGE": str(storage)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    if shown.stdout.count("completed") != trials:
        raise SystemExit(f"The leaderboard does not show {trials} trials:\n{shown.stdout[-2000:]}")
    return seconds


def proposals(storage: Path) -> dict[str, float]:
    """Return the mean seconds per proposal by the number of trials in the study."""
    seconds = {}
    for trials in (50, 200, 500, 1000, 2000):
        experiment = finished_search(storage / str(trials), trials)
        with experiment.open_ledger() as ledger:
            controller = SearchController(imdb(trials + 3), ledger, clock=time.time)
            started = time.perf_counter()
            for _ in range(3):
                controller.next()
            seconds[str(trials)] = (time.perf_counter() - started) / 3
    return seconds


def controller_alone(storage: Path, seconds: float, group: int) -> float:
    """Return the results per second of controller and ledger, with `group` results per report."""
    config = imdb(1_000_000).model_copy(update={"early_stopping": None})
    experiment = open_storage(storage).experiment(config.name)
    experiment.create(config, ExperimentCreated(at=0.0, fingerprint="none"))
    results = 0
    with experiment.open_ledger() as ledger:
        controller = SearchController(config, ledger, clock=time.time)
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            assignment = controller.next()
            if assignment is None:
                break
            number = assignment.number
            for start in range(1, EPOCHS + 1, group):
                reports = [
                    EpochReport(e, metrics(number, e), None) for e in range(start, start + group)
                ]
                controller.report(number, reports)
            results += EPOCHS
        return results / (time.perf_counter() - started)


def in_scratch(measure: Callable[..., Any], *arguments: Any) -> Any:
    # The system's temporary folder may be in memory, where fsync has no effect.
    with tempfile.TemporaryDirectory(dir=HERE) as scratch:
        return measure(Path(scratch), *arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few trials, under a minute")
    options = parser.parse_args()
    quick = options.quick
    few, many = (4, 16) if quick else (200, 2_000)
    trials, seconds = (200, 2) if quick else (TRIALS, 30)
    load = os.getloadavg()[0]
    details: dict[str, Any] = {
        "resume": in_scratch(resume, trials),
        "conductor_alone_per_s": {
            "one_a_report": in_scratch(controller_alone, seconds / 4, 1),
            "eight_a_report": in_scratch(controller_alone, seconds / 4, 8),
        },
    }
    shown = in_scratch(leaderboard, trials)
    print(f"resume: {details['resume']}, leaderboard: {shown:.2f} s", flush=True)
    if not quick:
        details["proposal_s"] = in_scratch(proposals)
    details["ours"] = side("ours", trials=few)
    details["rate"] = side("rate", seconds=seconds)
    details["memory"] = side("memory", trials=many)
    details["reuse"] = side("reuse", trials=few)
    details["stock"] = side("stock", trials=few)
    details["load_before_and_after"] = [load, os.getloadavg()[0]]
    details["cpus"] = psutil.cpu_count()
    per_trial = {name: details[name]["seconds"] / few for name in ("ours", "stock", "reuse")}
    details["seconds_a_trial"] = per_trial
    figures = {
        "overhead_vs_stock": per_trial["ours"] / per_trial["stock"],
        "overhead_vs_stock_reuse": per_trial["ours"] / per_trial["reuse"],
        "durable_results_per_s": details["rate"]["results_per_s"],
        "driver_kb_per_trial": details["memory"]["kb_per_trial"],
        "resume_2000_s": details["resume"]["ready_s"],
        "leaderboard_2000_s": shown,
    }
    finish("engine", figures, details, keep=not quick)


if __name__ == "__main__":
    main()
