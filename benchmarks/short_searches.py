"""Short searches, simulated on recorded learning curves: what do their winners achieve?

Usage: python benchmarks/short_searches.py [--curves FILE] [--trials 10 20] [--searches 100]
       [--only VARIANT ...]

A search has a fixed number of trials and two workers on a virtual clock (see `_replay.py`). With
the curves of `record_few.py`, its first trial is the wide part alone, and the winner is scored by
its accuracy on documents that the search does not know; with those of `record_curves.py`, by its
validation accuracy. All variants run with the same seeds. For each, the differences to `asha` are
printed with their standard errors:
  asha         the defaults of celltune
  grace2       the first rung after epoch 2
  none         no rungs
  patience     no rungs; a trial ends two epochs after its best one
  both         rungs and patience
  startup3, startup5  the given number of random trials before TPE, instead of 10
`by_metric` is the winner if the ranking ignores the wide part alone (decision 38). Figures: the
mean scores of the winners of all variants, and of `by_metric` for `asha`, by the number of trials.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _measure import REPOSITORY, RESULTS, finish
from _replay import Table, load_curves
from _strategies import DiscardedLedger

from celltune.search.config.loading import load_config, parse_config
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.events import ExperimentCreated
from celltune.search.ledger.ledger import Ledger
from celltune.search.ledger.state import ExperimentState
from celltune.search.tuning.controller import SearchController
from celltune.search.types import EpochReport

WORKERS = 2
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "asha": {},
    "grace2": {"early_stopping": {"grace_period": 2}},
    "none": {"early_stopping": None},
    "patience": {"early_stopping": None, "epoch_patience": 2},
    "both": {"epoch_patience": 2},
    "startup3": {"startup_trials": 3},
    "startup5": {"startup_trials": 5},
}


@dataclass(frozen=True)
class Recording:
    """Recorded curves; the metrics of an epoch are in the lists of a curve's values."""

    table: Table
    values: list[dict[str, list[float]]]
    config: SearchConfig
    wide_alone: dict[str, float] | None


def load(path: Path) -> Recording:
    recorded = json.loads(path.read_text())
    few = "wide_alone" in recorded
    if few:
        space = recorded["space"]
        data = {"source": "synthetic", "wide": True}
        config = parse_config({"name": "few", "data": data, "space": space})
    else:
        config = load_config(REPOSITORY / "benchmarks" / "curves.yaml")
    values = [
        {name: value for name, value in curve.items() if isinstance(value, list)}
        for curve in recorded["curves"]
    ]
    table = Table(load_curves(path), config.space)
    return Recording(table, values, config, recorded.get("wide_alone"))


def configure(recording: Recording, trials: int, seed: int, variant: Mapping[str, Any]) -> Any:
    first = [] if recording.wide_alone is None else [{"wide": "only"}]
    plain = recording.config.model_dump(mode="json")
    changes = {
        "seed": seed,
        "first_trials": first,
        "budget": {
            "trials": trials + len(first),
            "max_epochs": recording.table.epochs,
            "epoch_patience": variant.get("epoch_patience"),
        },
        "early_stopping": variant.get("early_stopping", {}),
        "sampler": {"startup_trials": variant.get("startup_trials", 10)},
    }
    return parse_config({**plain, **changes})


def winners(recording: Recording, state: ExperimentState) -> dict[str, float]:
    """Return the accuracy of the best trial of the ranking, and of the one by the metric alone."""
    score = "valid_accuracy" if recording.wide_alone is None else "other_accuracy"
    trained = [trial for trial in state.trials if trial.params.get("wide") != "only"]
    by_metric = max(trained, key=lambda trial: trial.best_value("valid_accuracy") or 0.0)
    found = {"winner": state.ranked("valid_accuracy")[0], "by_metric": by_metric}
    best = {name: trial.best("valid_accuracy") for name, trial in found.items()}
    return {name: epoch.metrics[score] for name, epoch in best.items() if epoch is not None}


def search(
    recording: Recording, trials: int, seed: int, variant: Mapping[str, Any]
) -> dict[str, float]:
    """Simulate a search; return the scores of its winner and its cost."""
    ledger = Ledger(DiscardedLedger())
    documents = 200 if recording.wide_alone else 2000
    ledger.append(ExperimentCreated(at=0.0, fingerprint="curves", valid_reviews=documents))
    config = configure(recording, trials, seed, variant)
    controller = SearchController(config, ledger, clock=lambda: 0.0)
    table, unused = recording.table, list(range(len(recording.values)))
    chosen: dict[int, int] = {}
    ends: list[tuple[float, int, int]] = []  # (time, trial, epoch)
    now = 0.0

    def start() -> None:
        assignment = controller.next()
        if assignment is None:
            return
        if assignment.params.get("wide") == "only":
            wide = recording.wide_alone or {}
            controller.report(assignment.number, [EpochReport(1, dict(wide), None)])
            start()
            return
        index = table.nearest(assignment.params, unused)
        unused.remove(index)
        chosen[assignment.number] = index
        heapq.heappush(ends, (now + table.curves[index].seconds[0], assignment.number, 1))

    for _ in range(WORKERS):
        start()
    epochs = 0
    while ends:
        now, number, epoch = heapq.heappop(ends)
        epochs += 1
        values = recording.values[chosen[number]]
        metrics = {name: value[epoch - 1] for name, value in values.items()}
        if controller.report(number, [EpochReport(epoch, metrics, None)]):
            seconds = table.curves[chosen[number]].seconds[epoch]
            heapq.heappush(ends, (now + seconds, number, epoch + 1))
        else:
            start()
    return {**winners(recording, controller.state), "seconds": now, "epochs": float(epochs)}


def differences(results: list[dict[str, float]], reference: list[dict[str, float]]) -> str:
    """Return the means of a variant, and the mean differences of the winners in points."""
    text = []
    for name in results[0]:
        own = np.array([result[name] for result in results])
        if name not in ("winner", "by_metric"):
            text.append(f"{name} {own.mean():.1f}")
            continue
        gain = 100 * (own - np.array([other[name] for other in reference]))
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        text.append(f"{name} {100 * own.mean():.2f} ({gain.mean():+.2f} ± {error:.2f})")
    return ", ".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=Path, default=RESULTS / "curves-few.json")
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    options = parser.parse_args()
    recording = load(options.curves)
    if recording.wide_alone is not None:
        print(f"the wide part alone: {recording.wide_alone}")
    seeds = range(options.first_seed, options.first_seed + options.searches)
    figures: dict[str, float] = {}
    for trials in options.trials:
        reference = [search(recording, trials, seed, VARIANTS["asha"]) for seed in seeds]
        for name in options.only:
            results = reference
            if name != "asha":
                results = [search(recording, trials, seed, VARIANTS[name]) for seed in seeds]
            print(f"{trials} trials, {name}: {differences(results, reference)}", flush=True)
            figures[f"{name}_{trials}"] = float(np.mean([r["winner"] for r in results]))
        figures[f"by_metric_{trials}"] = float(np.mean([r["by_metric"] for r in reference]))
    finish("short_searches", figures, {}, keep=False)


if __name__ == "__main__":
    main()
