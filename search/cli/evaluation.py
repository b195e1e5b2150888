"""The commands that measure: ``celltune evaluate`` and ``celltune compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from celltune.search.cli.comparison_tables import FORMATS, render
from celltune.search.cli.evaluation_tables import as_table, confusion_table
from celltune.search.cli.options import (
    Address,
    Name,
    Overrides,
    Storage,
    arguments_for,
    make_console,
    make_view,
)
from celltune.search.errors import OptionError
from celltune.search.evaluation.comparison import compare as run_comparison
from celltune.search.evaluation.comparison import entries, notes
from celltune.search.evaluation.evaluate import evaluate as run_evaluation
from celltune.search.evaluation.metrics import RESAMPLES
from celltune.search.evaluation.summaries import summaries, verdict
from celltune.search.ledger.state import ExperimentState
from celltune.search.results.formats import as_json, check_format
from celltune.search.storage.locate import find_experiment
from celltune.search.types import Metric
from celltune.spelling import closest_match

INTERRUPTED = 130
PARTS = ("train", "train+valid")


def evaluate(
    name: Name,
    top: Annotated[int, typer.Option(min=1, help="How many of the best trials.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Retrainings of each.")] = 5,
    on: Annotated[str, typer.Option(help=f"What they learn from: {' or '.join(PARTS)}.")] = "train",
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines", help="Measure linear models over word counts as well."
        ),
    ] = True,
    form: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    overrides: Overrides = None,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Retrain the leaders of a search with several seeds and read the test split for each once."""
    if on not in PARTS:
        raise OptionError(f"--on is '{on}'. {closest_match(on, PARTS)}")
    check_format(form, ("table", "json"))
    try:
        state = run_evaluation(
            name,
            top=top,
            seeds=seeds,
            on="train" if on == "train" else "train+valid",
            baselines=baselines,
            storage=storage,
            address=address,
            overrides=overrides or (),
            view=make_view() if form == "table" else None,
        )
    except KeyboardInterrupt:
        arguments = arguments_for(find_experiment(name, storage))
        typer.echo(
            "\nStopped. What was measured is kept; give the same command again to go on: "
            f"celltune evaluate {arguments} --top {top} --seeds {seeds} --on {on}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    metric = find_experiment(name, storage).config().metric
    if form == "json":
        typer.echo(as_json(summaries(state, metric)))
    else:
        _show(state, metric)


def _show(state: ExperimentState, metric: Metric) -> None:
    console, records = make_console(), summaries(state, metric)
    console.print(as_table(records))
    typer.echo(
        f"± is the standard deviation over seeds. The interval is a bootstrap over reviews and "
        f"seeds: {RESAMPLES:,} times as many reviews as there are were drawn with replacement, "
        "and as many seeds."
    )
    trials = [record for record in records if record["kind"] == "trial"]
    if trials:
        count = len(trials[0]["seeds"])
        together = f", {count} seeds together" if count > 1 else ""
        typer.echo(f"\nConfusion of trial {trials[0]['trial']} (counts{together}):")
        for part in ("train", "test"):
            console.print(confusion_table(trials[0], part))
    if words := verdict(state, metric):
        typer.echo(words)
    typer.echo(
        f"The test split was read {state.test_reads} times in this experiment. Choose by "
        "validation, not by these figures: each choice made by them makes them too good."
    )
    broken = [record for record in trials if record["failed_seeds"]]
    for record in broken:
        seeds = ", ".join(map(str, record["failed_seeds"]))
        typer.echo(f"trial {record['trial']} failed with the seeds {seeds}.", err=True)


def compare(
    path: Annotated[
        Path, typer.Argument(metavar="CONFIGS", help="A folder of configs, or one of them.")
    ],
    scale: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="The share of the reviews that is used.")
    ] = 1.0,
    only: Annotated[
        list[str] | None, typer.Option(help="A config's name; may be repeated.")
    ] = None,
    overrides: Overrides = None,
    form: Annotated[str, typer.Option("--format", help=f"One of: {', '.join(FORMATS)}.")] = "table",
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Train published models as they were published, and print reported beside measured."""
    check_format(form, FORMATS)
    chosen = entries(path, scale=scale, only=only or (), overrides=overrides or (), storage=storage)
    view = make_view() if form == "table" else None
    try:
        records = run_comparison(chosen, address=address, view=view)
    except KeyboardInterrupt:
        typer.echo(
            "\nStopped. What was trained is kept; give the same command again to go on.", err=True
        )
        raise typer.Exit(INTERRUPTED) from None
    drawn = render(records, form)
    if isinstance(drawn, str):
        typer.echo(drawn)
    else:
        make_console().print(drawn)
        for note in notes(records):
            typer.echo(note)
    if any(record["error"] for record in records):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    app.command()(evaluate)
    app.command()(compare)
