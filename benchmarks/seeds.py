"""The published models of configs/seeds at full size, next to the results of their sources.

Usage: python benchmarks/seeds.py [--quick] [--reviews FOLDER] [--vectors FILE] [--amazon FILE]
       [--storage seeds-storage] [--seeds 3] [--short-minutes 20] [--time-budget 2h]

FOLDER contains train.csv.gz and test.csv.gz of IMDB with the columns text and label; the vectors
are GloVe with 100 dimensions. Sahin's data are not available, so --amazon, a csv file with the
columns text and label, replaces them. Zhao's models need the extra spacy. All models are trained
with one seed, the cheapest first, and then those that need less CPU time than --short-minutes with
the other seeds. Results are kept in --storage, and the file of results is written after each of
them: the same command continues after an interruption. Figures:
  rows                     number of published models
  rows_full_size           models with at least one result on all documents
  rows_compared            of those, models whose source reports a test accuracy on the same data
  rows_at_or_above_reported_minus_2
                           of those, models whose mean test accuracy is at least the reported one
                           minus 2 points
  trainings                finished trainings of all models
  cpu_seconds              CPU time of their training epochs
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _measure import REPOSITORY, REVIEWS, finish, store

from celltune.search.cli.scores.comparison import describe_rest
from celltune.search.cli.views import PlainView
from celltune.search.config.durations import parse_duration
from celltune.search.evaluation.comparison import Comparison, compare, summarize
from celltune.search.evaluation.published_models import PublishedModel, load_published_models

CONFIGS = REPOSITORY / "configs" / "seeds"
DATA = REVIEWS.parents[1]
TOLERANCE = 0.02
"""Largest difference below the reported test accuracy that counts as a reproduction."""


class StoringView(PlainView):
    """Prints lines, and stores the figures after each of them: a result is one line."""

    def __init__(self, models: Sequence[PublishedModel], options: argparse.Namespace) -> None:
        super().__init__(lambda line: print(line, flush=True))
        self._models, self._options = models, options

    def message(self, line: str) -> None:
        super().message(line)
        if not self._options.quick:
            store("seeds", *results(summarize(self._models, self._options.seeds)))


def full_models(options: argparse.Namespace) -> list[PublishedModel]:
    """Return all models on the files of the options; exit if a file is missing."""
    files = [options.reviews / name for name in ("train.csv.gz", "test.csv.gz")]
    files = [path.resolve() for path in (*files, options.vectors, options.amazon)]
    for path in files:
        if not path.is_file():
            raise SystemExit(f"{path} is missing; see --help for the files that are needed.")
    train, test, vectors, amazon = map(str, files)
    imdb = {"data.source": "csv", "data.path": train, "data.test_path": test}
    glove = {"data.vectors.name": "null", "data.vectors.path": vectors}
    stand_in = {
        "published.stand_in.path": amazon,
        "published.stand_in.vectors.name": "null",
        "published.stand_in.vectors.path": vectors,
    }
    kinds = {"hw3": imdb | glove, "perf": imdb | glove, "zhao": imdb | glove}
    kinds |= {"sayed": imdb, "sahin": stand_in}
    limit = (
        {} if options.concurrent is None else {"resources.concurrent_trials": options.concurrent}
    )
    return [
        model
        for path in sorted(CONFIGS.glob("*.yaml"))
        for model in load(
            path, options.storage, kinds[path.stem.partition("-")[0]] | limit, options.set
        )
    ]


def small_models(storage: Path) -> list[PublishedModel]:
    """Return all models on a few synthetic documents."""
    synthetic = "{source: synthetic, reviews: 120, test_size: 40, max_tokens: 32}"
    overrides = {"data": synthetic, "published.stand_in": "null", "budget.max_epochs": 1}
    return [
        model for path in sorted(CONFIGS.glob("*.yaml")) for model in load(path, storage, overrides)
    ]


def load(
    path: Path, storage: Path, overrides: dict[str, Any], changes: Sequence[str] = ()
) -> list[PublishedModel]:
    sets = [*(f"{key}={value}" for key, value in overrides.items()), *changes]
    return load_published_models(path, scale=1.0, overrides=sets, storage=storage)


def train(models: Sequence[PublishedModel], options: argparse.Namespace) -> Comparison:
    """Train all models with one seed, then the short ones with the others."""
    view = StoringView(models, options)
    started = time.monotonic()
    first = compare(models, time_limit=options.time_budget, view=view)
    if first.reason is not None:
        return first
    fast = [
        model
        for model, record in zip(models, first.records, strict=True)
        if (record["measured_cpu_seconds"] or float("inf")) < 60 * options.short_minutes
    ]
    left = options.time_budget and options.time_budget - (time.monotonic() - started)
    return compare(fast, seeds=options.seeds, time_limit=left, view=view) if fast else first


def results(records: Sequence[dict[str, Any]]) -> tuple[dict[str, float], dict[str, object]]:
    """Return the figures and the rows."""
    done = [record for record in records if record["seeds"]]
    compared = [
        record
        for record in done
        if record["difference_test_accuracy"] is not None and not record["stands_in"]
    ]
    figures = {
        "rows": len(records),
        "rows_full_size": sum(record["scale"] == 1 for record in done),
        "rows_compared": len(compared),
        "rows_at_or_above_reported_minus_2": sum(
            record["difference_test_accuracy"] >= -TOLERANCE for record in compared
        ),
        "trainings": sum(len(record["seeds"]) for record in done),
        "cpu_seconds": sum(
            len(record["seeds"]) * (record["measured_cpu_seconds"] or 0) for record in done
        ),
    }
    return figures, {"rows": list(records)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="synthetic documents, under a minute")
    parser.add_argument("--reviews", type=Path, default=REVIEWS.parent)
    parser.add_argument(
        "--vectors", type=Path, default=DATA / "glove" / "glove.6B.100d.reviews.txt.gz"
    )
    parser.add_argument(
        "--amazon", type=Path, default=DATA / "amazon" / "amazon_multidomain.csv.gz"
    )
    parser.add_argument("--storage", type=Path, default=REPOSITORY.parent / "seeds-storage")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of models that train fast")
    parser.add_argument("--short-minutes", type=float, default=20, help="CPU time of such a model")
    parser.add_argument("--concurrent", type=int, help="models that are trained side by side")
    parser.add_argument(
        "--set", action="append", default=[], help="a change of every config, such as a GPU share"
    )
    parser.add_argument("--time-budget", type=parse_duration, help="such as 90s, 30m or 2h")
    options = parser.parse_args()
    os.environ.setdefault("CELLTUNE_CACHE", str(options.storage / "cache"))
    if options.quick:
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["CELLTUNE_CACHE"] = f"{scratch}/cache"
            options.seeds = 1
            models = small_models(Path(scratch))
            train(models, options)
            finish("seeds", *results(summarize(models, 1)), keep=False)
        return
    models = full_models(options)
    comparison = train(models, options)
    if comparison.reason is not None:
        print(*describe_rest(comparison, shlex.join(["python", *sys.argv])), sep="\n")
    finish("seeds", *results(summarize(models, options.seeds)), keep=True)


if __name__ == "__main__":
    main()
