"""What the modules of the command line share: arguments, and where things are drawn."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from celltune.search.cli.views import LiveView, PlainView
from celltune.search.config.schema import SearchConfig
from celltune.search.runs.view import View
from celltune.search.storage.base import Experiment
from celltune.search.storage.locate import open_storage

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Override a value of the config; may be repeated."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the experiment; see: celltune list.")]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="CELLTUNE_STORAGE",
        help="Where experiments are: a folder, or a URI as s3://bucket/path; ~/celltune_results if "
        "not given.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="Of a running Ray cluster to join (host:port, or auto); a local one is started if "
        "not given.",
    ),
]


def arguments_for(experiment: Experiment) -> str:
    """Return what to type after a command to name this experiment."""
    if str(experiment.storage) == str(open_storage()):
        return experiment.name
    return f"{experiment.name} --storage {shlex.quote(str(experiment.storage))}"


def make_view() -> View:
    """Give a live view on a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        return LiveView(Console())
    return PlainView(lambda line: print(line, flush=True))  # noqa: T201


def make_console() -> Console:
    """Give a console for tables; off a terminal it is wide, because a narrow one cuts columns."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def data_in_words(config: SearchConfig) -> str:
    """Say what there is to learn from, after a look at it."""
    if config.data.source == "imdb" and config.data.path is None:
        return "Data: the IMDB archive is downloaded at the first launch; it wasn't checked."
    from celltune.data_prep.preparation.pipeline import survey

    counts = survey(config.data)
    classes = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
    return f"Data: {sum(counts.values()):,} reviews to learn from ({classes})."


def plan_in_words(config: SearchConfig) -> str:
    """Say what a config would try, and on what."""
    stopping = config.early_stopping
    early = (
        f"ASHA by {stopping.by} from epoch {stopping.grace_period} with factor "
        f"{stopping.reduction_factor:g}"
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
