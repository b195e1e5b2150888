"""Texts to classify, read from a file or from standard input."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from celltune.data_prep.format_config import KINDS
from celltune.data_prep.io.contents import UNLIMITED, limited
from celltune.data_prep.io.files import reading
from celltune.data_prep.tables.cells import Column
from celltune.data_prep.tables.format import TableFormat, format_of, kind_of_name
from celltune.data_prep.tables.readers import read_cells
from celltune.search.errors import OptionError
from celltune.spelling import closest_match

STANDARD_INPUT = "-"
BLOCK_SIZE = 20_000
"""Texts that are read, classified and printed together."""
BLOCK_CHARACTERS = 1 << 26
"""Characters of texts that are read, classified and printed together, up to one text more."""


def read_lines(stream: BinaryIO) -> Iterator[str]:
    """Yield one text per line; bytes that are not UTF-8 become lone surrogates.

    Raises:
        DataError: a line is too long.
    """
    content = limited(Path("Standard input"), stream, UNLIMITED)
    with io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape") as wrapped:
        for line in wrapped:
            yield line.rstrip("\r\n")


def read_texts(path: Path, column: str) -> Iterator[str]:
    """Yield the texts of a file: a column of a table, or the lines of a .txt file.

    Args:
        path: a file whose name states its format; text files plain or compressed.
        column: name of the text column of a table.

    Raises:
        OptionError: the format is unknown.
        DataError: the file cannot be read, is damaged or has no such column, or a text is too long.
    """
    kind = kind_of_name(path)
    if kind is None:
        raise OptionError(
            f"The format of {path} is unknown. {closest_match(format_of(path), KINDS)} "
            f"Alternatively, send one text per line to standard input (`file` {STANDARD_INPUT})."
        )
    with reading(path):
        columns = [Column("`text_column`", column)]
        cells = read_cells(path, TableFormat(kind), columns, UNLIMITED)
        yield from (text for _, (text,) in cells)


def blocks(texts: Iterator[str] | Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in order, in lists of up to `BLOCK_SIZE` texts or `BLOCK_CHARACTERS`.

    Large blocks share the tokenization of repeated words; the limits bound the memory.
    """
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if len(block) == BLOCK_SIZE or size >= BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block
