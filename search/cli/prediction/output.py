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
    """

    kept: tuple[str, ...] = ()
    top: int | None = None
    has_labels: bool = False

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
        labels = [printable(prediction.label or "-", LONGEST_LABEL) for _, prediction in rows]
        width = max(5, *map(cell_len, labels)) if labels else 5
        lines = [f"{'label':<{width}}  probability  text"] if header else []
        for label, row in zip(labels, rows, strict=True):
            first, shown = set_cell_size(label, width), printable(row.text.text, LONGEST_TEXT)
            prediction = row.prediction
            others = "".join(
                f"{printable(name, LONGEST_LABEL)} {probability:.4f}  "
                for name, probability in _most_probable(prediction, self.top or 1)[1:]
            )
            kept = "".join(f"{printable(cell, LONGEST_CELL)}  " for cell in row.text.kept)
            if prediction.probability is None:
                line = f"{first}  {'-':>11}  {kept}({prediction.note}) {shown}"
            else:
                line = f"{first}  {prediction.probability:>11.4f}  {others}{kept}{shown}"
            lines.append(line.rstrip())
        return "\n".join(lines)

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
