"""What the modules of the command line share: arguments, and where things are drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from search.view import LiveView, PlainView, View

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
        help="The folder of experiments; ~/celltune_results if not given.",
    ),
]


def make_view() -> View:
    """Give a live view on a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        return LiveView(Console())
    return PlainView(lambda line: print(line, flush=True))  # noqa: T201


def make_console() -> Console:
    """Give a console for tables; off a terminal it is wide, because a narrow one cuts columns."""
    return Console() if sys.stdout.isatty() else Console(width=200)
