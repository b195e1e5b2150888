"""The command `celltune`. Each subcommand is a thin layer over the Python API."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import typer

from celltune.errors import CelltuneError, InputError
from celltune.search.cli import config, data, ensembles, housekeeping, init, model, results, run
from celltune.search.cli.commands import Group, add_command, name_options
from celltune.search.cli.completion import join_words
from celltune.search.cli.options import (
    AsJson,
    Name,
    Storage,
    arguments_for,
    describe_end,
    describe_next_step,
)
from celltune.search.cli.output import emit_json, make_console, protect_streams, say
from celltune.search.cli.prediction import commands as prediction
from celltune.search.cli.scores import commands as scores
from celltune.search.cli.validation import commands as validation
from celltune.search.ensembles.wording import gain_sentence, scores_sentence
from celltune.search.results.ranking import (
    context_sentences,
    label_of,
    losses_sentence,
    passed_over_sentence,
)
from celltune.search.results.tables import Column, TextTable
from celltune.search.runs.status import ExperimentSummary, as_plain, summarize
from celltune.search.storage.base import Experiment
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


def list_experiments(storage: Storage = None, as_json: AsJson = False) -> None:
    """List the experiments of a storage."""
    root = open_storage(storage)
    experiments = [root.experiment(name) for name in root.names()]
    if as_json:
        emit_json({"storage": str(root), "experiments": list(map(_listed, experiments))})
        return
    if not experiments:
        say(f"{root} contains no experiments. Start one with: celltune launch FILE")
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
            problems.append(f"{folder.name} is damaged: {_reason(error)}")
    make_console().print(TextTable(columns, rows))
    for problem in problems:
        say(problem)


def _listed(folder: Experiment) -> dict[str, Any]:
    try:
        return as_plain(folder.name, summarize(folder))
    except InputError as error:
        return {"name": folder.name, "status": "damaged", "problem": _reason(error)}


def _reason(error: InputError) -> str:
    return " ".join(name_options(str(error), ()).split())


def _summary(summary: ExperimentSummary) -> tuple[str, str, str, str]:
    updated = datetime.fromtimestamp(summary.state.updated_at).astimezone()
    return (
        summary.status,
        f"{summary.trials_ended}/{summary.trials_planned}",
        metric_text(summary.config.metric, summary.best_value),
        f"{updated:%Y-%m-%d %H:%M:%S}",
    )


def status(name: Name, storage: Storage = None, as_json: AsJson = False) -> None:
    """Show the progress of an experiment and how to continue it."""
    folder = find_experiment(name, storage)
    summary = summarize(folder)
    if as_json:
        emit_json(_status_as_json(folder, summary))
        return
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
    if state.count("failed"):
        say(f"Tracebacks: celltune logs {arguments_for(folder)}")
    if summary.status == "finished" and summary.end_reason is not None:
        say(*describe_end(folder, summary.config, state, summary.end_reason))
    elif summary.status != "running":
        say(f"Resume it with: celltune resume {arguments_for(folder)}")


def _status_as_json(folder: Experiment, summary: ExperimentSummary) -> dict[str, Any]:
    state, best = summary.state, summary.best_trial
    created = state.created
    return {
        **as_plain(folder.name, summary),
        "location": str(folder.location),
        "best_params": None if best is None else dict(best.params),
        "majority_class": created.majority_class if created else None,
        "majority_accuracy": created.majority_accuracy if created else None,
        "baselines": {
            name: {
                "valid_accuracy": score.valid_accuracy,
                "valid_macro_f1": score.valid_macro_f1,
                "valid_balanced_accuracy": score.valid_balanced_accuracy,
                "valid_auroc": score.valid_auroc,
                "valid_loss": score.valid_loss,
            }
            for name, score in state.validated.items()
        },
        "failures": [
            {"trial": trial.number, "error": trial.error}
            for trial in state.trials
            if trial.status == "failed"
        ],
        "workers_lost": state.workers_lost,
        "test_split_reads": state.test_reads,
    }


init.register(app)
run.register(app)
add_command(app, list_experiments, "list")
add_command(app, status)
validation.register(app)
config.register(app)
data.register(app)
ensembles.register(app)
scores.register(app)
results.register(app)
model.register(app)
housekeeping.register(app)
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
