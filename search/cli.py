"""The command line: one table of commands, each a thin coat over the Python API."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from data_prep.errors import CelltuneError, InputError
from search import cli_data, cli_model, experiment
from search import folder as folders
from search.cli_parts import ConfigPath, Name, Overrides, Storage, make_console, make_view
from search.config import SearchConfig, dump_config
from search.describe import metric_text
from search.experiment import Result
from search.folder import Folder
from search.leaderboard import FORMATS, as_table, render, rows
from search.state import ExperimentState

BAD_INPUT = 2
INTERRUPTED = 130

app = typer.Typer(
    help="Finds the best small recurrent text classifier for your labelled data, on a laptop or "
    "on a Ray cluster, and never loses a search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="Of a running Ray cluster to join (host:port, or auto); a local one is started if "
        "not given.",
    ),
]


@app.command()
def launch(
    config: ConfigPath,
    name: Annotated[
        str | None, typer.Option(help="Of the experiment; the config's name if not given.")
    ] = None,
    overrides: Overrides = None,
    address: Address = None,
    storage: Storage = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the plan, start nothing.")
    ] = False,
) -> None:
    """Start a new search."""
    if dry_run:
        resolved = experiment.resolve(config, overrides or (), name)
        folder = folders.reserve_name(resolved.name, folders.storage_root(storage))
        data = _data(resolved)
        typer.echo(f"{dump_config(resolved)}\n{_plan(resolved)}\n{data}")
        typer.echo(f"It would be stored in {folder.path}. Nothing was started.")
        return
    with _told_when_cut("celltune list", storage):
        result = experiment.launch(
            config,
            name=name,
            storage=storage,
            address=address,
            overrides=overrides or (),
            view=make_view(),
        )
    _conclude(result)


@app.command()
def resume(name: Name, address: Address = None, storage: Storage = None) -> None:
    """Go on with a search that was stopped or killed."""
    with _told_when_cut(f"celltune status {name}", storage):
        result = experiment.resume(name, storage=storage, address=address, view=make_view())
    _conclude(result)


@contextmanager
def _told_when_cut(command: str, storage: str | None) -> Iterator[None]:
    """After a Ctrl-C that the search didn't take as its clean stop, say what to look at."""
    try:
        yield
    except KeyboardInterrupt:
        place = f" --storage {shlex.quote(storage)}" if storage else ""
        typer.echo(f"\nStopped at once. What there is to go on with: {command}{place}", err=True)
        raise typer.Exit(INTERRUPTED) from None


@app.command()
def leaderboard(
    name: Name,
    top: Annotated[int | None, typer.Option(min=1, help="Only the best so many trials.")] = None,
    form: Annotated[str, typer.Option("--format", help=f"One of: {', '.join(FORMATS)}.")] = "table",
    storage: Storage = None,
) -> None:
    """Rank the trials of a search, also while it runs."""
    folder = folders.find(name, folders.storage_root(storage))
    table = rows(folder.state(), folder.config().metric, top)
    drawn = render(table, form)
    if isinstance(drawn, str):
        typer.echo(drawn)
    else:
        make_console().print(drawn)


@app.command("list")
def list_experiments(storage: Storage = None) -> None:
    """List the experiments of a storage."""
    root = folders.storage_root(storage)
    found = [Folder(root / name) for name in folders.names(root)]
    if not found:
        typer.echo(f"No experiments in {root} yet. Start one with: celltune launch CONFIG")
        return
    table = Table(header_style="bold")
    for column in ("experiment", "state", "trials", "best", "last event"):
        table.add_column(column, justify="right" if column in ("trials", "best") else "left")
    for folder in found:
        table.add_row(folder.name, *_summary(folder))
    make_console().print(table)


def _summary(folder: Folder) -> tuple[str, str, str, str]:
    try:
        config, state = folder.config(), folder.state()
    except InputError:
        return ("damaged", "", "", f"see: celltune status {folder.arguments()}")
    ended = len(state.trials) - state.count("unfinished")
    ranked = state.ranked(config.metric)
    best = metric_text(config.metric, ranked[0].best_value(config.metric) if ranked else None)
    when = datetime.fromtimestamp(state.updated_at).astimezone()
    return (
        _standing(folder, config, state),
        f"{ended}/{config.budget.trials}",
        best,
        f"{when:%Y-%m-%d %H:%M:%S}",
    )


