"""Texts to classify: from the command line, a file, or standard input."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from celltune.data_prep.io.files import open_text, reading
from celltune.data_prep.sources.table_readers import FORMATS, Column
from celltune.search.errors import OptionError
from celltune.spelling import closest_match

STANDARD_INPUT = "-"
AT_ONCE = 20_000
"""Texts that are answered together, and written before the next are read."""
_ZIPPED = ".gz"


def lines_of(stream: BinaryIO) -> Iterator[str]:
    """A text a line; bytes that aren't utf-8 come as lone surrogates."""
    wrapped = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
    try:
        for line in wrapped:
            yield line.rstrip("\r\n")
    finally:
        wrapped.detach()


def texts_of(path: Path, column: str) -> Iterator[str]:
    """The texts of a file: a column of a table, or a line each in a .txt.

    Args:
        path: .csv, .tsv, .jsonl (each also .gz), .parquet, or .txt (also .gz).
        column: holds the text, where the file has columns.

    Raises:
        OptionError: a file of another kind.
        DataError: a file that can't be read, is damaged, or has no such column.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != _ZIPPED]
    form = suffixes[-1].removeprefix(".") if suffixes else ""
    known = (*FORMATS, "txt")
    if form not in known:
        raise OptionError(
            f"{path} ends in no known format. {closest_match(form, known)} Or give a text a line "
            f"on standard input: --file {STANDARD_INPUT}"
        )
    with reading(path):
        if form != "txt":
            wanted = [Column("--text-column", column)]
            yield from (cells[0] for _, cells in FORMATS[form](path, wanted))
            return
        with open_text(path) as file:
            for line in file:
                yield line.rstrip("\r\n")


def blocks(texts: Iterator[str] | Sequence[str]) -> Iterator[list[str]]:
    """Texts in their order, so many at once that words repeat and so few that memory suffices."""
    rest = iter(texts)
    while block := list(islice(rest, AT_ONCE)):
        yield block
