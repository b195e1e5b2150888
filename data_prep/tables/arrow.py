"""Reader of data sets that Hugging Face `datasets` saved on disk: Arrow files in a folder.

Arrow files can come from anyone, so each message is looked at before pyarrow reads it: only plain
columns without compression are accepted, whose memory is that of the file.

Source of the layout: Apache Arrow, "Serialization and Interprocess Communication"; FlatBuffers
internals; `datasets.Dataset.save_to_disk`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import BYTES_PER_DOCUMENT, content_limit, too_large, too_many
from celltune.data_prep.io.regular import FileTooLargeError, open_regular, read_regular
from celltune.data_prep.io.strict_json import parse_json
from celltune.data_prep.tables.cells import Cells, Column, as_text, positions
from celltune.printable import printable, quoted

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
BATCH_ROWS = 4_096
MOST_BYTES = 1 << 30
"""Largest batch of rows: 1 GiB. `datasets` writes 1,000 rows at a time."""

_FILE_MAGIC, _CONTINUATION = b"ARROW1\0\0", b"\xff\xff\xff\xff"
_SCHEMA, _RECORDS = 1, 3
_INFO_BYTES, _HEADER_BYTES = 1 << 24, 1 << 24


class _DamagedError(Exception):
    """A file is not complete or has a form that `datasets` does not write."""


def dataset_files(path: Path) -> list[Path]:
    """Return the Arrow files of a data set, in the order of its rows.

    Args:
        path: a folder of `Dataset.save_to_disk`, or a single Arrow file.

    Raises:
        DataError: the folder contains no data set, or several splits.
    """
    if not path.is_dir():
        return [path]
    if (path / SPLITS).exists():
        raise _several_splits(path)
    if not (path / STATE).exists():
        raise DataError(
            f"{printable(path)} is a folder, but not one that `save_to_disk` of Hugging Face "
            f"datasets wrote: it has no {STATE}. Name a file, or several with a pattern such as "
            f"{printable(path)}/*.csv."
        )
    state = _read_json(path / STATE)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(
            f"{printable(path)} refers to rows by an index. Save the data set with a current "
            f"version of datasets, or call flatten_indices() before save_to_disk."
        )
    entries = state.get("_data_files")
    names = [
        entry.get("filename") if isinstance(entry, dict) else None
        for entry in (entries if isinstance(entries, list) else ())
    ]
    for name in names:
        if not isinstance(name, str) or not _is_file_name(name):
            raise DataError(
                f"{printable(path / STATE)} names the file {quoted(name)}, which is not in the "
                f"folder. Get the data set again."
            )
    if not names:
        raise DataError(f"{printable(path)} names no Arrow files. It needs labelled documents.")
    return [path / str(name) for name in names]


def _is_file_name(name: str) -> bool:
    """Return whether a name is that of a file in the same folder, without odd characters."""
    return name.isprintable() and Path(name).name == name and name not in ("", "..")


def stored_files(path: Path) -> list[Path]:
    """Return the files whose content a path stands for: itself, or those of a data set.

    Raises:
        DataError: as for `dataset_files`.
    """
    info = path / INFO
    return [*dataset_files(path), *([info] if info.exists() else [])]


def stored_size(path: Path) -> int:
    """Return the size of a file, or of the Arrow files of a data set, in bytes.

    Raises:
        DataError: as for `dataset_files`.
        OSError: a file is missing.
    """
    return sum(file.stat().st_size for file in dataset_files(path))


def dataset_columns(path: Path, max_bytes: int | None) -> tuple[str, ...]:
    """Return the names of the columns of a data set that contain plain values.

    Raises:
        DataError: the data set is damaged, or has no such columns.
    """
    first = dataset_files(path)[0]
    with _opened(first, max_bytes) as (raw, _):
        start = _start(raw)
        _count_rows(raw, start, 0)
        raw.seek(start)
        names = tuple(field.name for field in _reader(raw).schema if _is_plain(field.type))
    if not names:
        raise DataError(f"{printable(path)} has no column of plain values. It needs texts.")
    return names


def dataset_cells(path: Path, columns: Sequence[Column], max_bytes: int | None = None) -> Cells:
    """Yield the cells of a data set on disk; labels become the names of their classes.

    Args:
        path: as for `dataset_files`.
        columns: the columns to read.
        max_bytes: limit for each file (see `content_limit`).

    Raises:
        DataError: the data set is damaged or too large, or a column is missing, occurs twice or
            contains other values than text, numbers and truth values.
    """
    labels = _class_labels(_read_json(path / INFO)) if (path / INFO).exists() else {}
    for file in dataset_files(path):
        with _opened(file, max_bytes) as (raw, limit):
            yield from _cells(file, raw, columns, limit, labels)


def _cells(
    path: Path,
    raw: BinaryIO,
    columns: Sequence[Column],
    limit: int,
    labels: Mapping[str, Sequence[str]],
) -> Cells:
    import pyarrow as pa

    most = limit // BYTES_PER_DOCUMENT
    start = _start(raw)
    if _count_rows(raw, start, most) > most:
        raise too_many(path, limit)
    raw.seek(start)
    schema = _reader(raw).schema
    indices = positions(str(path), schema.names, columns)
    for index in indices:
        if not _is_plain(schema.field(index).type):
            raise DataError(
                f"{printable(path)}: the column {quoted(schema.names[index])} contains values of "
                f"type {quoted(schema.field(index).type)}. They must be plain text."
            )
    labels = _class_labels_of_schema(schema) or labels
    names = [labels.get(column.name) for column in columns]
    included = sorted(set(indices))
    places = [included.index(index) for index in indices]
    raw.seek(start)
    for batch in _reader(raw, pa.ipc.IpcReadOptions(included_fields=included)):
        arrays = [_as_bytes(batch.column(place)) for place in places]
        for array in arrays:
            array.validate(full=True)
        for first in range(0, batch.num_rows, BATCH_ROWS):
            values = [array.slice(first, BATCH_ROWS).to_pylist() for array in arrays]
            for row in zip(*values, strict=True):
                yield "", [_text(path, *each) for each in zip(row, names, strict=True)]


def _as_bytes(array: Any) -> Any:
    """Return texts as bytes, because they may be invalid UTF-8; other arrays as they are."""
    import pyarrow as pa

    views = {"string": pa.binary(), "large_string": pa.large_binary()}
    view = views.get(str(array.type))
    return array if view is None else array.view(view)


def _text(path: Path, value: object, names: Sequence[str] | None) -> str:
    if names is None or not isinstance(value, int):
        return as_text(value)
    if value == -1:
        # What `datasets` writes for a missing label.
        return ""
    if not 0 <= value < len(names):
        raise DataError(
            f"{printable(path)}: a label is {value}, but there are {len(names):,} classes. Get the "
            f"data set again."
        )
    return names[value]


def _reader(raw: BinaryIO, options: Any = None) -> Any:
    import pyarrow as pa

    return pa.ipc.RecordBatchStreamReader(pa.PythonFile(raw, mode="r"), options=options)


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return str(kind) in ("string", "large_string", "bool") or (
        types.is_integer(kind) or types.is_floating(kind)
    )


@contextmanager
def _opened(path: Path, max_bytes: int | None) -> Iterator[tuple[BinaryIO, int]]:
    """Open an Arrow file, and convert the errors of pyarrow while it is read."""
    import pyarrow as pa

    with open_regular(path) as raw:
        size = raw.seek(0, 2)
        limit = content_limit(size, max_bytes)
        if size > limit:
            raise too_large(path, limit)
        try:
            yield raw, limit
        except (
            pa.ArrowException, OSError, ValueError, OverflowError, struct.error, IndexError,
            _DamagedError,
        ) as error:  # fmt: skip
            # Arrow raises an OSError without a number for damage; errors of the disk have one.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(
                f"{printable(path)} is not a complete Arrow file ({printable(error, 200)}). Get or "
                f"save the data set again."
            ) from error


def _start(raw: BinaryIO) -> int:
    """Return where the messages of a file begin: after the magic bytes, if it has them."""
    raw.seek(0)
    return len(_FILE_MAGIC) if raw.read(len(_FILE_MAGIC)) == _FILE_MAGIC else 0


def _count_rows(raw: BinaryIO, start: int, most: int) -> int:
    """Check all messages of a file, and return their number of rows, or one that is too large."""
    size, rows, number = raw.seek(0, 2), 0, 0
    raw.seek(start)
    while (head := raw.read(8)) and head != _CONTINUATION + bytes(4):
        length = int.from_bytes(head[4:], "little")
        if head[:4] != _CONTINUATION or length > min(_HEADER_BYTES, size):
            raise _DamagedError(f"message {number} has no valid beginning")
        message = _Table(raw.read(length))
        kind, body = message.integer(1, "<B"), message.integer(3, "<q")
        if kind != (_RECORDS if number else _SCHEMA):
            raise _DamagedError(f"message {number} is of type {kind}")
        if not 0 <= body <= min(MOST_BYTES, size - raw.tell()):
            raise _DamagedError(f"message {number} has {body:,} bytes")
        if kind == _RECORDS:
            records = message.table(2)
            if records.has(3):
                raise _DamagedError("its rows are compressed")
            count = records.integer(0, "<q")
            if count < 0:
                raise _DamagedError(f"message {number} has {count} rows")
            rows += count
            if rows > most:
                return rows
        raw.seek(body, 1)
        number += 1
    if not number:
        raise _DamagedError("it has no schema")
    return rows


class _Table:
    """Fields of a table of a FlatBuffer; an error of `struct` shows that it is damaged."""

    def __init__(self, content: bytes, at: int | None = None) -> None:
        self._content = content
        self._at = struct.unpack_from("<I", content)[0] if at is None else at
        self._fields = self._at - struct.unpack_from("<i", content, self._at)[0]
        if self._fields < 0:
            raise _DamagedError("its metadata is not valid")
        self._size = struct.unpack_from("<H", content, self._fields)[0]

    def _position(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return None
        offset: int = struct.unpack_from("<H", self._content, self._fields + entry)[0]
        return self._at + offset if offset else None

    def has(self, field: int) -> bool:
        """Return whether a field is present."""
        return self._position(field) is not None

    def integer(self, field: int, layout: str) -> int:
        """Return a number; 0, the default of all that are read here, if it is absent."""
        at = self._position(field)
        return 0 if at is None else int(struct.unpack_from(layout, self._content, at)[0])

    def table(self, field: int) -> _Table:
        """Return a table that a field refers to."""
        at = self._position(field)
        if at is None:
            raise _DamagedError("its metadata is not complete")
        return _Table(self._content, at + struct.unpack_from("<I", self._content, at)[0])


def _class_labels_of_schema(schema: Any) -> dict[str, Sequence[str]]:
    """Return the names of classes by column, which `datasets` stores in the schema's metadata."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return {}
    described = parse_json(stored)
    info = described.get("info") if isinstance(described, dict) else None
    return _class_labels(info if isinstance(info, dict) else {})


def _class_labels(info: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    features = info.get("features")
    found = dict[str, Sequence[str]]()
    for name, feature in features.items() if isinstance(features, dict) else ():
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            if isinstance(names, list) and all(isinstance(each, str) for each in names):
                found[name] = names
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_regular(path, limit=_INFO_BYTES))
    except (ValueError, FileTooLargeError) as error:
        raise DataError(
            f"{printable(path)} is not valid ({printable(error, 200)}). Save the data set again."
        ) from error
    return content if isinstance(content, dict) else {}


def _several_splits(path: Path) -> DataError:
    splits = _read_json(path / SPLITS).get("splits")
    names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
    shown = ", ".join(map(quoted, names[:8])) or "none"
    keys = {"train": "data.path", "validation": "data.valid_path", "test": "data.test_path"}
    fixes = [f"{key} to {printable(path / split)}" for split, key in keys.items() if split in names]
    fix = ", ".join(fixes) or "data.path to the folder of one of them"
    return DataError(f"{printable(path)} contains several splits: {shown}. Set {fix}.")
