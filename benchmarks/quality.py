"""Test accuracy of the winner of a search and of an ensemble, next to linear baselines.

Usage: python benchmarks/quality.py [--quick] [--data FOLDER] [--work FOLDER] [--sets NAME,NAME]
       [--seeds 2] [--vectors FILE] [--set KEY=VALUE ...] [--finished]

FOLDER contains imdb/train.csv.gz, imdb/test.csv.gz and amazon/amazon_multidomain.csv.gz. The sets
are the first 2,000, 8,000 and all 25,000 IMDB training reviews in a random order; the first
sentences, and the ratings as four classes, of the first 8,000; and the four Amazon domains, of
which each seed holds out another fifth. Every search uses configs/csv.yaml, of which only the path
and the classes are changed, with 20 % of the training documents as its validation split. All
choices are made on that split; the winner is then retrained once (with two seeds on all of IMDB)
and scored, as are the linear models that `celltune evaluate` fits to the same training documents.
Results are stored in --work after every search, so that a repeated call continues; with
--finished, it only shows what is stored. Figures, in percentage points, means over the seeds:
  sets                                   number of data sets
  sets_won, worst_gain, mean_gain        the winner against the better of tfidf_logistic and nb_svm
  sets_won_3, worst_gain_3, mean_gain_3  against the best of these and tfidf_char_logistic
  ensemble_sets_won_3, ...               the ensemble against all three
  worst_gain_f1_3, mean_gain_f1_3        F1 (macro with more than two classes) instead of accuracy
  best_single, best_ensemble             test accuracy on all of IMDB
  SET_accuracy, SET_ensemble, SET_gain_3, SET_minutes   of each data set; minutes of wall time for
                                         the search, the ensemble and the retraining
  test_reads                             number of times that the test splits were read
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from _measure import REPOSITORY, REVIEWS, finish
from _quality.runs import BASELINES, ENSEMBLE, Record, Setting, default_config, is_finished, search
from _quality.sets import SETS, TextSet

LARGEST = "imdb_all"
QUICK = ("budget.trials=3", "budget.max_epochs=2", "data.train_size=400", "data.valid_size=200")


def gains(records: Sequence[Record], model: str, against: Sequence[str], score: str) -> float:
    """Return the mean score of a model above the best of the baselines, in points."""
    means = {
        name: fmean(getattr(record, score)[name] for record in records)
        for name in (model, *against)
    }
    return 100 * (means[model] - max(means[name] for name in against))


def figures_of(by_set: Mapping[str, Sequence[Record]]) -> dict[str, float]:
    """Return the figures of finished searches."""
    figures: dict[str, float] = {"sets": len(by_set)}
    kinds = {
        "": ("winner", BASELINES[:2], "accuracy"),
        "_3": ("winner", BASELINES, "accuracy"),
        "_f1_3": ("winner", BASELINES, "f1"),
    }
    for suffix, (model, against, score) in kinds.items():
        _add_gains(figures, "", suffix, [gains(r, model, against, score) for r in by_set.values()])
    with_ensemble = [records for records in by_set.values() if ENSEMBLE in records[0].accuracy]
    if with_ensemble:
        ensemble = [gains(r, ENSEMBLE, BASELINES, "accuracy") for r in with_ensemble]
        _add_gains(figures, "ensemble_", "_3", ensemble)
    for name, records in by_set.items():
        figures[f"{name}_accuracy"] = 100 * fmean(r.accuracy["winner"] for r in records)
        figures[f"{name}_gain_3"] = gains(records, "winner", BASELINES, "accuracy")
        if ENSEMBLE in records[0].accuracy:
            figures[f"{name}_ensemble"] = 100 * fmean(r.accuracy[ENSEMBLE] for r in records)
        figures[f"{name}_minutes"] = fmean(r.wall_seconds for r in records) / 60
    if LARGEST in by_set:
        figures["best_single"] = figures[f"{LARGEST}_accuracy"]
        figures["best_ensemble"] = figures.get(f"{LARGEST}_ensemble", figures["best_single"])
    figures["test_reads"] = sum(r.test_reads for records in by_set.values() for r in records)
    return figures


def _add_gains(
    figures: dict[str, float], prefix: str, suffix: str, values: Sequence[float]
) -> None:
    figures[f"{prefix}sets_won{suffix}"] = sum(value > 0 for value in values)
    figures[f"{prefix}worst_gain{suffix}"] = min(values)
    figures[f"{prefix}mean_gain{suffix}"] = fmean(values)


def markdown(by_set: Mapping[str, Sequence[Record]]) -> str:
    """Return the mean test accuracies as a Markdown table, in percent."""
    columns = ("winner", ENSEMBLE, *BASELINES)
    head = ["set", "training texts", *columns, "minutes"]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for name, records in by_set.items():
        scores = [
            f"{100 * fmean(r.accuracy[column] for r in records):.1f}"
            if all(column in r.accuracy for r in records)
            else ""
            for column in columns
        ]
        minutes = fmean(r.wall_seconds for r in records) / 60
        lines.append(" | ".join([name, f"{records[0].documents:,}", *scores, f"{minutes:.1f}"]))
    return "\n".join(f"| {line} |" for line in lines)


def _stored(record: Record) -> dict[str, object]:
    """Return the results of a search without its output, which names local folders."""
    return {key: value for key, value in asdict(record).items() if key != "log"}


def show(record: Record) -> None:
    """Print the results of a search on one line."""
    scores = "  ".join(f"{name} {100 * value:.2f}" for name, value in record.accuracy.items())
    print(
        f"{record.set_name:20} seed {record.seed}  {scores}  ({record.wall_seconds / 60:.1f} min, "
        f"{record.cpu_seconds:.0f} CPU-s)",
        flush=True,
    )


def run(text_set: TextSet, seeds: int, arguments: argparse.Namespace) -> list[Record]:
    """Run the searches of a data set: one for each seed; a single one on all of IMDB."""
    overrides = (*(QUICK if arguments.quick else ()), *arguments.set)
    if arguments.vectors:
        overrides = (
            *overrides,
            "data.vectors.train=null",
            f"data.vectors.path={arguments.vectors}",
        )
    largest = text_set.name == LARGEST
    setting = Setting(
        arguments.data,
        arguments.work,
        default_config(),
        overrides,
        retrainings=seeds if largest else 1,
    )
    records = []
    for seed in range(1, 2 if largest else seeds + 1):
        if arguments.finished and not is_finished(text_set, seed, setting):
            continue
        records.append(search(text_set, seed, setting))
        show(records[-1])
    return records


def main() -> None:
    """Run the searches that are not finished yet, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=REVIEWS.parent.parent)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--sets", default=",".join(s.name for s in SETS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--finished", action="store_true", help="run nothing")
    parser.add_argument(
        "--set", action="append", default=[], help="a change of the config, such as a GPU share"
    )
    arguments = parser.parse_args()
    name = "quality_vectors" if arguments.vectors else "quality"
    arguments.work = arguments.work or REPOSITORY / "build" / (
        f"{name}-quick" if arguments.quick else name
    )
    names = ["amazon_books"] if arguments.quick else arguments.sets.split(",")
    unknown = set(names) - {text_set.name for text_set in SETS}
    if unknown:
        sys.exit(f"--sets contains {', '.join(sorted(unknown))}; the sets are the default value.")
    by_set: dict[str, list[Record]] = {}
    for text_set in SETS:
        if text_set.name in names:
            records = run(text_set, 1 if arguments.quick else arguments.seeds, arguments)
            if records:
                by_set[text_set.name] = records
    if not by_set:
        sys.exit(f"--finished shows the searches in {arguments.work}, but none is finished.")
    print(f"\n{markdown(by_set)}\n")
    details = {key: [_stored(record) for record in records] for key, records in by_set.items()}
    finish(name, figures_of(by_set), details, keep=not arguments.quick)


if __name__ == "__main__":
    main()
