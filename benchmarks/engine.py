"""What the engine itself costs, with trials of no work, beside stock Ray Tune in one run.

Usage: python benchmarks/engine.py [--quick]

Stock is `Tuner.fit` with OptunaSearch and ASHAScheduler as Ray Tune's tutorials write it, and the
same with reuse_actors=True. Both sides search the same space with two trials side by side; see
`benchmarks/_sides/engine.py`. Figures:
  overhead_vs_stock        seconds a trial, ours by stock's, 200 trials
  overhead_vs_stock_reuse  the same by stock's with reuse_actors=True
  durable_results_per_s    epochs a second that were acknowledged after their fsync, through Ray
                           Tune's loop, over 30 s; the details hold the conductor's alone
  driver_kb_per_trial      growth of the driver's memory, from trial 500 to 1,750 of 2,000
  resume_2000_s            from a ledger of 2,000 trials with 8 epochs each to a conductor that
                           has rebuilt rungs and study
  leaderboard_2000_s       `celltune leaderboard` of it, a new process, all 2,000 rows
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
    """Run a side in a process of its own."""
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    script = str(HERE / "_sides" / "engine.py")
    ended = subprocess.run(
        [sys.executable, script, name, *arguments], capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise SystemExit(f"{name} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    shown = {key: value for key, value in result.items() if not isinstance(value, dict)}
    print(f"{name}: {shown}", flush=True)
    return result


def imdb(trials: int) -> SearchConfig:
    sets = ["name=engine", f"budget.trials={trials}", f"budget.max_epochs={EPOCHS}"]
    return load_config(REPOSITORY / "configs" / "imdb.yaml", sets)


def metrics(trial: int, epoch: int) -> dict[str, float]:
    """What an epoch reports; every trial is a little better than the last, so that all go on."""
    names = ("train_loss", "train_accuracy", "seconds", "tokens_per_second", "parameters")
    better = trial / 1e5 + epoch / 1e3
    return {**dict.fromkeys(names, 0.5), "valid_loss": 0.5 - better, "valid_accuracy": 0.5 + better}


def events(config: SearchConfig) -> list[Event]:
    """A finished search, without its first event."""
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
    place = open_storage(storage).experiment(config.name)
    first = ExperimentCreated(at=0.0, fingerprint="none")
    place.create(config, first, *events(config))
    return place


def resume(storage: Path, trials: int) -> dict[str, float]:
    """Seconds to a conductor that stands where the ledger ends, and of the next proposal."""
    place = finished_search(storage, trials)
    config = imdb(trials + 1)
    begun = time.perf_counter()
    with place.open_ledger() as ledger:
        conductor = SearchController(config, ledger, clock=time.time)
        ready = time.perf_counter()
        conductor.next()
        return {"ready_s": ready - begun, "proposal_s": time.perf_counter() - ready}


def leaderboard(storage: Path, trials: int) -> float:
    finished_search(storage, trials)
    begun = time.perf_counter()
    shown = subprocess.run(
        [CELLTUNE, "leaderboard", "engine"],
        env={**os.environ, "CELLTUNE_STORAGE": str(storage)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - begun
    if shown.stdout.count("completed") != trials:
        raise SystemExit(f"the leaderboard doesn't show {trials} trials:\n{shown.stdout[-2000:]}")
    return seconds


def proposals(storage: Path) -> dict[str, float]:
    """Seconds a proposal, by the number of trials that the study holds: the mean of three."""
    seconds = {}
    for trials in (50, 200, 500, 1000, 2000):
        place = finished_search(storage / str(trials), trials)
        with place.open_ledger() as ledger:
            conductor = SearchController(imdb(trials + 3), ledger, clock=time.time)
            begun = time.perf_counter()
            for _ in range(3):
                conductor.next()
            seconds[str(trials)] = (time.perf_counter() - begun) / 3
    return seconds


def conductor_alone(storage: Path, seconds: float, group: int) -> float:
    """Results a second of a conductor and its ledger, `group` to a report, without Ray."""
    config = imdb(1_000_000).model_copy(update={"early_stopping": None})
    place = open_storage(storage).experiment(config.name)
    place.create(config, ExperimentCreated(at=0.0, fingerprint="none"))
    results = 0
    with place.open_ledger() as ledger:
        conductor = SearchController(config, ledger, clock=time.time)
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            assignment = conductor.next()
            if assignment is None:
                break
            number = assignment.number
            for start in range(1, EPOCHS + 1, group):
                reports = [
                    EpochReport(e, metrics(number, e), None) for e in range(start, start + group)
                ]
                conductor.report(number, reports)
            results += EPOCHS
        return results / (time.perf_counter() - begun)


def in_scratch(measured: Callable[..., Any], *arguments: Any) -> Any:
    # Beside this file: the folder for temporary files may be in memory, where fsync does nothing.
    with tempfile.TemporaryDirectory(dir=HERE) as scratch:
        return measured(Path(scratch), *arguments)


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
            "one_a_report": in_scratch(conductor_alone, seconds / 4, 1),
            "eight_a_report": in_scratch(conductor_alone, seconds / 4, 8),
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
    each = {name: details[name]["seconds"] / few for name in ("ours", "stock", "reuse")}
    details["seconds_a_trial"] = each
    figures = {
        "overhead_vs_stock": each["ours"] / each["stock"],
        "overhead_vs_stock_reuse": each["ours"] / each["reuse"],
        "durable_results_per_s": details["rate"]["results_per_s"],
        "driver_kb_per_trial": details["memory"]["kb_per_trial"],
        "resume_2000_s": details["resume"]["ready_s"],
        "leaderboard_2000_s": shown,
    }
    finish("engine", figures, details, keep=not quick)


if __name__ == "__main__":
    main()
