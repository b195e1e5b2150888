"""The commands about results: ``celltune leaderboard | report | export-study``."""

from __future__ import annotations

import io
import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from celltune.search.cli import output_files as outputs
from celltune.search.cli.options import Name, Storage, make_console, make_view
from celltune.search.errors import OptionError
from celltune.search.extensions import LEADERBOARD_FORMATS
from celltune.search.results.formats import Rendered, format_of, render
from celltune.search.results.ranking import (
    RankedSearch,
    Selection,
    SortOrder,
    fingerprint,
    ranking,
)
from celltune.search.results.searches import read_searches
from celltune.search.results.tables import TextTable
from celltune.search.storage.locate import find_experiment

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Write over a file that exists already.")
]


def leaderboard(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Of experiments; see: celltune list.")
    ],
    metric: Annotated[
        str | None, typer.Option(help="What ranks; what the searches were decided by if not given.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Only such trials: \"cell == 'gru' and hidden_size >= 64\"."),
    ] = None,
    best_per: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Only the best for each value of a column; may be repeated."
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Sort by any column instead of by rank; -COLUMN: large first."
        ),
    ] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Turn the order round.")] = False,
    top: Annotated[int | None, typer.Option(min=1, help="Only the first so many trials.")] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"One of: {', '.join(LEADERBOARD_FORMATS.builtin_names())}, or an installed "
            "extension's. If not given: what the name of --output ends in, or table.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write into this file.")
    ] = None,
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """Rank the trials of one or more searches, also while they run.

    All columns are in --format csv, with every digit.
    """
    chosen = _format(form, output)
    if output is not None:
        outputs.check_output_free(output, overwrite)
    order = SortOrder.parse(sort, reverse=descending)
    selection = Selection(where, tuple(best_per or ()), order, top)
    searches, ranking_metric = read_searches(names, storage, metric)
    drawn = render(selection.apply(ranking(searches, ranking_metric)), chosen)
    _note_other_data(searches)
    if output is not None:
        outputs.write(output, _content(drawn), overwrite)
        typer.echo(f"Written: {output}")
    elif isinstance(drawn, bytes):
        raise OptionError(
            f"The format '{chosen}' is binary, so a terminal cannot show it. Write it into a file "
            "with --output."
        )
    elif isinstance(drawn, str):
        typer.echo(drawn)
    else:
        make_console().print(drawn)


def _format(form: str | None, output: Path | None) -> str:
    if form is None:
        return "table" if output is None else format_of(output.suffix)
    return LEADERBOARD_FORMATS.check(form)


def _content(drawn: Rendered) -> str | bytes:
    if isinstance(drawn, TextTable):
        with (console := Console(width=200, file=io.StringIO())).capture() as captured:
            console.print(drawn)
        return captured.get()
    return f"{drawn}\n" if isinstance(drawn, str) else drawn


def _note_other_data(searches: list[RankedSearch]) -> None:
    if len({fingerprint(search.state) for search in searches}) > 1:
        typer.echo(
            "celltune: these searches stand on different data (see the column data), so their "
            "accuracies were measured on different reviews.",
            err=True,
        )


def report(
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page to write; NAME.html if not given."),
    ] = None,
    overwrite: Overwrite = False,
    storage: Storage = None,
) -> None:
    """Write one page about a search, with its figures; it opens without a network."""
    folder = find_experiment(name, storage)
    path = output or Path(f"{name}.html")
    outputs.check_output_free(path, overwrite)
    from celltune.search.report.page import page
    from celltune.search.report.subject import read_subject

    outputs.write(path, page(read_subject(folder)), overwrite)
    typer.echo(f"Written: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def export_study(
    name: Name,
    storage: Annotated[
        str,
        typer.Option(metavar="URL", help="An Optuna storage to copy into: sqlite:///study.db."),
    ],
    study_name: Annotated[
        str | None, typer.Option(help="Of the study; the experiment's name if not given.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STORAGE",
            envvar="CELLTUNE_STORAGE",
            help="Where experiments are, as --storage of the other commands.",
        ),
    ] = None,
) -> None:
    """Copy a search into an Optuna storage, for optuna-dashboard and Optuna's own plots."""
    from celltune.search.results.optuna_study import copy_to_storage

    folder = find_experiment(name, source)
    snapshot = folder.snapshot(check_running=False)
    config, state = snapshot.config, snapshot.state
    view = make_view()
    copy_to_storage(
        config, state, storage, study_name or name, partial(view.progress, "Copying trials")
    )
    typer.echo(
        f"Copied {len(state.trials)} trials as the study '{study_name or name}'. Look at them "
        f"with: optuna-dashboard {shlex.quote(storage)}"
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    app.command()(leaderboard)
    app.command()(report)
    app.command("export-study")(export_study)
