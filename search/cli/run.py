"""Commands that run a search: `celltune launch`, `resume` and `stop`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from celltune.data_prep.extensions import SOURCES
from celltune.search.cli.commands import add_command
from celltune.search.cli.init import config_for
from celltune.search.cli.options import (
    INTERRUPTED,
    Address,
    ConfigPath,
    Name,
    Overrides,
    Storage,
    Unset,
    arguments_for,
    config_changes,
    describe_end,
    describe_next_step,
    describe_plan,
    make_view,
    shown_progress,
)
from celltune.search.cli.output import make_console, say, say_next, wrapped
from celltune.search.cli.validation.commands import read_data, show_data
from celltune.search.config.loading import dump_config
from celltune.search.config.overrides import key_of
from celltune.search.config.schema import SearchConfig
from celltune.search.results.formats import as_table, common_sentence, notes_below
from celltune.search.results.ranking import context_sentences, ranking_of
from celltune.search.runs import launch as runs
from celltune.search.runs.launch import RunResult
from celltune.search.runs.session import resolve_for_run
from celltune.search.runs.status import summarize
from celltune.search.runs.stop_requests import request_stop, wait_until_stopped
from celltune.search.storage.locate import find_experiment, new_experiment
from celltune.search.tuning.budget_changes import Changes
from celltune.search.wording import counted

_MOST_CLASSES = 20
"""Classes of a config that a dry run shows."""

TimeBudget = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Stop cleanly after this time: 90s, 30m or 2h. Same as --set budget.time=DURATION.",
    ),
]


def launch(
    config: ConfigPath,
    name: Annotated[
        str | None, typer.Option(help="Name of the experiment. Default: the config's name.")
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="OTHER", help="Give the sampler the trials of this experiment."
        ),
    ] = None,
    time_budget: TimeBudget = None,
    overrides: Overrides = None,
    unset: Unset = None,
    address: Address = None,
    storage: Storage = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show the plan; start nothing.")
    ] = False,
) -> None:
    """Start a new search."""
    from celltune.search.setup.inspection import experiment_name, is_data

    settings = _with_time(config_changes(overrides, unset), time_budget)
    if is_data(config) and not any(key_of(each) == "name" for each in settings):
        # Reading the data may take minutes.
        new_experiment(name or experiment_name(str(config)), storage)
    with shown_progress() as view:
        source = config_for(config, settings, view, name=name, time=time_budget)
    if dry_run:
        with shown_progress() as view:
            resolved = resolve_for_run(source, settings, name, view=view)
            folder = new_experiment(resolved.name, storage)
            data = read_data(resolved, view)
        say(*_shown_config(resolved), *describe_plan(resolved))
        show_data(data, resolved)
        say(f"Dry run: nothing was started. The experiment would be stored in {folder.location}.")
        return
    with _hint_after_interrupt("celltune list", storage):
        result = runs.launch(
            source,
            name=name,
            warm_start=warm_start,
            storage=storage,
            address=address,
            overrides=settings,
            view=make_view(),
        )
    _print_result(result)


def resume(
    name: Name,
    trials: Annotated[
        str | None,
        typer.Option(metavar="N", help="New total number of trials (100) or increment (+20)."),
    ] = None,
    max_epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="New maximum number of epochs. The best trial is trained further, even if it was "
            "pruned, and so are completed trials that the early-stopping rule lets continue. Those "
            "that ended because they no longer improved (budget.epoch_patience) stay as they are.",
        ),
    ] = None,
    repeat: Annotated[
        bool,
        typer.Option(
            "--repeat",
            help="Let further trials repeat configurations that were tried, with other seeds.",
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Retry failed trials from their latest checkpoints."),
    ] = False,
    time_budget: TimeBudget = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="VALUE", help="End when the metric reaches this value, or none."),
    ] = None,
    patience: Annotated[
        str | None,
        typer.Option(metavar="N", help="End after N trials without improvement, or none."),
    ] = None,
    overrides: Overrides = None,
    unset: Unset = None,
    address: Address = None,
    storage: Storage = None,
) -> None:
    """Continue a search that was stopped or killed, or extend a finished one."""
    changes = Changes(
        trials=trials,
        max_epochs=max_epochs,
        target=target,
        patience=patience,
        repeat=repeat,
        retry_failed=retry_failed,
    )
    with _hint_after_interrupt(f"celltune status {name}", storage):
        result = runs.resume(
            name,
            changes=changes,
            storage=storage,
            address=address,
            overrides=_with_time(config_changes(overrides, unset), time_budget),
            view=make_view(),
        )
    _print_result(result)


def stop(name: Name, storage: Storage = None) -> None:
    """Stop a running search from another terminal and wait until it has stopped."""
    folder = find_experiment(name, storage)
    request_stop(folder)
    say(f"Asked '{folder.name}' to stop; waiting ...")
    wait_until_stopped(folder)
    summary = summarize(folder)
    if summary.end_reason is not None:
        explanation = describe_end(folder, summary.config, summary.state, summary.end_reason)
        say(f"The search had already ended. {explanation[0]}", *explanation[1:])
        return
    say(f"Stopped. Progress is saved; resume with: celltune resume {arguments_for(folder)}")


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    for command in (launch, resume, stop):
        add_command(app, command)


def _shown_config(config: SearchConfig) -> list[str]:
    """Return a config as lines of YAML; classes that would fill a terminal are only counted."""
    count = len(config.data.classes or ())
    if count <= _MOST_CLASSES:
        return dump_config(config).split("\n")
    data = config.data.model_copy(update={"classes": None})
    lines = dump_config(config.model_copy(update={"data": data})).split("\n")
    note = f"  # {count:,} classes, which are not shown"
    return [f"{line}{note}" if line == "  classes: null" else line for line in lines]


def _with_time(given: list[str], time_budget: str | None) -> list[str]:
    return given if time_budget is None else [*given, f"budget.time={time_budget}"]


@contextmanager
def _hint_after_interrupt(command: str, storage: str | None) -> Iterator[None]:
    """Name a command to continue with, if Ctrl-C comes outside of the search's clean stop."""
    try:
        yield
    except KeyboardInterrupt:
        place = f" --storage {shlex.quote(storage)}" if storage else ""
        say("", f"Interrupted. See what was saved with: {command}{place}", error=True)
        raise typer.Exit(INTERRUPTED) from None


