"""Search quality: searches simulated on learning curves that were recorded on real reviews.

Usage: python benchmarks/regret.py [--quick] [--searches 50] [--curves FILE]

Three strategies search the configurations of `benchmarks/record_curves.py` with four workers on a
virtual clock, in which each epoch takes as long as when it was recorded (see `_replay.py`):
  random  random search without early stopping
  stock   Ray's OptunaSearch and ASHAScheduler with default settings, called as by Ray Tune
  ours    celltune's controller with a ledger in memory and the settings of configs/imdb.yaml
The target accuracy is 0.5 points below the mean of the best five configurations; the maximum of
many noisy values would be biased. A search that does not reach it within the budget (half of
the time that four workers need for all recorded epochs) counts with the budget. Figures, ratios of
the mean time to target, celltune to the other strategy:
  time_vs_random, time_vs_stock  below 1 is better; with _low and _high, the 95 % bootstrap interval
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _measure import REPOSITORY, RESULTS, finish
from _replay import Method, Replay, Table, load_curves, replay
from _strategies import Celltune, Random, Stock, interval

from celltune.search.config.loading import load_config
from celltune.search.config.schema import SearchConfig

WORKERS = 4
POINTS_BELOW = 0.5
BEST_OF = 5


def load(curves: Path) -> tuple[Table, SearchConfig]:
    config = load_config(REPOSITORY / "configs" / "imdb.yaml")
    table = Table(load_curves(curves), config.space)
    budget = config.budget.model_copy(
        update={"trials": len(table.curves), "max_epochs": table.epochs}
    )
    return table, config.model_copy(update={"budget": budget})


def strategies(table: Table, config: SearchConfig) -> Mapping[str, Callable[[int], Method]]:
    return {
        "random": lambda seed: Random(config.space, seed),
        "stock": lambda seed: Stock(config.space, seed, table.epochs),
        "ours": lambda seed: Celltune(config.model_copy(update={"seed": seed})),
    }


def half_of_all(table: Table) -> float:
    return sum(sum(curve.seconds) for curve in table.curves) / WORKERS / 2


def summary(
    searches: list[Replay], times: np.ndarray, table: Table, budget: float
) -> dict[str, Any]:
    """Return the distribution of the times to target, and the regret at shares of the budget."""
    best = table.best(BEST_OF)
    quantiles = np.quantile(times, [0.1, 0.25, 0.5, 0.75, 0.9])
    return {
        "mean_seconds": round(float(times.mean()), 1),
        "quantiles_10_25_50_75_90": [round(float(value), 1) for value in quantiles],
        "not_reached": int((times >= budget).sum()),
        "regret_points": {
            f"{share:g}": round(
                100
                * float(np.mean([best - search.best_at(share * budget) for search in searches])),
                2,
            )
            for share in (0.05, 0.1, 0.2, 0.5, 1)
        },
        "trials": round(float(np.mean([search.trials for search in searches])), 1),
        "epochs": round(float(np.mean([search.epochs for search in searches])), 1),
        "seconds": [round(float(value), 1) for value in times],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few searches, under a minute")
    parser.add_argument("--searches", type=int, default=50)
    parser.add_argument("--curves", type=Path, default=RESULTS / "curves.json")
    options = parser.parse_args()
    seeds = range(4 if options.quick else options.searches)
    table, config = load(options.curves)
    target, budget = table.best(BEST_OF) - POINTS_BELOW / 100, half_of_all(table)
    reaching = sum(max(curve.valid_accuracy) >= target for curve in table.curves)
    print(f"{len(table.curves)} configurations, {reaching} reach the target {100 * target:.2f} %")
    details: dict[str, Any] = {
        "configurations": len(table.curves),
        "at_target": reaching,
        "target": target,
        "budget_seconds": budget,
    }
    times: dict[str, np.ndarray] = {}
    for name, make in strategies(table, config).items():
        searches = [replay(make(seed), table, workers=WORKERS, budget=budget) for seed in seeds]
        times[name] = np.array([search.time_to(target, budget) for search in searches])
        details[name] = summary(searches, times[name], table, budget)
        shown = {key: value for key, value in details[name].items() if key != "seconds"}
        print(f"{name}: {shown}", flush=True)
    figures: dict[str, float] = {}
    for peer in ("random", "stock"):
        low, high = interval(times["ours"], times[peer], np.random.default_rng(0))
        figures[f"time_vs_{peer}"] = float(times["ours"].mean() / times[peer].mean())
        figures[f"time_vs_{peer}_low"], figures[f"time_vs_{peer}_high"] = low, high
    finish("regret", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