def _standing(folder: Folder, config: SearchConfig, state: ExperimentState) -> str:
    if folder.is_locked():
        return "running"
    if state.finished(config.budget.trials):
        return "finished"
    return "stopped" if state.ended else "killed"


@app.command()
def status(name: Name, storage: Storage = None) -> None:
    """Say how a search stands and what to type next."""
    folder = folders.find(name, folders.storage_root(storage))
    config, state = folder.config(), folder.state()
    standing = _standing(folder, config, state)
    typer.echo(f"{folder.name}: {standing}, in {folder.path}")
    counts = {
        "completed": state.count("completed"),
        "pruned": state.count("pruned"),
        "failed": state.count("failed"),
        "running" if standing == "running" else "unfinished": state.count("unfinished"),
        "to come": max(0, config.budget.trials - len(state.trials)),
    }
    typer.echo("trials: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    epochs = sum(trial.epochs_done for trial in state.trials)
    most = config.budget.trials * config.budget.max_epochs
    typer.echo(f"epochs: {epochs} of at most {most}")
    ranked = state.ranked(config.metric)
    if ranked:
        best = metric_text(config.metric, ranked[0].best_value(config.metric))
        typer.echo(f"best {config.metric}: {best} (trial {ranked[0].number})")
    for trial in state.trials:
        if trial.status == "failed":
            typer.echo(f"trial {trial.number} failed: {trial.error}")
    if standing in ("stopped", "killed"):
        typer.echo(f"go on with: celltune resume {folder.arguments()}")


@app.command()
def validate(config: ConfigPath, overrides: Overrides = None) -> None:
    """Check a config and the data that it names; start nothing."""
    resolved = experiment.resolve(config, overrides or ())
    data = _data(resolved)
    typer.echo(f"{_plan(resolved)}\n{data}\n{config} is valid.")


def _data(config: SearchConfig) -> str:
    if config.data.source == "imdb" and config.data.path is None:
        return "Data: the IMDB archive is downloaded at the first launch; it wasn't checked."
    from data_prep import survey

    counts = survey(config.data)
    classes = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
    return f"Data: {sum(counts.values()):,} reviews to learn from ({classes})."


def _plan(config: SearchConfig) -> str:
    stopping = config.early_stopping
    early = (
        f"ASHA from epoch {stopping.grace_period} with factor {stopping.reduction_factor:g}"
        if stopping
        else "no early stopping"
    )
    return (
        f"Plan: {config.budget.trials} trials of up to {config.budget.max_epochs} epochs, {early}, "
        f"{config.resources.cpus_per_trial:g} CPUs and {config.resources.gpus_per_trial:g} GPUs "
        f"each; {config.metric} decides.\n"
        f"Searched: {', '.join(config.space.searched) or 'nothing'}. "
        f"Fixed: {', '.join(config.space.fixed) or 'nothing'}."
    )


def _conclude(result: Result) -> None:
    folder, config, state = result.folder, result.config, result.state
    arguments = folder.arguments()
    if state.ranked(config.metric):
        typer.echo(f"\nLeaderboard of {folder.name}, by {config.metric}:")
        make_console().print(as_table(rows(state, config.metric, 10)))
    failed = [trial for trial in state.trials if trial.status == "failed"]
    if failed:
        typer.echo(f"{len(failed)} trials failed; the first: {failed[0].error}")
    if result.interrupted:
        typer.echo(f"Stopped. Nothing is lost; go on with: celltune resume {arguments}")
        raise typer.Exit(INTERRUPTED)
    if not state.ranked(config.metric):
        typer.echo(f"No trial finished an epoch. Tracebacks are in {folder.ledger}.", err=True)
        raise typer.Exit(1)
    typer.echo(
        "Next:\n"
        f"  celltune leaderboard {arguments}                all trials\n"
        f"  celltune leaderboard {arguments} --format csv   for a spreadsheet\n"
        f"  celltune status {arguments}                     how it went\n"
        f"  celltune export {arguments} -o DIR              the best model, to take away"
    )


cli_data.register(app)
cli_model.register(app)


def main() -> None:
    """Run the command line; what a person got wrong is told in words, with exit code 2."""
    try:
        app()
    except CelltuneError as error:
        typer.echo(f"celltune: {error}", err=True)
        sys.exit(BAD_INPUT if isinstance(error, InputError) else 1)
    except OSError as error:
        typer.echo(f"celltune: {error.filename or 'A file'}: {error.strerror}", err=True)
        sys.exit(1)
