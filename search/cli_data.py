"""The commands about data: ``celltune prepare`` and ``celltune cache list|clear``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from data_prep.files import default_cache_dir
from data_prep.kept import clear, kept_sets
from search import experiment
from search.cli_parts import ConfigPath, Overrides, make_console, make_view

cache_app = typer.Typer(
    help="Prepared data on this machine.", no_args_is_help=True, rich_markup_mode=None
)


def prepare(
    config: ConfigPath,
    overrides: Overrides = None,
    test: Annotated[
        bool, typer.Option("--test", help="Prepare the test part too, which no search reads.")
    ] = False,
) -> None:
    """Prepare the data of a config ahead, so that launching it finds them ready."""
    import data_prep

    resolved = experiment.resolve(config, overrides or ())
    progress = make_view().progress
    data = data_prep.prepare(resolved.data, progress=progress)
    typer.echo(
        f"Prepared {len(data.train):,} reviews to train on and {len(data.valid):,} to validate "
        f"on, {data.vocabulary_size:,} ids, {data.nbytes / 1e6:.1f} MB: {data.fingerprint[:12]}"
    )
    for name, found in (("Vectors", data.info.get("vectors")), ("Duplicates", _duplicates(data))):
        if isinstance(found, dict):
            shown = ", ".join(f"{key} {_number(value)}" for key, value in found.items())
            typer.echo(f"{name}: {shown}")
    if test:
        part = data_prep.prepare_test(resolved.data, progress=progress)
        typer.echo(f"Prepared {len(part.split):,} reviews of the test part.")


@cache_app.command("list")
def list_cache() -> None:
    """List the prepared sets on this machine."""
    folder = default_cache_dir()
    found = kept_sets(folder)
    if not found:
        typer.echo(f"Nothing is prepared in {folder} yet. Fill it with: celltune prepare CONFIG")
        return
    table = Table(header_style="bold")
    for column in ("fingerprint", "what", "MB", "written"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    for each in found:
        when = f"{datetime.fromtimestamp(each.changed).astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(each.name[:12], each.what, f"{each.nbytes / 1e6:.1f}", when)
    make_console().print(table)


@cache_app.command("clear")
def clear_cache(
    fingerprints: Annotated[
        list[str] | None, typer.Argument(help="What to remove, as listed; all if not given.")
    ] = None,
    downloads: Annotated[
        bool, typer.Option("--downloads", help="Remove what was downloaded as well.")
    ] = False,
) -> None:
    """Remove prepared sets from this machine; a launch prepares what it needs again."""
    folder = default_cache_dir()
    gone = clear(folder, fingerprints or None, downloads=downloads)
    typer.echo(f"Removed {len(gone)} of {folder}: {', '.join(each[:12] for each in gone) or '-'}")


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    app.command()(prepare)
    app.add_typer(cache_app, name="cache")


def _duplicates(data: object) -> object:
    found = getattr(data, "info", {}).get("duplicates")
    return found if isinstance(found, dict) and any(found.values()) else None


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value}"
