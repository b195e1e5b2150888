"""Search quality: searches simulated on learning curves that were recorded on real reviews.

Usage: python benchmarks/regret.py [--quick] [--searches 50] [--first-seed 0] [--curves FILE]

Three strategies search the configurations of `benchmarks/record_curves.py` with four workers on a
virtual clock, in which each epoch takes as long as when it was recorded (see `_replay.py`):
  random  random search without early stopping
  stock   Ray's OptunaSearch and ASHAScheduler with default settings, called as by Ray Tune
  ours    celltune's controller with a ledger in memory and the settings of benchmarks/curves.yaml
The target accuracy is 0.5 points below the mean of the best five configurations; the maximum of
many noisy values would be biased. A search that does not reach it within the budget (half of
the time that four workers need for all recorded epochs) counts with the budget. Figures, ratios of
the mean time to target, celltune to the other strategy:
  time_vs_random, time_vs_stock  below 1 is better; with _low and _high, the 95 % bootstrap interval

Packed trials (issue 16) have one shape and run in lockstep. What grouping costs the sampler is
measured at equal throughput, that of the four workers, with 16 slots (see `_replay.py`):
  ours_16        unpacked: 16 trials at a time, each at a quarter of a worker's speed
  packed         one lane of 16 slots; packed_8 and packed_4: two lanes of 8, four lanes of 4
  packed_idle    one lane of 16 slots in which idle slots cost as much as others; packed_8_idle and
                 packed_4_idle: the same with smaller lanes
These searches end when they reach the target. Their figures, ratios of mean times to target:
  packed_time_vs_unpacked        packed to ours_16; with _low and _high
  packed_time_vs_4_workers       packed to ours
  packed_idle_time_vs_unpacked   packed_idle to ours_16; so much of an advantage in throughput of a
                                 full lane is lost
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _measure import REPOSITORY, RESULTS, finish
from _replay import Lanes, Method, Replay, Table, load_curves, replay, replay_packed
from _strategies import Celltune, Random, Stock, interval

from celltune.search.config.loading import load_config
from celltune.search.config.schema import SearchConfig

WORKERS = 4
SLOTS = 16
FULL = ("random", "stock", "ours")
"""The searches that use all of the budget."""
POINTS_BELOW = 0.5
BEST_OF = 5


def load(curves: Path) -> tuple[Table, SearchConfig]:
    config = load_config(REPOSITORY / "benchmarks" / "curves.yaml")
    table = Table(load_curves(curves), config.space)
    budget = config.budget.model_copy(
        update={"trials": len(table.curves), "max_epochs": table.epochs}
    )
    return table, config.model_copy(update={"budget": budget})


def unpacked(
    table: Table, config: SearchConfig, budget: float, target: float
) -> dict[str, Callable[[int], Replay]]:
    """Return the searches without packed trials, as functions of the seed."""

    def search(method: Method) -> Replay:
        return replay(method, table, workers=WORKERS, budget=budget)

    def search_with_slots(seed: int) -> Replay:
        return replay(
            Celltune(seeded(config, seed)),
            table,
            workers=SLOTS,
            budget=budget,
            slowness=SLOTS / WORKERS,
            target=target,
        )

    return {
        "random": lambda seed: search(Random(config.space, seed)),
        "stock": lambda seed: search(Stock(config.space, seed, table.epochs)),
        "ours": lambda seed: search(Celltune(seeded(config, seed))),
        "ours_16": search_with_slots,
    }


def packed(
    table: Table, config: SearchConfig, budget: float, target: float
) -> dict[str, Callable[[int], Replay]]:
    """Return the searches with packed trials, as functions of the seed."""

    def searches(per_lane: int, *, idle_slots: bool) -> Callable[[int], Replay]:
        lanes = Lanes(SLOTS // per_lane, per_lane, WORKERS, idle_slots)

        def search(seed: int) -> Replay:
            method = Celltune(seeded(config, seed), per_lane)
            return replay_packed(method, table, lanes, budget=budget, target=target)

        return search

    return {
        f"{name}{suffix}": searches(per_lane, idle_slots=bool(suffix))
        for name, per_lane in (("packed", 16), ("packed_8", 8), ("packed_4", 4))
        for suffix in ("", "_idle")
    }


def seeded(config: SearchConfig, seed: int) -> SearchConfig:
    return config.model_copy(update={"seed": seed})


def half_of_all(table: Table) -> float:
    return sum(sum(curve.seconds) for curve in table.curves) / WORKERS / 2


def summary(
    searches: list[Replay], times: np.ndarray, table: Table, budget: float
) -> dict[str, Any]:
    """Return the distribution of the times to target, and what the searches trained."""
    quantiles = np.quantile(times, [0.1, 0.25, 0.5, 0.75, 0.9])
    return {
        "mean_seconds": round(float(times.mean()), 1),
        "quantiles_10_25_50_75_90": [round(float(value), 1) for value in quantiles],
        "not_reached": int((times >= budget).sum()),
        "regret_points": regret(searches, table, budget),
        "trials": round(float(np.mean([search.trials for search in searches])), 1),
        "epochs": round(float(np.mean([search.epochs for search in searches])), 1),
        "same_choices": round(
            sum(search.same_choices for search in searches)
            / sum(search.trials for search in searches),
            2,
        ),
        "filled": round(float(np.mean([search.filled for search in searches])), 2),
        "seconds": [round(float(value), 1) for value in times],
    }


def regret(searches: list[Replay], table: Table, budget: float) -> dict[str, float]:
    """Return the mean points below the best configurations at shares of the budget."""
    best = table.best(BEST_OF)
    return {
        f"{share:g}": round(
            100 * float(np.mean([best - search.best_at(share * budget) for search in searches])), 2
        )
        for share in (0.05, 0.1, 0.2, 0.5, 1)
    }


def ratios(times: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the figures: ratios of mean times to target with their bootstrap intervals."""
    pairs = {
        "time_vs_random": ("ours", "random"),
        "time_vs_stock": ("ours", "stock"),
        "packed_time_vs_unpacked": ("packed", "ours_16"),
        "packed_time_vs_4_workers": ("packed", "ours"),
        "packed_idle_time_vs_unpacked": ("packed_idle", "ours_16"),
    }
    figures: dict[str, float] = {}
    for name, (one, other) in pairs.items():
        figures[name] = float(times[one].mean() / times[other].mean())
        generator = np.random.default_rng(0)
        low, high = interval(times[one], times[other], generator)
        figures[f"{name}_low"], figures[f"{name}_high"] = low, high
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few searches, under a minute")
    parser.add_argument("--searches", type=int, default=50)
    parser.add_argument("--curves", type=Path, default=RESULTS / "curves.json")
    parser.add_argument("--first-seed", type=int, default=0, help="others choose rules")
    options = parser.parse_args()
    count = 4 if options.quick else options.searches
    seeds = range(options.first_seed, options.first_seed + count)
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
    runs = {**unpacked(table, config, budget, target), **packed(table, config, budget, target)}
    for name, run in runs.items():
        searches = [run(seed) for seed in seeds]
        times[name] = np.array([search.time_to(target, budget) for search in searches])
        details[name] = summary(searches, times[name], table, budget)
        if name not in FULL:
            del details[name]["regret_points"]  # these searches end at the target
        shown = {key: value for key, value in details[name].items() if key != "seconds"}
        print(f"{name}: {shown}", flush=True)
    finish("regret", ratios(times), details, keep=not options.quick and not options.first_seed)


if __name__ == "__main__":
    main()
