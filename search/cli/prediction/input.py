"""Texts to classify, read from a file or from standard input."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic import ValidationError

from celltune.data_prep.errors import DataError
from celltune.data_prep.format_config import FormatConfig
from celltune.data_prep.inference.columns import FirstRows, choose_columns
from celltune.data_prep.io.contents import UNLIMITED, content_limit, limited
from celltune.data_prep.io.files import reading
from celltune.data_prep.tables.cells import Column
from celltune.data_prep.tables.detect import Detected, detect
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.tables.readers import read_cells
from celltune.printable import quoted
from celltune.search.config.problems import problem_text, with_subject
from celltune.search.errors import OptionError

STANDARD_INPUT = "-"
ALL = "all"
"""Given as a column to keep, it stands for all of them."""
BLOCK_SIZE = 20_000
"""Texts that are read, classified and written together."""
BLOCK_CHARACTERS = 1 << 26
"""Characters of texts that are read, classified and written together, up to one text more."""
_KEY = re.compile(r"\bdata\.(format|delimiter|quoting|header|encoding|sheet)\b")
_TEXT_COLUMN = re.compile(r"`data\.text_column: ('(?:[^']|'')*'|[^`']*)`")
_UTF8 = Detected(TableFormat(encoding="utf-8"), {}, (), [])
"""What decides about a file whose encoding is uncertain."""
_NO_LABEL_COLUMN = ""
"""In place of the column of labels, which need not exist."""


class Text(NamedTuple):
    """A text to classify, and the other cells of its row."""

    number: int
    """Its number, from 1; blank lines of a text file do not count, as in training."""
    text: str
    label: str | None = None
    """Its label in the file, if a column of labels was given."""
    kept: tuple[str, ...] = ()
    """The cells of the kept columns."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table to read."""

    text: str | None = None
    """None: it is found by its name or its content."""
    label: str | None = None
    """None: labels are not read."""
    keep: tuple[str, ...] = ()
    """Columns that are copied to the output; `ALL` stands for all."""


@dataclass
class Texts:
    """The texts of a file or of standard input, in their order.

    Attributes:
        rows: all texts.
        kept: names of the kept columns.
        has_labels: whether the texts have labels.
        notes: what was recognized that a reader of the predictions should know, as sentences.
        blank: number of blank lines that have been skipped so far.
    """

    rows: Iterator[Text]
    kept: tuple[str, ...] = ()
    has_labels: bool = False
    notes: tuple[str, ...] = ()
    blank: int = field(default=0, init=False)

    @classmethod
    def of_lines(cls, lines: Iterator[str], notes: Sequence[str] = ()) -> Texts:
        """Return the lines that are not blank as texts; the others are counted."""
        texts = cls(iter(()), notes=tuple(notes))
        texts.rows = texts._not_blank(lines)
        return texts

    def _not_blank(self, lines: Iterator[str]) -> Iterator[Text]:
        number = 0
        for line in lines:
            if not line or line.isspace():
                self.blank += 1
                continue
            number += 1
            yield Text(number, line)

    def blocks(self) -> Iterator[list[Text]]:
        """Yield the texts in order, in lists of up to `BLOCK_SIZE` or `BLOCK_CHARACTERS`.

        Large blocks share the tokenization of repeated words; the limits bound the memory.
        """
        block: list[Text] = []
        size = 0
        for row in self.rows:
            block.append(row)
            size += len(row.text)
            if len(block) == BLOCK_SIZE or size >= BLOCK_CHARACTERS:
                yield block
                block, size = [], 0
        if block:
            yield block


def read_lines(stream: BinaryIO) -> Texts:
    """Return one text per line that is not blank; invalid UTF-8 becomes lone surrogates.

    Raises:
        DataError: a line is too long.
    """
    content = limited(Path("Standard input"), stream, UNLIMITED)

    def lines() -> Iterator[str]:
        with io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape") as wrapped:
            for line in wrapped:
                yield line.rstrip("\r\n")

    return Texts.of_lines(lines())


