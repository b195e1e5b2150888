"""Predictions as rows of a table, in every output format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rich.cells import cell_len, set_cell_size

from celltune.printable import printable
from celltune.search.bundles.predictor import Prediction
from celltune.search.cli.output import emit, writing
from celltune.search.cli.prediction.input import Text
from celltune.search.results.tables import csv_text

COLUMNS = ("row", "label", "probability", "note", "text")
FORMATS = ("table", "csv", "jsonl", "parquet")
LONGEST_TEXT, LONGEST_LABEL, LONGEST_CELL = 200, 40, 24
"""Characters of a text, of a class and of a kept cell that lines show."""
_LEAST_TEXT = 20
"""Characters of a text that lines show even if a terminal wraps them."""


class Row(NamedTuple):
    """A text and its prediction."""

    text: Text
    prediction: Prediction


@dataclass(frozen=True)
class Layout:
    """The columns of an output.

    Attributes:
        kept: names of the columns of the input that are copied.
        top: number of classes that are shown; None for the most probable one.
        has_labels: whether the texts have labels.
        width: columns of the terminal, to which lines are cut; None elsewhere.
    """

    kept: tuple[str, ...] = ()
    top: int | None = None
    has_labels: bool = False
    width: int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns: `COLUMNS`, the next probable classes, the label, and the kept ones.

        A kept column with the name of another one has the prefix `file_`.
        """
        names = list(COLUMNS)
        for rank in range(2, (self.top or 1) + 1):
            names += [f"label_{rank}", f"probability_{rank}"]
        if self.has_labels:
            names.append("true_label")
        for name in self.kept:
            while name in names:
                name = f"file_{name}"  # noqa: PLW2901
            names.append(name)
        return tuple(names)

    def values(self, row: Row) -> list[Any]:
        """Return the value of each column; label and probability are None without a prediction."""
        text, prediction = row
        first = (text.number, prediction.label, prediction.probability, prediction.note)
        values = [*first, _encodable(text.text)]
        others = _most_probable(prediction, self.top or 1)[1:]
        for rank in range((self.top or 1) - 1):
            values += others[rank] if rank < len(others) else (None, None)
        if self.has_labels:
            values.append(_encodable(text.label or ""))
        return [*values, *map(_encodable, text.kept)]

    def as_lines(self, rows: Sequence[Row], header: bool) -> str:
        """Return a line per text: label, probability and text, or why there is no prediction."""
        others = [f"label_{rank}" for rank in range(2, (self.top or 1) + 1)]
        kept = [printable(name, LONGEST_CELL) for name in self.kept]
        titles = ["label", "probability", *others, *kept]
        cells = [self._cells(row) for row in rows]
        widths = [max(map(cell_len, column)) for column in zip(titles, *cells, strict=True)]
        lines = [f"{_aligned(titles, widths)}text"] if header else []
        room = LONGEST_TEXT
        if self.width is not None:
            room = min(room, max(_LEAST_TEXT, self.width - sum(widths) - 2 * len(widths)))
        for row, before in zip(rows, cells, strict=True):
            text, prediction = printable(row.text.text, room), row.prediction
            if prediction.probability is None:
                text = f"({prediction.note}) {printable(row.text.text, LONGEST_TEXT)}"
            lines.append(f"{_aligned(before, widths)}{text}".rstrip())
        return "\n".join(lines)

    def _cells(self, row: Row) -> list[str]:
        """Return the cells of a line before the text."""
        prediction = row.prediction
        probability = prediction.probability
        shown = "-" if probability is None else f"{probability:.4f}"
        cells = [printable(prediction.label or "-", LONGEST_LABEL), f"{shown:>11}"]
        others = [
            f"{printable(name, LONGEST_LABEL)} {value:.4f}"
            for name, value in _most_probable(prediction, self.top or 1)[1:]
        ]
        cells += [*others, *[""] * ((self.top or 1) - 1 - len(others))]
        return [*cells, *(printable(cell, LONGEST_CELL) for cell in row.text.kept)]

    def as_csv(self, rows: Sequence[Row], header: bool) -> str:
        """Return CSV."""
        return csv_text(self.columns, map(self.values, rows), header)

    def as_jsonl(self, rows: Sequence[Row], header: bool) -> str:  # noqa: ARG002 (there is none)
        """Return a JSON object per line: the columns, and probabilities of the classes.

        They are those of all classes, or of as many as are shown.
        """
        return "\n".join(
            json.dumps({**self._record(row), "probabilities": self._probabilities(row.prediction)})
            for row in rows
        )

    def _record(self, row: Row) -> dict[str, Any]:
        return dict(zip(self.columns, self.values(row), strict=True))

    def _probabilities(self, prediction: Prediction) -> dict[str, float]:
        if self.top is None:
            return dict(prediction.probabilities)
        return dict(_most_probable(prediction, self.top))


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{set_cell_size(c, width)}  " for c, width in zip(cells, widths, strict=True))


def _most_probable(prediction: Prediction, count: int) -> list[tuple[str, float]]:
    """Return the most probable classes, the first of several equal ones first."""
    if count == 1 and prediction.label is not None and prediction.probability is not None:
        return [(prediction.label, prediction.probability)]
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    # The label need not be the most probable class: it can depend on a threshold.
    ranked.sort(key=lambda item: item[0] != prediction.label)
    return ranked[:count]


def _encodable(text: str) -> str:
    """Return a text whose lone surrogates are question marks: no output can contain them."""
    return text.encode("utf-8", "replace").decode()


Write = Callable[[Sequence[Row]], None]
"""Writes the next rows."""


def printing(layout: Layout, form: str, *, header: bool = True) -> Write:
    """Return a function that prints rows in a text format, with a header before the first ones."""
    make, done = _text_formats(layout)[form], 0

    def write(rows: Sequence[Row]) -> None:
        nonlocal done
        emit(make(rows, header and done == 0))
        done += len(rows)

    return write


@contextmanager
def writing_rows(path: Path, layout: Layout, form: str, overwrite: bool) -> Iterator[Write]:
    """Yield a function that writes rows to a file, which exists when the context ends.

    Raises:
        OptionError: the file cannot be written.
    """
    with writing(path, overwrite) as file:
        if form == "parquet":
            with _parquet(file, layout) as write:
                yield write
        else:
            yield _text_writer(file, layout, form)


def _text_writer(file: BinaryIO, layout: Layout, form: str) -> Write:
    make, done = _text_formats(layout)[form], 0

    def write(rows: Sequence[Row]) -> None:
        nonlocal done
        file.write(f"{make(rows, done == 0)}\n".encode(errors="backslashreplace"))
        done += len(rows)

    return write


def _text_formats(layout: Layout) -> Mapping[str, Callable[[Sequence[Row], bool], str]]:
    return {"table": layout.as_lines, "csv": layout.as_csv, "jsonl": layout.as_jsonl}


@contextmanager
def _parquet(file: BinaryIO, layout: Layout) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = layout.columns
    numbers = {name for name in names[: len(names) - len(layout.kept)] if "probability" in name}
    types = {
        name: pa.int64() if name == "row" else pa.float64() if name in numbers else pa.string()
        for name in names
    }
    schema = pa.schema(list(types.items()))
    with pq.ParquetWriter(file, schema) as writer:

        def write(rows: Sequence[Row]) -> None:
            columns = zip(*map(layout.values, rows), strict=True)
            arrays = [
                pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))

        yield write
