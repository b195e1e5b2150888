"""Readers of table cells, one per kind of file. All of them stream, and stop at a limit.

To add a kind, write a reader, list its name in `celltune.data_prep.format_config.Kind`, and call it
in `read_cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from celltune.data_prep.errors import DataError
from celltune.data_prep.io.contents import open_text
from celltune.data_prep.tables.arrow import dataset_cells
from celltune.data_prep.tables.cells import NUL, Cells, Column, OnProblem, report, with_nul
from celltune.data_prep.tables.excel import excel_cells
from celltune.data_prep.tables.format import SEPARATED, TableFormat
from celltune.data_prep.tables.json_rows import json_cells, jsonl_cells
from celltune.data_prep.tables.parquet import parquet_cells
from celltune.data_prep.tables.separated import csv_cells


def read_cells(
    path: Path,
    form: TableFormat,
    columns: Sequence[Column],
    max_bytes: int | None = None,
    *,
    on_problem: OnProblem | None = None,
) -> Cells:
    """Yield the requested cells of each row of a file.

    Args:
        path: the file; text files plain or compressed; a folder for a data set saved on disk.
        form: how it is written; without a kind, the file's name states it.
        columns: the columns to read. A file of one text per line (txt) has a single one, whatever
            its name.
        max_bytes: limit for the file after decompression (see `content_limit`).
        on_problem: is called for each row that cannot be read, which is then skipped; without it,
            the first one raises an error.

    Raises:
        DataError: the file is empty, damaged or too large, a column is missing or occurs twice, or
            a row cannot be read.
    """
    form = form.named(path)
    if form.kind in SEPARATED:
        return csv_cells(path, columns, max_bytes, form=form, on_problem=on_problem)
    if form.kind == "jsonl":
        return jsonl_cells(path, columns, max_bytes, form.encoding, on_problem=on_problem)
    if form.kind == "json":
        return json_cells(path, columns, max_bytes, form.encoding, on_problem=on_problem)
    if form.kind == "parquet":
        return parquet_cells(path, columns, max_bytes)
    if form.kind == "dataset":
        return dataset_cells(path, columns, max_bytes)
    if form.kind == "xlsx":
        has_header = form.header is not False
        return excel_cells(path, columns, max_bytes, form.sheet, header=has_header)
    return text_lines(path, columns, max_bytes, form.encoding, on_problem=on_problem)


def text_lines(
    path: Path,
    columns: Sequence[Column],
    max_bytes: int | None = None,
    encoding: str | None = None,
    *,
    on_problem: OnProblem | None = None,
) -> Cells:
    """Yield the lines of a text file as the only cell of each row; it has no columns.

    Raises:
        DataError: the file or a line is too large, a line contains NUL, or more than one column is
            requested.
    """
    if len(columns) > 1:
        raise DataError(
            f"{path} contains one text per line, without labels. Labelled documents need a table: "
            f"a text and a label in each row, with a tab or a comma between them. If it is a "
            f"table, set data.format to csv and data.delimiter to its delimiter."
        )
    with open_text(path, max_bytes, encoding) as file:
        for number, line in enumerate(file, start=1):
            place = f" (line {number})"
            # As for csv, only texts whose encoding is stated are checked.
            if encoding is not None and NUL in line:
                report(path, with_nul(number, place), on_problem)
            else:
                yield place, [line.rstrip("\r\n")]
