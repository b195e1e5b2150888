"""A complete search on real reviews, compared with a plain Ray Tune script on the same space.

Usage: python benchmarks/search.py [--quick] [--reviews train.csv.gz] [--seed 1]

Both sides use the same reviews, sizes, trials, epochs, rungs and processors, one after the other.
Figures (ratios are celltune to the plain script, so below 1 is better):
  cpu_seconds_ratio  CPU time of all processes, including start and preparation
  wall_ratio         wall-clock time
  accuracy_gain      best validation accuracy, celltune minus the plain script, in percentage points
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _measure import HERE, REVIEWS, Usage, finish, measure


def plain(options: argparse.Namespace, sizes: dict[str, int]) -> tuple[Usage, dict[str, Any]]:
    arguments = [f"--{name}={value}" for name, value in sizes.items()]
    script = str(HERE / "plain_ray_tune.py")
    usage = measure(
        [sys.executable, script, str(options.reviews), f"--seed={options.seed}", *arguments]
    )
    return usage, json.loads(usage.output.strip().splitlines()[-1])


def ours(options: argparse.Namespace, sizes: dict[str, int]) -> tuple[Usage, dict[str, Any]]:
    celltune = str(Path(sys.executable).with_name("celltune"))
    overrides = {
        "seed": options.seed,
        "data.path": options.reviews,
        "data.seed": options.seed,
        "data.train_size": sizes["train"],
        "data.valid_size": sizes["valid"],
        "data.max_tokens": sizes["tokens"],
        "budget.trials": sizes["trials"],
        "budget.max_epochs": sizes["epochs"],
    }
    sets = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as scratch:
        env = {**os.environ, "CELLTUNE_STORAGE": scratch, "CELLTUNE_CACHE": f"{scratch}/cache"}
        usage = measure([celltune, "launch", str(HERE / "search.yaml"), *sets], env)
        ranking = subprocess.run(
            [celltune, "leaderboard", "benchmark", "--format", "json"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
    rows = json.loads(ranking.stdout)
    return usage, {
        "valid_accuracy": rows[0]["valid_accuracy"],
        "trials": len(rows),
        "epochs": sum(row["epochs"] for row in rows),
        "best": rows[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small search, under a minute")
    parser.add_argument("--reviews", type=Path, default=REVIEWS, help="csv.gz: text, label")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not options.reviews.is_file():
        sys.exit(
            f"{options.reviews} is missing; set --reviews to a csv.gz file with text and label."
        )
    options.reviews = options.reviews.resolve()
    sizes = (
        {"train": 256, "valid": 128, "trials": 3, "epochs": 2, "tokens": 64}
        if options.quick
        else {"train": 4000, "valid": 1500, "trials": 12, "epochs": 4, "tokens": 256}
    )
    our_usage, our_result = ours(options, sizes)
    print(f"celltune: {our_usage.cpu:.0f} CPU-s, {our_usage.wall:.0f} s, {our_result}")
    plain_usage, plain_result = plain(options, sizes)
    print(f"plain:    {plain_usage.cpu:.0f} CPU-s, {plain_usage.wall:.0f} s, {plain_result}")
    figures = {
        "cpu_seconds_ratio": our_usage.cpu / plain_usage.cpu,
        "wall_ratio": our_usage.wall / plain_usage.wall,
        "accuracy_gain": 100 * (our_result["valid_accuracy"] - plain_result["valid_accuracy"]),
    }
    details = {
        "sizes": sizes,
        "seed": options.seed,
        "celltune": {"cpu_s": our_usage.cpu, "wall_s": our_usage.wall, **our_result},
        "plain": {"cpu_s": plain_usage.cpu, "wall_s": plain_usage.wall, **plain_result},
    }
    finish("search", figures, details, keep=not options.quick)


if __name__ == "__main__":
    main()
