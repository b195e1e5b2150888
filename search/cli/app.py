"""The command `celltune`. Each subcommand is a thin layer over the Python API."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from celltune.errors import CelltuneError, InputError
from celltune.search.cli import config, data, ensembles, init, model, results, run
from celltune.search.cli.commands import Group, add_command, name_options
from celltune.search.cli.completion import join_words
from celltune.search.cli.init import config_for
from celltune.search.cli.options import (
    ConfigPath,
    Name,
    Overrides,
    Storage,
    Unset,
    arguments_for,
    config_changes,
    describe_data,
    describe_end,
    describe_next_step,
    describe_plan,
    make_view,
)
from celltune.search.cli.output import make_console, protect_streams, say
from celltune.search.cli.prediction import commands as prediction
from celltune.search.cli.scores import commands as scores
from celltune.search.ensembles.wording import gain_sentence, scores_sentence
from celltune.search.results.ranking import (
    context_sentences,
    label_of,
    losses_sentence,
    passed_over_sentence,
)
from celltune.search.results.tables import Column, TextTable
from celltune.search.runs.session import resolve_for_run
from celltune.search.runs.status import ExperimentSummary, summarize
from celltune.search.storage.locate import find_experiment, open_storage
from celltune.search.version import VERSION
from celltune.search.wording import metric_text

BAD_INPUT = 2

app = typer.Typer(
    cls=Group,
    help="Find the best small recurrent text classifier for labelled text, on a laptop or on a Ray "
    "cluster. Every search can be resumed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(requested: bool) -> None:
    if requested:
        say(f"celltune {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options of `celltune` itself."""


def list_experiments(storage: Storage = None) -> None:
    """List the experiments of a storage."""
    root = open_storage(storage)
    experiments = [root.experiment(name) for name in root.names()]
    if not experiments:
        say(f"{root} contains no experiments. Start one with: celltune launch CONFIG")
        return
    columns = [
        Column(name, right=name in ("trials", "best"))
        for name in ("experiment", "state", "trials", "best", "last event")
    ]
    rows: list[tuple[str, ...]] = []
    problems: list[str] = []
    for folder in experiments:
        try:
            rows.append((folder.name, *_summary(summarize(folder))))
        except InputError as error:
            rows.append((folder.name, "damaged", "", "", ""))
            reason = " ".join(name_options(str(error), ()).split())
            problems.append(f"{folder.name} is damaged: {reason}")
    make_console().print(TextTable(columns, rows))
    for problem in problems:
        say(problem)


def _summary(summary: ExperimentSummary) -> tuple[str, str, str, str]:
    updated = datetime.fromtimestamp(summary.state.updated_at).astimezone()
    return (
        summary.status,
        f"{summary.trials_ended}/{summary.config.budget.trials}",
        metric_text(summary.config.metric, summary.best_value),
        f"{updated:%Y-%m-%d %H:%M:%S}",
    )


def status(name: Name, storage: Storage = None) -> None:
    """Show the progress of an experiment and how to continue it."""
    folder = find_experiment(name, storage)
    summary = summarize(folder)
    state, metric = summary.state, summary.config.metric
    say(f"{folder.name}: {summary.status}, stored in {folder.location}")
    counts = {
        "completed": state.count("completed"),
        "pruned": state.count("pruned"),
        "failed": state.count("failed"),
        "running" if summary.status == "running" else "unfinished": state.count("unfinished"),
        "not started": summary.trials_remaining,
    }
    say("trials: " + ", ".join(f"{count} {label}" for label, count in counts.items()))
    say(f"epochs: {summary.epochs} of at most {summary.max_epochs}")
    if (best := summary.best_trial) is not None:
        value = metric_text(metric, summary.best_value)
        label = label_of(state, best, metric)
        say(f"best {metric}: {value} (trial {best.number}{label and f', {label}'})")
    sentences = [
        passed_over_sentence(state, metric),
        *context_sentences(state, metric),
        *describe_next_step(folder, summary.config, state),
    ]
    say(*filter(None, sentences))
    if state.ensemble is not None:
        say(f"{scores_sentence(state.ensemble)} {gain_sentence(state.ensemble)}")
    if sentence := losses_sentence(state):
        say(sentence)
    for trial in state.trials:
        if trial.status == "failed":
            say(f"trial {trial.number} failed: {trial.error}")
    if summary.status == "finished" and summary.end_reason is not None:
        say(*describe_end(folder, summary.config, state, summary.end_reason))
    elif summary.status != "running":
        say(f"Resume it with: celltune resume {arguments_for(folder)}")


def validate(config: ConfigPath, overrides: Overrides = None, unset: Unset = None) -> None:
    """Check a config and its data without starting anything."""
    changes = config_changes(overrides, unset)
    source = config_for(config, changes)
    resolved = resolve_for_run(source, changes, view=make_view())
    say(*describe_plan(resolved), describe_data(resolved), f"{config} is valid.")


run.register(app)
add_command(app, list_experiments, "list")
add_command(app, status)
add_command(app, validate)
config.register(app)
init.register(app)
data.register(app)
ensembles.register(app)
scores.register(app)
results.register(app)
model.register(app)
prediction.register(app)


def main() -> None:
    """Run the command line; an error is one message and exit code 2 (invalid input) or 1."""
    protect_streams()
    join_words()
    try:
        app(prog_name="celltune")
    except CelltuneError as error:
        first, *others = error.lines
        say(f"celltune: {first}", *others, error=True)
        sys.exit(BAD_INPUT if isinstance(error, InputError) else 1)
    except OSError as error:
        subject = error.filename or "The output or a file"
        reason = error.strerror or type(error).__name__
        # The stream for errors may be what cannot be written.
        with suppress(OSError):
            say(f"celltune: {subject} cannot be read or written: {reason}.", error=True)
        sys.exit(1)
