"""How the files of a table are written, and which of their columns are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.format_config import KINDS, FormatConfig
from celltune.data_prep.inference.columns import FirstRows, choose_columns
from celltune.data_prep.inference.notes import Note
from celltune.data_prep.sources.paths import existing_files
from celltune.data_prep.sources.table import columns_of
from celltune.data_prep.tables.cells import Column
from celltune.data_prep.tables.detect import Detected, detect_files
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.tables.readers import read_cells
from celltune.printable import quoted

_SETTINGS = ("delimiter", "quoting", "header", "encoding", "sheet")
_MOST_COLUMNS = 20


class Completed(NamedTuple):
    """A config whose keys describe how its files are written."""

    config: DataConfig
    notes: tuple[Note, ...]
    """The keys that were not set."""


def with_formats(config: DataConfig) -> Completed:
    """Recognize how the files of a table are written, and choose its columns.

    Args:
        config: a table. The format of a source of another package is not recognized.

    Raises:
        DataError: a file is missing or its format uncertain, no column or more than one can
            contain the texts or labels, or a file lacks a column of the training file.
    """
    if config.source not in ("table", *KINDS):
        return Completed(config, ())
    given = TableFormat.of(config)
    found = _detect("path", config.path, given, config)
    settings = _settings(found, given, keeps_kind=config.source in KINDS)
    notes = [
        Note(key, value, found.reasons.get(_field(key), "")) for key, value in settings.items()
    ]
    config = config.model_copy(update=settings)
    if found.format.kind != "txt":
        config, columns = _with_columns(config, found)
        notes += columns
    for key in ("test", "valid", "unlabelled"):
        config, others = _with_other(config, key, found)
        notes += others
    return Completed(config, tuple(notes))


def _detect(
    key: str,
    paths: Path | tuple[Path, ...] | None,
    given: TableFormat,
    config: DataConfig,
    like: Detected | None = None,
) -> Detected:
    """Detect the format of the files that a key names."""
    files = existing_files(key, paths or Path(), kind="file or folder")
    return detect_files(files, given, config.max_bytes, like=like)


def _field(key: str) -> str:
    """Return the field of `TableFormat` that has the value of a key."""
    return "kind" if key == "format" else key


def _settings(
    found: Detected, given: TableFormat, *, keeps_kind: bool = False
) -> dict[str, object]:
    """Return the detected values of keys that were not given."""
    keys = _SETTINGS if keeps_kind else ("format", *_SETTINGS)
    values = {key: getattr(found.format, _field(key)) for key in keys}
    return {
        key: value
        for key, value in values.items()
        if value is not None and getattr(given, _field(key)) is None
    }


def _with_columns(config: DataConfig, found: Detected) -> tuple[DataConfig, list[Note]]:
    others = [name for name in (config.id_column, config.group_column) if name is not None]
    files = existing_files("path", config.path or Path(), kind="file or folder")

    def all_rows(names: Sequence[str]) -> Iterator[Sequence[str]]:
        columns = [Column("data.label_column", name) for name in names]
        for path in files:
            cells = read_cells(
                path, found.format, columns, config.max_bytes, on_problem=lambda _: None
            )
            yield from (row for _, row in cells)

    table = FirstRows(config.location, found.columns, found.rows, all_rows)
    text, label = choose_columns(table, config.text_column, config.label_column, others)
    chosen = {"text_column": text, "label_column": label}
    notes = [Note(key, each.column, each.reason) for key, each in chosen.items() if each]
    return config.model_copy(update={note.key: note.value for note in notes}), notes


def _with_other(config: DataConfig, split: str, train: Detected) -> tuple[DataConfig, list[Note]]:
    """Set the format of the file of another split, if it is not what it would be read as.

    Args:
        config: with the format and the columns of the training file.
        split: test, valid or unlabelled.
        train: the training file.
    """
    path_key = "unlabelled" if split == "unlabelled" else f"{split}_path"
    key, paths = f"{split}_format", getattr(config, path_key)
    if paths is None:
        return config, []
    own: FormatConfig | None = getattr(config, key)
    # What the user stated about the training file counts where the content does not decide.
    stated = TableFormat() if own is None else TableFormat.of(own)
    found = _detect(path_key, paths, stated, config, like=train)
    _check_columns(config, path_key, found, labelled=split != "unlabelled")
    first = existing_files(path_key, paths, kind="file or folder")[0]
    assumed = TableFormat.of(config) if split != "unlabelled" else TableFormat()
    if own is not None or found.format.stated() == assumed.named(first).stated():
        return config, []
    form = FormatConfig.model_validate(_settings(found, TableFormat()))
    reason = "; ".join(
        why
        for name, why in found.reasons.items()
        if why and getattr(found.format, name) != getattr(train.format, name)
    )
    return config.model_copy(update={key: form}), [Note(key, form, reason)]


def _check_columns(config: DataConfig, key: str, found: Detected, *, labelled: bool) -> None:
    """Check that a file has the columns of the training file.

    Raises:
        DataError: it lacks one.
    """
    if found.format.kind == "txt" and not labelled:
        return
    columns = columns_of(config)
    needed = {"text": columns.text} | ({"label": columns.label} if labelled else {})
    for part, name in needed.items():
        if name not in found.columns:
            raise DataError(
                f"{config.location_of(key.removesuffix('_path'))} has no column {quoted(name)}, "
                f"which has the {part}s in {config.location}. Its columns are "
                f"{_listed(found.columns)}. Name the columns as in the other file, or remove "
                f"data.{key}."
                + (" Texts without labels are classified by `predict`." if part == "label" else "")
            )


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(map(quoted, columns[:_MOST_COLUMNS]))
    more = len(columns) - _MOST_COLUMNS
    return f"{shown} and {more:,} others" if more > 0 else shown
