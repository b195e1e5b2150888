"""Data frames as the data of a search.

A search needs its data again when it is resumed, evaluated or exported, in another process and long
after the frame is gone. A frame is therefore written into the cache, as a file that is named by its
content: the same frame is written once, and is the same data in every search.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.files import (
    make_folder_durably,
    sync_folder,
    write_durably,
    writing,
)
from celltune.data_prep.text.encoder import is_utf8
from celltune.printable import printable, quoted
from celltune.search.wording import counted, listed
from celltune.spelling import closest_match

FOLDER = "frames"
"""Folder of the cache that contains the frames. Clearing the cache does not remove them, because
they cannot be made again."""
SHOWN_ROWS = 3
"""Rows that an error names."""


def stored_frame(
    argument: str, frame: pd.DataFrame, columns: Sequence[str] | None, cache_dir: Path
) -> Path:
    """Write columns of a frame into the cache, as text; return the path of the file.

    Args:
        argument: name of the argument that is the frame, for messages.
        frame: the frame.
        columns: names of columns without missing values; None: all columns, as far as their values
            are plain.
        cache_dir: the cache.

    Raises:
        DataError: a column is missing or contains something else than plain values, or the file
            cannot be written.
    """
    if not len(frame):
        raise DataError(f"`{argument}` has no rows. Give a DataFrame of labelled texts.")
    content: Mapping[str, Sequence[str | None]]
    if columns is None:
        content = {
            str(name): values
            for name, series in frame.items()
            if (values := _plain_values(series)) is not None
        }
    else:
        content = {name: _complete_values(argument, frame, name) for name in columns}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    path = cache_dir.absolute() / FOLDER / f"{digest}.parquet"
    if not path.is_file():
        with writing(cache_dir):
            _write(path, content)
    return path


@contextmanager
def frames_named(cache_dir: Path) -> Iterator[None]:
    """Call the files of frames in errors what they are to the user, who has never seen the files.

    Args:
        cache_dir: see `stored_frame`.
    """
    folder = re.escape(printable(str(cache_dir.absolute() / FOLDER)))
    try:
        yield
    except DataError as error:
        error.args = tuple(
            re.sub(rf"{folder}/[0-9a-f]{{32}}\.parquet", "The DataFrame", text)
            if isinstance(text, str)
            else text
            for text in error.args
        )
        raise


def ordered_classes(frame: pd.DataFrame, label: str | None) -> list[str] | None:
    """Return the classes in the order that the type of the label column gives them.

    Args:
        frame: the frame.
        label: name of the column; None if it is unknown.

    Returns:
        The categories that occur; None if the column is no ordered categorical.
    """
    kind = None if label is None else frame.dtypes.get(label)
    if not isinstance(kind, pd.CategoricalDtype) or not kind.ordered:
        return None
    return [_plain(value) for value in frame[label].cat.remove_unused_categories().cat.categories]


def _write(path: Path, content: Mapping[str, Sequence[str | None]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({name: pa.array(v, pa.large_string()) for name, v in content.items()})
    buffer = pa.BufferOutputStream()
    # A reader allows a file only so many rows and bytes as its size suggests (decision 54). A
    # compressed file of short or repeated texts could exceed these limits.
    parquet.write_table(table, buffer, use_dictionary=False, compression="none")
    make_folder_durably(path.parent)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_durably(scratch, buffer.getvalue().to_pybytes())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    sync_folder(path.parent)


def _complete_values(argument: str, frame: pd.DataFrame, name: str) -> list[str]:
    names = [str(column) for column in frame.columns]
    if names.count(name) != 1:
        problem = f"has {names.count(name)} columns {quoted(name)}"
        if name in names:
            raise DataError(f"`{argument}` {problem}. Rename all but one.")
        shown = [printable(column, 80) for column in names]
        hint = closest_match(name, shown).replace("Allowed:", "Its columns are:")
        raise DataError(f"`{argument}` has no column {quoted(name)}. {hint}")
    series = frame.iloc[:, names.index(name)]
    where = f"The column {quoted(name)} of `{argument}`"
    missing = [str(label) for label in series.index[series.isna()]]
    if missing:
        raise DataError(
            f"{where} has no value in {counted(len(missing), 'row')} ({_rows(missing)}). Remove "
            f"them: {argument}.dropna(subset=[{name!r}])."
        )
    values = _plain_values(series)
    if values is None:
        raise DataError(f"{where} {_not_plain(series)}")
    return [value or "" for value in values]


def _not_plain(series: pd.Series[Any]) -> str:
    """Return why the values of a column are not plain, as the rest of a sentence."""
    broken = [str(i) for i, v in series.items() if isinstance(v, str) and not is_utf8(v)]
    if broken:
        return (
            f"contains text that is not Unicode: a lone surrogate ({_rows(broken)}). Correct the "
            "encoding with which the frame was read."
        )
    kinds = sorted({type(value).__name__ for value in series})
    return (
        f"contains values of type {listed(kinds)}. They must be text, whole numbers or truth "
        "values."
    )


def _rows(labels: Sequence[str]) -> str:
    names = ", ".join(printable(label, 40) for label in labels[:SHOWN_ROWS])
    rest = len(labels) - SHOWN_ROWS
    return f"index {names}{f' and {rest:,} more' if rest > 0 else ''}"


def _plain_values(series: pd.Series[Any]) -> list[str | None] | None:
    """Return the values of a column as text, None where they are missing.

    Returns:
        None if some values are not plain: lists, dates, bytes, or text that UTF-8 lacks.
    """
    try:
        return [
            None if is_missing else _plain(value)
            for value, is_missing in zip(series, series.isna(), strict=True)
        ]
    except _NotPlainError:
        return None


class _NotPlainError(ValueError):
    """A value that a table cannot contain as text."""


def _plain(value: Any) -> str:
    if isinstance(value, str) and is_utf8(value):
        return str(value)
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        # pandas stores whole numbers as 0.0 and 1.0 if one of them was missing.
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    raise _NotPlainError
