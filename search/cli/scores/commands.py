"""Commands that read the test split: `celltune evaluate` and `celltune compare`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from celltune.search.cli.commands import add_command
from celltune.search.cli.completion import complete_names
from celltune.search.cli.options import (
    INTERRUPTED,
    Address,
    Name,
    Overrides,
    Storage,
    Unset,
    config_changes,
    make_view,
)
from celltune.search.cli.output import emit, make_console, say, wrapped
from celltune.search.cli.scores.comparison import FORMATS, describe_rest, render
from celltune.search.cli.scores.evaluation import (
    MATRIX_CLASSES,
    as_table,
    confusion_table,
    notes_below,
)
from celltune.search.config.durations import parse_duration
from celltune.search.errors import OptionError
from celltune.search.evaluation.class_table import LISTED_CLASSES, class_table
from celltune.search.evaluation.comparison import compare as run_comparison
from celltune.search.evaluation.comparison import notes
from celltune.search.evaluation.evaluate import EvaluationSettings
from celltune.search.evaluation.evaluate import evaluate as run_evaluation
from celltune.search.evaluation.other_scores import other_scores_table, scores_note
from celltune.search.evaluation.published_models import load_published_models
from celltune.search.evaluation.summaries import summaries, verdict
from celltune.search.ledger.state import ExperimentState
from celltune.search.metrics import RESAMPLES
from celltune.search.results.formats import as_json, check_format
from celltune.search.storage.locate import find_experiment
from celltune.search.types import TRAINING_SPLITS, Metric, TrainingSplits
from celltune.search.wording import counted

TableOrJson = Annotated[
    str,
    typer.Option(
        "--format",
        help="Output format: table or json.",
        autocompletion=complete_names(lambda: ("table", "json")),
    ),
]


def evaluate(
    name: Name,
    top: Annotated[
        int,
        typer.Option(
            min=1, help="Number of best trials to retrain; without effect with --ensemble."
        ),
    ] = 3,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Number of seeds per trial; without effect with --ensemble."),
    ] = 5,
    on: Annotated[
        str, typer.Option(help=f"Splits to train on: {' or '.join(TRAINING_SPLITS)}.")
    ] = "train",
    baselines: Annotated[
        bool,
        typer.Option("--baselines/--no-baselines", help="Also evaluate linear models on n-grams."),
    ] = True,
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble",
            help="Evaluate the ensemble of the experiment instead of retraining trials; see "
            "celltune ensemble. Can be combined with --baselines, but not with --on train+valid. "
            "Earlier results are shown, too.",
        ),
    ] = False,
    form: TableOrJson = "table",
    overrides: Overrides = None,
    unset: Unset = None,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Retrain the best trials with several seeds and evaluate each model once on the test split."""
    check_format(form, ("table", "json"))
    try:
        state = run_evaluation(
            name,
            EvaluationSettings(
                top=top,
                seeds=seeds,
                on=cast("TrainingSplits", on),
                baselines=baselines,
                ensemble=ensemble,
            ),
            storage=storage,
            address=address,
            overrides=config_changes(overrides, unset),
            view=make_view() if form == "table" else None,
        )
    except KeyboardInterrupt:
        hint = "Interrupted. Finished evaluations are saved; continue with"
        say("", f"{hint}: {_same_command()}", error=True)
        raise typer.Exit(INTERRUPTED) from None
    metric = find_experiment(name, storage).config().metric
    if form == "json":
        emit(as_json(summaries(state, metric)))
    else:
        _show(state, metric)


def _show_classes(console: Console, record: Mapping[str, Any]) -> None:
    """Print the scores of each class, and the confusion matrices if there are few classes."""
    count, classes = len(record["seeds"]), len(record["classes"])
    summed = f", sums over {count} seeds" if count > 1 else ""
    name = record["name"].partition(":")[0]
    hidden = classes - LISTED_CLASSES
    listed = f", the {LISTED_CLASSES} of {classes:,} with the lowest F1" if hidden > 0 else ""
    wrapped(console, "", f"Classes of {name} on the test split{listed}:")
    console.print(class_table(record))
    if classes <= MATRIX_CLASSES:
        wrapped(console, "", f"Confusion matrices of {name} (counts{summed}):")
        for split in ("train", "test"):
            console.print(confusion_table(record, split))
    else:
        wrapped(
            console,
            "--format json and the report contain the confusion matrices of all classes.",
        )


def _show(state: ExperimentState, metric: Metric) -> None:
    console, records = make_console(), summaries(state, metric)
    console.print(as_table(records, console.width))
    wrapped(
        console,
        *notes_below(records, console.width),
        f"± is the standard deviation over seeds. The interval is a percentile bootstrap over "
        f"documents and seeds with {RESAMPLES:,} resamples.",
    )
    console.print("", other_scores_table(records))
    wrapped(console, scores_note(records))
    trials = [record for record in records if record["kind"] == "trial"]
    ensembles = [record for record in records if record["kind"] == "ensemble"]
    for record in [*trials[:1], *ensembles]:
        _show_classes(console, record)
    if conclusion := verdict(state, metric):
        wrapped(console, conclusion)
    wrapped(
        console,
        f"The test split was read {counted(state.test_reads, 'time')} in this experiment. "
        "Select models by validation scores: selecting by test scores biases them upwards.",
    )
    for record in trials:
        if not record["failed_seeds"]:
            continue
        seeds = ", ".join(map(str, record["failed_seeds"]))
        say(f"trial {record['trial']} failed with seeds {seeds}.", error=True)


def compare(
    path: Annotated[
        Path, typer.Argument(metavar="CONFIGS", help="A config or a folder of configs.")
    ],
    scale: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="Fraction of the documents that is used.")
    ] = 1.0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds per model.")] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Name of a config to run. Can be repeated. Default: all."),
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Stop cleanly after this time: 90s, 30m or 2h."),
    ] = None,
    overrides: Overrides = None,
    unset: Unset = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help=f"Output format: {', '.join(FORMATS)}.",
            autocompletion=complete_names(lambda: FORMATS),
        ),
    ] = "table",
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Train published models as published and compare the reported with the measured scores.

    Cheap models are trained first, and each with one seed before any has a second one. Results are
    stored: after Ctrl-C, a crash or the time limit, the same command continues.
    """
    check_format(form, FORMATS)
    models = load_published_models(
        path,
        scale=scale,
        only=only or (),
        overrides=config_changes(overrides, unset),
        storage=storage,
    )
    comparison = run_comparison(
        models,
        seeds=seeds,
        time_limit=_seconds(time_budget),
        address=address,
        view=make_view() if form == "table" else None,
    )
    records = comparison.records
    drawn = render(records, form)
    if isinstance(drawn, str):
        emit(drawn)
    else:
        console = make_console()
        console.print(drawn)
        wrapped(console, *notes(records))
    if comparison.reason is not None:
        say("", *describe_rest(comparison, _same_command()), error=True)
    if comparison.reason == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if any(record["error"] for record in records):
        raise typer.Exit(1)


def _same_command() -> str:
    return shlex.join(["celltune", *sys.argv[1:]])


def _seconds(time_budget: str | None) -> float | None:
    try:
        return None if time_budget is None else float(parse_duration(time_budget))
    except ValueError as error:
        raise OptionError(f"`time_budget` {error}") from error


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    add_command(app, evaluate)
    add_command(app, compare)