def _print_result(result: RunResult) -> None:
    folder, config, state = result.experiment, result.config, result.state
    arguments = arguments_for(folder)
    if state.ranked(config.metric):
        rows = ranking_of(config, state)
        shown = f" (best 10 of {len(rows)})" if len(rows) > 10 else ""
        say("", f"Leaderboard of {folder.name}, by {config.metric}{shown}:")
        console = make_console()
        console.print(as_table(rows[:10]))
        common = common_sentence(rows[:10])
        sentences = [
            *notes_below(rows[:10]),
            *filter(None, [common]),
            *context_sentences(state, config.metric),
        ]
        wrapped(console, *sentences, *describe_next_step(folder, config, state))
    failed = [trial for trial in state.trials if trial.status == "failed"]
    if failed:
        say(
            f"{counted(len(failed), 'trial')} failed. First error: {failed[0].error}",
            f"Traceback: celltune logs {arguments} --trial {failed[0].number}",
        )
    if result.reason == "interrupted":
        say(f"Stopped. Progress is saved; resume with: celltune resume {arguments}")
        raise typer.Exit(INTERRUPTED)
    if result.reason == "time":
        say(
            "The time limit was reached. Progress is saved; resume with: celltune resume "
            f"{arguments}"
        )
    else:
        wrapped(make_console(), *describe_end(folder, config, state, result.reason))
    if result.reason == "time" and not state.ranked(config.metric):
        return
    if not state.ranked(config.metric):
        say(
            f"No trial completed an epoch. Tracebacks: celltune logs {arguments}",
            error=True,
        )
        raise typer.Exit(1)
    if result.reason == "too_many_failed":
        raise typer.Exit(1)
    say_next(_next_commands(config, arguments))


def _next_commands(config: SearchConfig, arguments: str) -> dict[str, str]:
    """Return what to do after a search: commands and their purpose."""
    evaluate = f"celltune evaluate {arguments} --top 1 --seeds 2"
    commands = {
        f"celltune leaderboard {arguments}": "all trials",
        f"celltune leaderboard {arguments} --format csv": "all columns, every digit",
        f"celltune report {arguments}": "a page with figures",
        evaluate: "retrain the best trial, read the test split",
        f"celltune predict {arguments} TEXT": "the class of a text",
        f"celltune export {arguments} -o DIR": "the best model as a folder",
        f"celltune status {arguments}": "progress and errors",
    }
    if not SOURCES.load(config.data.source).has_test(config.data):
        del commands[evaluate]
    return commands
