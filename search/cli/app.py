"""The command `celltune`. Each subcommand is a thin layer over the Python API."""

from __future__ import annotations

import sys
from datetime import datetime

import typer

from celltune.errors import CelltuneError, InputError
from celltune.search.cli import data, evaluation, model, results, run
from celltune.search.cli.commands import add_command
from celltune.search.cli.options import (
    ConfigPath,
    Name,
    Overrides,
    Storage,
    arguments_for,
    describe_data,
    describe_plan,
    make_console,
)
from celltune.search.results.tables import Column, TextTable
from celltune.search.runs.session import resolve_for_run
from celltune.search.runs.status import _standing
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import find_experiment, open_storage
from celltune.search.tuning.stopping import end_reason, explain_end
from celltune.search.wording import metric_text

BAD_INPUT = 2

app = typer.Typer(
    help="Find the best small recurrent text classifier for labelled text, on a laptop or on a Ray "
    "cluster. Every search can be resumed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def list_experiments(storage: Storage = None) -> None:
    """List the experiments of a storage."""
    root = open_storage(storage)
    experiments = [root.experiment(name) for name in root.names()]
    if not experiments:
        typer.echo(f"{root} contains no experiments. Start one with: celltune launch CONFIG")
        return
    columns = [
        Column(name, right=name in ("trials", "best"))
        for name in ("experiment", "state", "trials", "best", "last event")
    ]
    rows = [(folder.name, *_summary(folder)) for folder in experiments]
    make_console().print(TextTable(columns, rows))


def _summary(folder: Experiment) -> tuple[str, str, str, str]:
    try:
        snapshot = folder.snapshot()
    except InputError:
        return ("damaged", "", "", f"see: celltune status {arguments_for(folder)}")
    config, state = snapshot.config, snapshot.state
    ended = len(state.trials) - state.count("unfinished")
    ranked = state.ranked(config.metric)
    best = metric_text(config.metric, ranked[0].best_value(config.metric) if ranked else None)
    updated = datetime.fromtimestamp(state.updated_at).astimezone()
    return (
        _standing(snapshot),
        f"{ended}/{config.budget.trials}",
        best,
        f"{updated:%Y-%m-%d %H:%M:%S}",
    )


def status(name: Name, storage: Storage = None) -> None:
    """Show the progress of an experiment and how to continue it."""
    folder = find_experiment(name, storage)
    snapshot = folder.snapshot()
    config, state = snapshot.config, snapshot.state
    standing = _standing(snapshot)
    typer.echo(f"{folder.name}: {standing}, stored in {folder.location}")
    counts = {
        "completed": state.count("completed"),
        "pruned": state.count("pruned"),
        "failed": state.count("failed"),
        "running" if standing == "running" else "unfinished": state.count("unfinished"),
        "not started": max(0, config.budget.trials - len(state.trials)),
    }
    typer.echo("trials: " + ", ".join(f"{count} {label}" for label, count in counts.items()))
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
    reason = end_reason(config, state)
    if standing == "finished" and reason is not None:
        typer.echo(explain_end(config, state, reason))
    elif standing != "running":
        typer.echo(f"Resume it with: celltune resume {arguments_for(folder)}")


def validate(config: ConfigPath, overrides: Overrides = None) -> None:
    """Check a config and its data without starting anything."""
    resolved = resolve_for_run(config, overrides or ())
    typer.echo(f"{describe_plan(resolved)}\n{describe_data(resolved)}\n{config} is valid.")


run.register(app)
add_command(app, list_experiments, "list")
add_command(app, status)
add_command(app, validate)
data.register(app)
evaluation.register(app)
results.register(app)
model.register(app)


def main() -> None:
    """Run the command line; an error is one message and exit code 2 (invalid input) or 1."""
    try:
        app()
    except CelltuneError as error:
        typer.echo(f"celltune: {error}", err=True)
        sys.exit(BAD_INPUT if isinstance(error, InputError) else 1)
    except OSError as error:
        typer.echo(f"celltune: {error.filename or 'A file'}: {error.strerror}", err=True)
        sys.exit(1)