def read_texts(path: Path, columns: Columns, given: TableFormat | None = None) -> Texts:
    """Return the texts of a file of any format that training reads.

    Args:
        path: a table, or a text file with one text per line.
        columns: the columns to read; a text file has none.
        given: how the file is written; what it does not state is recognized.

    Raises:
        OptionError: a column is given for a file without columns.
        DataError: the file cannot be read, is damaged, has no such column, or its format or its
            column of texts is not certain; while iterating, also if a row is invalid.
    """
    with _naming_options():
        detected = _detected(path, given or TableFormat())
    notes = []
    if (encoding := detected.format.encoding) not in (None, "utf-8") and not (
        given and given.encoding
    ):
        notes.append(f"{path} is read as {encoding}: {detected.reasons.get('encoding', '')}.")
    if detected.format.kind == "txt":
        return _of_text_file(path, columns, detected.format, notes)
    name = _text_column(path, columns, detected)
    if columns.text is None and name != "text" and len(detected.columns) > 1:
        notes.append(f"The texts are those of the column {quoted(name)}.")
    keep = columns.keep
    if keep == (ALL,):
        keep = tuple(column for column in detected.columns if column != name)
    requested = [Column("`text_column`", name)]
    if columns.label is not None:
        requested.append(Column("`label_column`", columns.label))
    requested += [Column("`keep`", column) for column in keep]
    rows = _rows(path, detected.format, requested, has_label=columns.label is not None)
    return Texts(rows, keep, columns.label is not None, tuple(notes))


def _detected(path: Path, given: TableFormat) -> Detected:
    """Return how a file is written; if its encoding is uncertain, each invalid text gets a note.

    Texts are classified in blocks, however many there are. The file is read to its end before, so
    it may not decompress to absurdly more than its size.
    """
    with reading(path):
        size = path.stat().st_size
    return detect(path, given, max(size, content_limit(size, None)), like=_UTF8)


def _of_text_file(path: Path, columns: Columns, form: TableFormat, notes: Sequence[str]) -> Texts:
    given = {
        "text_column": columns.text,
        "label_column": columns.label,
        "keep": columns.keep or None,
    }
    for argument, value in given.items():
        if value is not None:
            raise OptionError(
                f"`{argument}` was given, but {path} has no columns: it contains one text per "
                f"line. Omit it, or give a table."
            )
    cells = read_cells(path, form, [Column("`text_column`", "text")], UNLIMITED)
    return Texts.of_lines((text for (text,) in _in_file(path, cells)), notes)


def _text_column(path: Path, columns: Columns, detected: Detected) -> str:
    if columns.text is not None:
        return columns.text
    if len(detected.columns) == 1:
        return detected.columns[0]
    label = _NO_LABEL_COLUMN if columns.label is None else columns.label

    def all_rows(names: Sequence[str]) -> Iterator[list[str]]:
        columns = [Column("`text_column`", name) for name in names]
        return _in_file(path, read_cells(path, detected.format, columns, UNLIMITED))

    first = FirstRows(str(path), detected.columns, detected.rows, all_rows)
    with _naming_options():
        choice, _ = choose_columns(first, None, label)
    if choice is None:
        raise DataError(f"{path} has no column of texts. Set `text_column`.")
    return choice.column


def _rows(
    path: Path, form: TableFormat, columns: Sequence[Column], *, has_label: bool
) -> Iterator[Text]:
    first = 2 if has_label else 1
    cells = read_cells(path, form, columns, UNLIMITED)
    for number, row in enumerate(_in_file(path, cells), start=1):
        yield Text(number, row[0], row[1] if has_label else None, tuple(row[first:]))


def _in_file(path: Path, cells: Iterator[tuple[str, list[str]]]) -> Iterator[list[str]]:
    with reading(path), _naming_options():
        for _, row in cells:
            yield row


@contextmanager
def _naming_options() -> Iterator[None]:
    """Replace config keys in errors by the arguments that a prediction has in their place."""
    try:
        yield
    except DataError as error:
        error.args = tuple(_as_argument(argument) for argument in error.args)
        raise


def _as_argument(text: object) -> object:
    if not isinstance(text, str):
        return text
    named = _KEY.sub(lambda match: f"`read` {match[1]}", text)
    named = _TEXT_COLUMN.sub(lambda match: f"`text_column` {_in_shell(match[1])}", named)
    named = named.replace("set data.max_bytes to a higher limit", "decompress it first")
    return named.replace("data.text_column", "`text_column`")


def _in_shell(value: str) -> str:
    """Return the name of a column, which is written as in YAML, as a shell reads it."""
    return shlex.quote(value[1:-1].replace("''", "'") if value.startswith("'") else value)


def parse_format(settings: Sequence[str]) -> TableFormat:
    """Return how a file is written.

    Args:
        settings: of the form KEY=VALUE, such as `delimiter=;`, with the keys of `FormatConfig`.

    Raises:
        OptionError: a key is unknown, or its value is invalid.
    """
    values: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in FormatConfig.model_fields:
            known = ", ".join(FormatConfig.model_fields)
            raise OptionError(
                f"`read` is {quoted(setting)}. It must be KEY=VALUE, where KEY is one of {known}."
            )
        values[key] = {"true": True, "false": False}.get(text, text)
    try:
        return TableFormat.of(FormatConfig.model_validate(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise OptionError(with_subject(f"`read` {key}", problem_text(first))) from error
