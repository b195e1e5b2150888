"""The commands that run a search: ``celltune launch``, ``resume`` and ``stop``."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from celltune.search.cli.options import (
    Address,
    ConfigPath,
    Name,
    Overrides,
    Storage,
    arguments_for,
    data_in_words,
    make_console,
    make_view,
    plan_in_words,
)
from celltune.search.config.loading import dump_config
from celltune.search.errors import ExperimentError
from celltune.search.results.formats import as_table
from celltune.search.results.ranking import rows
from celltune.search.runs import launch as runs
from celltune.search.runs.launch import RunResult
from celltune.search.runs.session import resolve_for_run
from celltune.search.storage.locate import find_experiment, new_experiment
from celltune.search.tuning.budget_changes import Changes
from celltune.search.tuning.stopping import end_reason, explain_end

INTERRUPTED = 130

TimeBudget = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Stop after so long, cleanly: 90s, 30m, 2h; the same as --set budget.time=DURATION.",
    ),
]


def launch(
    config: ConfigPath,
    name: Annotated[
        str | None, typer.Option(help="Of the experiment; the config's name if not given.")
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="OTHER", help="Let Optuna know what this earlier search learned."
        ),
    ] = None,
    time_budget: TimeBudget = None,
    overrides: Overrides = None,
    address: Address = None,
    storage: Storage = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the plan, start nothing.")
    ] = False,
) -> None:
    """Start a new search."""
    settings = _with_time(overrides, time_budget)
    if dry_run:
        resolved = resolve_for_run(config, settings, name)
        folder = new_experiment(resolved.name, storage)
        data = data_in_words(resolved)
        typer.echo(f"{dump_config(resolved)}\n{plan_in_words(resolved)}\n{data}")
        typer.echo(f"It would be stored in {folder.location}. Nothing was started.")
        return
    with _told_when_cut("celltune list", storage):
        result = runs.launch(
            config,
            name=name,
            warm_start=warm_start,
            storage=storage,
            address=address,
            overrides=settings,
            view=make_view(),
        )
    _conclude(result)


def resume(
    name: Name,
    trials: Annotated[
        str | None,
        typer.Option(metavar="N", help="Trials in all (100), or so many more (+20)."),
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Epochs that the best trials get; those that finished train on to it."
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Go on with failed trials, too.")
    ] = False,
    time_budget: TimeBudget = None,
    target: Annotated[
        str | None, typer.Option(metavar="VALUE", help="End when the metric is so good; or none.")
    ] = None,
    patience: Annotated[
        str | None,
        typer.Option(metavar="N", help="End when N trials brought nothing better; or none."),
    ] = None,
    overrides: Overrides = None,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Go on with a search that was stopped, killed or finished."""
    changes = Changes(
        trials=trials,
        max_epochs=max_epochs,
        target=target,
        patience=patience,
        retry_failed=retry_failed,
    )
    with _told_when_cut(f"celltune status {name}", storage):
        result = runs.resume(
            name,
            changes=changes,
            storage=storage,
            address=address,
            overrides=_with_time(overrides, time_budget),
            view=make_view(),
        )
    _conclude(result)


def stop(name: Name, storage: Storage = None) -> None:
    """Stop a search that runs elsewhere, cleanly, and wait until it has stopped."""
    folder = find_experiment(name, storage)
    if not folder.is_locked():
        raise ExperimentError(
            f"The experiment '{folder.name}' isn't running, so there is nothing to stop. "
            f"How it stands: celltune status {arguments_for(folder)}"
        )
    folder.request_stop()
    typer.echo(f"Asked '{folder.name}' to stop; waiting for it ...")
    while folder.is_locked():
        time.sleep(0.2)
    snapshot = folder.snapshot(check_running=False)
    config, state = snapshot.config, snapshot.state
    if (reason := end_reason(config, state)) is not None:
        typer.echo(f"It had come to its end. {explain_end(config, state, reason)}")
        return
    typer.echo(f"Stopped. Nothing is lost; go on with: celltune resume {arguments_for(folder)}")


def register(app: typer.Typer) -> None:
    """Add the commands to the table."""
    for command in (launch, resume, stop):
        app.command()(command)


def _with_time(overrides: list[str] | None, time_budget: str | None) -> list[str]:
    given = list(overrides or ())
    return given if time_budget is None else [*given, f"budget.time={time_budget}"]


@contextmanager
def _told_when_cut(command: str, storage: str | None) -> Iterator[None]:
    """After a Ctrl-C that the search didn't take as its clean stop, say what to look at."""
    try:
        yield
    except KeyboardInterrupt:
        place = f" --storage {shlex.quote(storage)}" if storage else ""
        typer.echo(f"\nStopped at once. What there is to go on with: {command}{place}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _conclude(result: RunResult) -> None:
    folder, config, state = result.folder, result.config, result.state
    arguments = arguments_for(folder)
    if state.ranked(config.metric):
        typer.echo(f"\nLeaderboard of {folder.name}, by {config.metric}:")
        make_console().print(as_table(rows(state, config.metric, 10)))
    failed = [trial for trial in state.trials if trial.status == "failed"]
    if failed:
        typer.echo(f"{len(failed)} trials failed; the first: {failed[0].error}")
    if result.reason == "interrupted":
        typer.echo(f"Stopped. Nothing is lost; go on with: celltune resume {arguments}")
        raise typer.Exit(INTERRUPTED)
    if result.reason == "time":
        typer.echo(f"The time is over. Nothing is lost; go on with: celltune resume {arguments}")
        return
    typer.echo(explain_end(config, state, result.reason))
    if not state.ranked(config.metric):
        typer.echo(
            f"No trial finished an epoch. Tracebacks are in the ledger, in {folder.location}.",
            err=True,
        )
        raise typer.Exit(1)
    if result.reason == "too_many_failed":
        raise typer.Exit(1)
    typer.echo(
        "Next:\n"
        f"  celltune leaderboard {arguments}                all trials\n"
        f"  celltune leaderboard {arguments} --format csv   for a spreadsheet\n"
        f"  celltune report {arguments}                     one page with figures\n"
        f"  celltune status {arguments}                     how it went\n"
        f"  celltune export {arguments} -o DIR              the best model, to take away"
    )
