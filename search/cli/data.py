"""Commands for data: `celltune prepare`, `celltune cache list` and `celltune cache clear`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from celltune.data_prep.cache.inventory import cached_datasets, clear
from celltune.data_prep.dataset.tensorized import PreparedData
from celltune.data_prep.io.files import default_cache_dir
from celltune.search.cli.commands import Group, add_command
from celltune.search.cli.init import config_for
from celltune.search.cli.options import (
    AsJson,
    ConfigPath,
    Overrides,
    Unset,
    config_changes,
    make_view,
)
from celltune.search.cli.output import emit_json, make_console, say
from celltune.search.errors import OptionError
from celltune.search.results.tables import Column, TextTable
from celltune.search.runs.session import resolve_for_run
from celltune.search.uris import without_secrets
from celltune.search.wording import counted, percent_text

cache_app = typer.Typer(
    cls=Group,
    help="Prepared data on this machine or in the memory of a Ray cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ClusterAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Address of a running Ray cluster (host:port or auto). Default: the cache on this "
        "machine's disk.",
    ),
]


def prepare(
    config: ConfigPath,
    overrides: Overrides = None,
    unset: Unset = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="Also prepare the test split, which a search never reads."),
    ] = False,
) -> None:
    """Prepare the data of a config in advance; a launch then uses the cached data."""
    from celltune.data_prep.preparation import pipeline

    view = make_view()
    changes = config_changes(overrides, unset)
    resolved = resolve_for_run(config_for(config, changes, view), changes, view=view)
    progress = view.progress
    data = pipeline.prepare(resolved.data, progress=progress)
    say(
        f"Prepared {len(data.train):,} training and {len(data.valid):,} validation documents, "
        f"{data.vocabulary_size:,} token ids, {data.nbytes / 1e6:.1f} MB. "
        f"Fingerprint: {data.fingerprint[:12]}"
    )
    for name, facts in (("Vectors", data.info.get("vectors")), ("Duplicates", _duplicates(data))):
        if isinstance(facts, dict):
            text = ", ".join(f"{key} {_number(value)}" for key, value in facts.items())
            say(f"{name}: {text}")
    wide: Any = data.info.get("wide")
    if wide is not None:
        say(
            f"Wide part: {wide['features']:,} n-grams, penalty {wide['penalty']:g}, validation "
            f"accuracy {percent_text(wide['valid_accuracy'])}, fitted in {wide['seconds']:.1f} s"
        )
    if test:
        prepared = pipeline.prepare_test(resolved.data, progress=progress)
        say(
            f"Prepared {counted(len(prepared.split), 'test document')}. Identical texts "
            f"in other splits: train {prepared.info.get('also_in_train', 0)}, "
            f"valid {prepared.info.get('also_in_valid', 0)}"
        )


def list_cache(address: ClusterAddress = None, as_json: AsJson = False) -> None:
    """List the prepared data sets."""
    if address is not None:
        _list_memory(address, as_json)
        return
    folder = default_cache_dir()
    datasets = cached_datasets(folder)
    if as_json:
        values = [
            {
                "fingerprint": dataset.fingerprint,
                "documents": dict(dataset.documents),
                "damaged": not dataset.documents,
                "bytes": dataset.nbytes,
                "written_at": dataset.modified,
            }
            for dataset in datasets
        ]
        emit_json({"folder": str(folder), "data_sets": values})
        return
    if not datasets:
        say(f"{folder} contains no prepared data. Prepare some with: celltune prepare CONFIG")
        return
    rows = [
        (
            dataset.fingerprint[:12],
            dataset.description,
            f"{dataset.nbytes / 1e6:.1f}",
            f"{datetime.fromtimestamp(dataset.modified).astimezone():%Y-%m-%d %H:%M:%S}",
        )
        for dataset in datasets
    ]
    _show(("fingerprint", "content", "MB", "written"), rows)


def _list_memory(address: str, as_json: bool) -> None:
    from celltune.search.cluster.shared_data import list_shared_data

    datasets = list_shared_data(address)
    if as_json:
        values = [
            {
                "fingerprint": dataset.fingerprint,
                "documents": dataset.documents,
                "bytes": dataset.nbytes,
                "searches": dataset.users,
            }
            for dataset in datasets
        ]
        emit_json({"address": without_secrets(address), "data_sets": values})
        return
    if not datasets:
        say(f"The cluster at {address} holds no prepared data.")
        return
    rows = [
        (
            dataset.fingerprint[:12],
            f"{dataset.documents:,}",
            f"{dataset.nbytes / 1e6:.1f}",
            f"{dataset.users}",
        )
        for dataset in datasets
    ]
    _show(("fingerprint", "documents", "MB", "searches"), rows)


def clear_cache(
    fingerprints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FINGERPRINT",
            help="Fingerprints, or their beginnings, of the data sets to remove. Default: all.",
        ),
    ] = None,
    downloads: Annotated[
        bool, typer.Option("--downloads", help="Also remove downloaded files.")
    ] = False,
    address: ClusterAddress = None,
) -> None:
    """Remove prepared data sets; in a cluster, only those that no search uses.

    The next launch prepares its data again.
    """
    if address is not None:
        if downloads:
            raise OptionError(
                "`downloads` cannot be combined with `address`: downloaded files are on this "
                "machine. Omit one of them."
            )
        _clear_memory(address, fingerprints or None)
        return
    folder = default_cache_dir()
    removed = clear(folder, fingerprints or None, downloads=downloads)
    say(f"Removed {len(removed)} from {folder}: {_short(removed)}")


def _clear_memory(address: str, fingerprints: list[str] | None) -> None:
    from celltune.search.cluster.shared_data import clear_shared_data

    cleared = clear_shared_data(address, fingerprints)
    removed, in_use = cleared.removed, cleared.in_use
    say(f"Removed {len(removed)} from the cluster at {address}: {_short(removed)}")
    if in_use:
        say(f"Kept, because searches use them: {_short(in_use)}")


def _short(fingerprints: Iterable[str]) -> str:
    return ", ".join(fingerprint[:12] for fingerprint in fingerprints) or "-"


def _show(columns: Iterable[str], rows: Sequence[Sequence[str]]) -> None:
    numeric = ("MB", "documents", "searches")
    table = TextTable([Column(name, right=name in numeric) for name in columns], rows)
    make_console().print(table)


def register(app: typer.Typer) -> None:
    """Add the commands to the command table."""
    add_command(app, prepare)
    add_command(cache_app, list_cache, "list")
    add_command(cache_app, clear_cache, "clear")
    app.add_typer(cache_app, name="cache")


def _duplicates(data: PreparedData) -> object:
    counts = data.info.get("duplicates")
    return counts if isinstance(counts, dict) and any(counts.values()) else None


def _number(value: object) -> str:
    # The numbers that are not whole are shares, such as those of words that have a vector.
    return percent_text(value) if isinstance(value, float) else f"{value}"
