"""Parsers of the XML documents in an Excel workbook.

They are streams: no tree of a document is built, and documents that declare entities are rejected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any
from xml.parsers import expat

from celltune.data_prep.io.contents import MAX_DOCUMENT_BYTES
from celltune.data_prep.tables.cells import as_text
from celltune.printable import printable, quoted

MOST_ROWS, MOST_COLUMNS = 1_048_576, 16_384
"""Rows and columns that a sheet of Excel can have."""

_CHUNK_BYTES = 1 << 16
_MOST_SHEETS = 1_000
_REFERENCE = re.compile(r"([A-Z]{1,3})[0-9]+")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
"""A character that XML cannot contain, such as _x000D_ for a carriage return."""

_Attributes = Mapping[str, str]


class DamagedError(Exception):
    """A part of the workbook is missing or not valid."""


class Handler:
    """Parses one XML document as a stream and collects what it finds."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._found = list[Any]()
        self._since = 0
        self._text: list[str] | None = None
        """The text of the current element, if it is of interest."""
        self._size = 0

    def found(self, content: IO[bytes]) -> Iterator[Any]:
        """Yield what a document contains."""
        while chunk := content.read(_CHUNK_BYTES):
            self._parser.Parse(chunk)
            self._since += len(chunk)
            if self._since > MAX_DOCUMENT_BYTES:
                # Incomplete markup is parsed again with every chunk.
                raise DamagedError("an element is too long")
            yield from self._found
            self._found.clear()
        self._parser.Parse(b"", True)
        yield from self._found

    def start(self, name: str, attributes: _Attributes) -> None:
        """Handle the beginning of an element."""

    def end(self, name: str) -> None:
        """Handle the end of an element."""

    def _start(self, name: str, attributes: _Attributes) -> None:
        self._since = 0
        self.start(_local(name), attributes)

    def _end(self, name: str) -> None:
        self._since = 0
        self.end(_local(name))

    def _characters(self, text: str) -> None:
        self._since = 0
        if self._text is not None:
            self._text.append(text)
            self._size += len(text)
            if self._size > MAX_DOCUMENT_BYTES:
                raise DamagedError(f"a text is longer than {MAX_DOCUMENT_BYTES:,} bytes")

    def _doctype(self, *_: object) -> None:
        raise DamagedError("it declares a document type")

    def _taken(self) -> str:
        """Return the text of the current element, which ends."""
        text, self._text, self._size = "".join(self._text or ()), None, 0
        return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


class RelationHandler(Handler):
    """Finds the parts that the ids of a workbook refer to."""

    def start(self, name: str, attributes: _Attributes) -> None:
        if name == "Relationship":
            self._found.append((attributes.get("Id", ""), attributes.get("Target", "")))


class SheetHandler(Handler):
    """Finds the names and ids of visible sheets."""

    _number = 0

    def start(self, name: str, attributes: _Attributes) -> None:
        if name != "sheet" or attributes.get("state", "visible") != "visible":
            return
        self._number += 1
        if self._number > _MOST_SHEETS:
            raise DamagedError(f"it has more than {_MOST_SHEETS:,} sheets")
        key = next((value for key, value in attributes.items() if key.endswith(" id")), "")
        self._found.append((attributes.get("name", ""), key))


class StringHandler(Handler):
    """Finds the shared strings, whose parts may be formatted; hints for reading aloud are left."""

    def __init__(self) -> None:
        super().__init__()
        self._parts = list[str]()
        self._in_hint = False

    def start(self, name: str, attributes: _Attributes) -> None:  # noqa: ARG002
        if name == "si":
            self._parts = []
        elif name == "rPh":
            self._in_hint = True
        elif name == "t" and not self._in_hint:
            self._text = []

    def end(self, name: str) -> None:
        if name == "t" and not self._in_hint:
            self._parts.append(self._taken())
        elif name == "rPh":
            self._in_hint = False
        elif name == "si":
            self._found.append("".join(self._parts))


class RowHandler(Handler):
    """Finds the rows of a sheet that contain texts."""

    def __init__(self, strings: Sequence[str]) -> None:
        super().__init__()
        self._strings = strings
        self._row, self._number, self._rows = dict[int, str](), "", 0
        self._column, self._kind = -1, ""
        self._parts = list[str]()
        self._in_hint = False

    def start(self, name: str, attributes: _Attributes) -> None:
        if name == "row":
            self._rows += 1
            if self._rows > MOST_ROWS:
                raise DamagedError(f"a sheet has more than {MOST_ROWS:,} rows")
            self._row, self._column = {}, -1
            self._number = printable(attributes.get("r", "?"), 20)
        elif name == "c":
            self._column = self._column_of(attributes.get("r"))
            self._kind, self._parts = attributes.get("t", "n"), []
        elif name == "rPh":
            self._in_hint = True
        elif name in ("v", "t") and not self._in_hint:
            self._text = []

    def end(self, name: str) -> None:
        if name in ("v", "t") and not self._in_hint:
            self._parts.append(self._taken())
        elif name == "rPh":
            self._in_hint = False
        elif name == "c":
            if value := self._converted():
                self._row[self._column] = value
        elif name == "row" and self._row:
            self._found.append((self._number, self._row))
            self._row = {}

    def _column_of(self, reference: str | None) -> int:
        column = self._column + 1
        if reference is not None:
            found = _REFERENCE.fullmatch(reference)
            if found is None:
                raise DamagedError(f"a cell has the reference {quoted(reference)}")
            column = 0
            for letter in found[1]:
                column = column * 26 + ord(letter) - ord("A") + 1
            column -= 1
        if column >= MOST_COLUMNS:
            raise DamagedError(f"a row has more than {MOST_COLUMNS:,} cells")
        return column

    def _converted(self) -> str:
        value, convert = "".join(self._parts), _CONVERSIONS.get(self._kind)
        if self._kind == "s":
            index = int(value)
            if not 0 <= index < len(self._strings):
                raise DamagedError(f"a cell refers to the text {index:,}, which is missing")
            return self._strings[index]
        return convert(value) if convert is not None and value else ""


def _number(value: str) -> str:
    return as_text(float(value)) if not value.isdigit() else value


_CONVERSIONS: dict[str, Callable[[str], str]] = {
    "n": _number,
    "b": lambda value: str(value == "1"),
    "str": str,
    "inlineStr": str,
    "d": str,
}
"""How values are converted, by type; those of other types are errors such as #N/A."""


def _local(name: str) -> str:
    """Return the name of an element without its namespace."""
    return name.rpartition(" ")[2]
