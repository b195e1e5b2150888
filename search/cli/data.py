"""The commands about data: ``celltune prepare`` and ``celltune cache list|clear``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

import typer

from celltune.data_prep.cache.inventory import cached_datasets, clear
from celltune.data_prep.io.files import default_cache_dir
from celltune.search.cli.options import ConfigPath, Overrides, make_console, make_view
from celltune.search.results.tables import Column, TextTable
from celltune.search.runs.session import resolve_for_run

cache_app = typer.Typer(
    help="Prepared data on this machine, and in a cluster's memory.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Of a running Ray cluster (host:port, or auto): its memory instead of this machine's "
        "disk.",
    ),
]


def prepare(
    config: ConfigPath,
    overrides: Overrides = None,
    test: Annotated[
        bool, typer.Option("--test", help="Prepare the test part too, which no search reads.")
    ] = False,
) -> None:
    """Prepare the data of a config ahead, so that launching it finds them ready."""
    from celltune.data_prep.preparation import pipeline

    resolved = resolve_for_run(config, overrides or ())
    progress = make_view().progress
    data = pipeline.prepare(resolved.data, progress=progress)
    typer.echo(
        f"Prepared {len(data.train):,} reviews to train on and {len(data.valid):,} to validate "
        f"on, {data.vocabulary_size:,} ids, {data.nbytes / 1e6:.1f} MB: {data.fingerprint[:12]}"
    )
    for name, found in (("Vectors", data.info.get("vectors")), ("Duplicates", _duplicates(data))):
        if isinstance(found, dict):
            shown = ", ".join(f"{key} {_number(value)}" for key, value in found.items())
            typer.echo(f"{name}: {shown}")
    if test:
        part = pipeline.prepare_test(resolved.data, progress=progress)
        typer.echo(
            f"Prepared {len(part.split):,} reviews of the test part. Their text stands also in: "
            f"train {part.info['also_in_train']}, valid {part.info['also_in_valid']}"
        )


@cache_app.command("list")
def list_cache(address: ClusterAddress = None) -> None:
    """List the prepared sets on this machine, or in a cluster's memory."""
    if address is not None:
        _list_memory(address)
        return
    folder = default_cache_dir()
    found = cached_datasets(folder)
    if not found:
        typer.echo(f"Nothing is prepared in {folder} yet. Fill it with: celltune prepare CONFIG")
        return
    rows = [
        (
            each.name[:12],
            each.what,
            f"{each.nbytes / 1e6:.1f}",
            f"{datetime.fromtimestamp(each.changed).astimezone():%Y-%m-%d %H:%M:%S}",
        )
        for each in found
    ]
    _show(("fingerprint", "what", "MB", "written"), rows)


def _list_memory(address: str) -> None:
    from celltune.data_prep.cache import ray_store as store
    from celltune.search.cluster.connection import connected

    with connected(address):
        found = store.stat()
    if not found:
        typer.echo(f"The cluster at {address} holds no prepared sets. A launch there brings them.")
        return
    rows = [
        (each.fingerprint[:12], f"{each.reviews:,}", f"{each.nbytes / 1e6:.1f}", f"{each.users}")
        for each in found
    ]
    _show(("fingerprint", "reviews", "MB", "searches"), rows)


@cache_app.command("clear")
def clear_cache(
    fingerprints: Annotated[
        list[str] | None, typer.Argument(help="What to remove, as listed; all if not given.")
    ] = None,
    downloads: Annotated[
        bool, typer.Option("--downloads", help="Remove what was downloaded as well.")
    ] = False,
    address: ClusterAddress = None,
) -> None:
    """Remove prepared sets from this machine, or from a cluster's memory what no search uses.

    A launch prepares what it needs again.
    """
    if address is not None:
        if downloads:
            raise typer.BadParameter("downloads lie on this machine; leave --address out")
        _clear_memory(address, fingerprints or None)
        return
    folder = default_cache_dir()
    gone = clear(folder, fingerprints or None, downloads=downloads)
    typer.echo(f"Removed {len(gone)} of {folder}: {_short(gone)}")


def _clear_memory(address: str, fingerprints: list[str] | None) -> None:
    from celltune.data_prep.cache import ray_store as store
    from celltune.search.cluster.connection import connected

    with connected(address):
        gone = store.clear(fingerprints)
        left = [each.fingerprint for each in store.stat() if each.users]
    typer.echo(f"Removed {len(gone)} of the cluster at {address}: {_short(gone)}")
    if left:
        typer.echo(f"Kept what searches use: {_short(left)}")


def _short(fingerprints: Iterable[str]) -> str:
    return ", ".join(each[:12] for each in fingerprints) or "-"


def _show(columns: Iterable[str], rows: Sequence[Sequence[str]]) -> None:
    numeric = ("MB", "reviews", "searches")
    table = TextTable([Column(name, right=name in numeric) for name in columns], rows)
    make_console().print(table)


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    app.command()(prepare)
    app.add_typer(cache_app, name="cache")


def _duplicates(data: object) -> object:
    found = getattr(data, "info", {}).get("duplicates")
    return found if isinstance(found, dict) and any(found.values()) else None


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value}"
