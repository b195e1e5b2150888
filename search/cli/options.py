"""Options that several commands share, and what several commands print."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from celltune.search.baselines.comparison import next_step
from celltune.search.cli.commands import at_end
from celltune.search.cli.completion import (
    complete_experiments,
    complete_keys,
    complete_overrides,
)
from celltune.search.cli.output import make_console, say
from celltune.search.cli.views import LiveView, PlainView
from celltune.search.config.overrides import REMOVE
from celltune.search.config.schema import SearchConfig
from celltune.search.ledger.state import ExperimentState
from celltune.search.runs.view import View
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import open_storage
from celltune.search.tuning.first_trials import outside_note
from celltune.search.tuning.packing import describe_packs
from celltune.search.tuning.stopping import SearchEnd, explain_end
from celltune.search.tuning.untried import all_tried, describe_configurations
from celltune.search.wording import counted, describe_params

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells report it."""

ConfigPath = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG|FILE",
        help="The YAML file of the search; see configs/. A file of labelled texts in its place is "
        "searched with the config that celltune init would write.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        help="Override a config value; see celltune config explain. Can be repeated.",
        autocompletion=complete_overrides,
    ),
]
Unset = Annotated[
    list[str] | None,
    typer.Option(
        "--unset",
        metavar="KEY.PATH",
        help="Remove a key of the config, before values are set. Can be repeated.",
        autocompletion=complete_keys,
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Name of the experiment; see celltune list.",
        autocompletion=complete_experiments,
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="CELLTUNE_STORAGE",
        help="Where experiments are stored: a folder or a URI such as s3://bucket/path. "
        "Default: ~/celltune_results.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="Address of a running Ray cluster: host:port or auto. Default: start a local Ray.",
    ),
]
Trial = Annotated[
    int | None,
    typer.Option(min=0, help="Number of the trial. Default: the best trial."),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble", help="Use the ensemble of the experiment instead; see celltune ensemble."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object for programs; see docs/results.md.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


def config_changes(overrides: list[str] | None, unset: list[str] | None) -> list[str]:
    """Return the changes of a config that --set and --unset request, as the Python API has them."""
    return [*(f"{REMOVE}{key}" for key in unset or ()), *(overrides or ())]


def arguments_for(experiment: Experiment) -> str:
    """Return what to type after a command to name this experiment."""
    if str(experiment.storage) == str(open_storage()):
        return experiment.name
    return f"{experiment.name} --storage {shlex.quote(str(experiment.storage))}"


_EXTENDING_OPTIONS: dict[SearchEnd, str] = {
    "finished": "--trials +20",
    "exhausted": "--trials +20 --repeat",
    "target": "--target none",
    "no_improvement": "--patience none",
    "too_many_failed": "--retry-failed",
}


def describe_end(
    experiment: Experiment, config: SearchConfig, state: ExperimentState, reason: SearchEnd
) -> list[str]:
    """Return why a search ended, and the command that extends it, as lines."""
    if reason == "finished" and all_tried(config, state):
        reason = "exhausted"
    command = f"celltune resume {arguments_for(experiment)} {_EXTENDING_OPTIONS[reason]}"
    return [explain_end(config, state, reason), f"Example: {command}"]


def describe_next_step(
    experiment: Experiment, config: SearchConfig, state: ExperimentState
) -> list[str]:
    """Return what to do if a linear model is better than the best trial, as lines."""
    advice = next_step(config, state)
    if advice is None:
        return []
    command = f"celltune export {arguments_for(experiment)} --baseline -o DIR"
    return [advice.text, *([f"Export the wide part alone: {command}"] if advice.can_export else [])]


def make_view() -> View:
    """Return a live view on a terminal, which the end of the command closes; else plain lines."""
    if sys.stdout.isatty():
        view = LiveView(make_console())
        at_end(view.close)
        return view
    return PlainView(say)


@contextmanager
def shown_progress() -> Iterator[View]:
    """Return a view whose progress bars are removed afterwards, so that lines can be printed."""
    view = make_view()
    try:
        yield view
    finally:
        if isinstance(view, LiveView):
            view.close()


def describe_plan(config: SearchConfig) -> list[str]:
    """Return the budget, the resources and the searched hyperparameters of a config, as lines."""
    stopping = config.early_stopping
    early = stopping.describe() if stopping else "no early stopping"
    resources = config.resources
    packed = resources.trials_per_worker
    if (patience := config.budget.epoch_patience) is not None:
        early += f", {counted(patience, 'epoch')} without improvement end a trial"
    lines = [
        f"Plan: {counted(config.budget.trials, 'trial')} of up to "
        f"{counted(config.budget.max_epochs, 'epoch')}, {early}, "
        f"{counted(config.resources.cpus_per_trial, 'CPU')} and "
        f"{counted(config.resources.gpus_per_trial, 'GPU')} per "
        f"{'trial' if packed == 1 else f'worker of {packed} trials'}; metric {config.metric}.",
        f"Searched: {', '.join(config.space.searched) or 'nothing'}. "
        f"Fixed: {', '.join(config.space.fixed) or 'nothing'}.",
    ]
    if line := describe_configurations(config):
        lines.append(line)
    if config.first_trials:
        first = "; ".join(describe_params(trial) for trial in config.first_trials)
        lines.append(f"First trials: {first}.")
    lines += filter(None, [outside_note(config), _decay_note(config)])
    if packed > 1:
        lines.append(describe_packs(config))
    if resources.gpus_per_trial > 0:
        lines.append("The GPUs, their memory and torch are checked at the launch.")
    return lines


def _decay_note(config: SearchConfig) -> str:
    """Return when the learning rate has fallen to its minimum, if it does so before the end."""
    decay, epochs = config.space.fixed.get("decay_epochs"), config.budget.max_epochs
    if not isinstance(decay, int) or decay >= epochs:
        return ""
    return (
        f"space.decay_epochs is {decay}, so trials train with 1 % of their learning rate from "
        f"epoch {decay + 1} on."
    )
