"""Checks of the rows of a table, and the documents that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from celltune.data_prep.io.contents import MAX_DOCUMENT_BYTES
from celltune.data_prep.sources.base import NO_LABEL, Document, Split
from celltune.data_prep.sources.labels import Labels, as_yaml
from celltune.data_prep.sources.problems import Kind, Problems
from celltune.data_prep.tables.cells import BadRow, Column
from celltune.printable import printable, quoted

MISSING_WORDS = frozenset({"", "nan", "NaN", "NAN", "null", "NULL", "<NA>"})
"""What programs write for a missing value. None and NA are left out, because they are frequent
answers and names of classes."""
MOST_SHOWN = 20
"""Labels or classes that an error lists."""

_SHORT = 16
"""Cells of this length or longer are not compared with words."""
_DROP = "or use `data.missing: drop` to leave such rows out."
_WORD_FIX = (
    "Use `data.missing: drop` to leave such rows out, or `data.missing: keep` if it is meant as a "
    "word."
)


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table."""

    text: str
    """Contains the document's text."""
    label: str
    """Contains the label."""
    id: str | None = None
    """Contains a unique id; without it, documents are identified by their row number."""
    group: str | None = None
    """Contains the document's group."""

    def present(self) -> list[Column]:
        """Return the columns to read: text, label, then id and group if they are set."""
        names = {
            "data.text_column": self.text,
            "data.label_column": self.label,
            "data.id_column": self.id,
            "data.group_column": self.group,
        }
        return [Column(key, name) for key, name in names.items() if name is not None]


class RowChecks:
    """Turns the rows of one file into documents and collects the problems of the others.

    Args:
        path: the file, for messages.
        split: the split that its documents belong to.
        columns: where the cells of a row come from.
        labels: the classes.
        missing: the setting of that name.
        earlier: the checks of the file before this one, if the split has several. Documents are
            numbered on, and ids are unique in all of them.
    """

    def __init__(
        self,
        path: Path,
        split: Split,
        columns: Columns,
        labels: Labels,
        missing: str | None,
        earlier: RowChecks | None = None,
    ) -> None:
        self.path, self.split, self.problems = path, split, Problems(path)
        self.dropped = 0
        """Number of rows that were left out."""
        self._columns, self._labels = columns, labels
        self._kinds = _Kinds(columns, labels.classes)
        self._drops = missing == "drop"
        self._missing = missing_words(missing)
        self._ids: set[str] = set() if earlier is None else earlier._ids
        self._row = 0
        self._before: int = 0 if earlier is None else earlier._before + earlier._row
        self._seen: set[int] = set()
        self._unknown: dict[str, None] = {}
        self._bad_kinds: dict[str, Kind] = {}

    def bad(self, bad: BadRow) -> None:
        """Note a row that a reader could not read."""
        self._row += 1
        kind = Kind(bad.kind, "{value}.", bad.fix, lists_values=False)
        # The fix of the first row stands for all rows of the kind.
        kind = self._bad_kinds.setdefault(bad.kind, kind)
        self.problems.add(kind, self._row, bad.line, printable(bad.message))

    def document(self, line: str, cells: Sequence[str]) -> Document | None:
        """Return the document of the next row; None if it is left out or has a problem.

        Args:
            line: its position in the file for messages.
            cells: the cells of `Columns.present`.
        """
        text, label = cells[0], cells[1]
        self._row += 1
        row = self._row
        if place := _invalid_place(label):
            self.problems.add(self._kinds.label_not_utf8, row, line, place)
            return None
        # A label is only counted if its row becomes a document.
        index = None if self._drops and self._lacks(text) else self._labels.find(label)
        if index is None and self._drops and (self._lacks(text) or self._lacks(label)):
            self.dropped += 1
            return None
        is_valid = self._check_text(row, line, text)
        if index is None:
            self._add_label_problem(row, line, label.strip())
            return None
        self._seen.add(index)
        name = f"row {self._before + row}"
        if self._columns.id is not None:
            name = cells[2].strip()
            is_valid &= self._check_id(row, line, name)
        if not is_valid:
            return None
        group = (cells[-1].strip() or None) if self._columns.group is not None else None
        return Document(name, text, index, group, self.split)

    def unlabelled(self, line: str, cells: Sequence[str]) -> Document | None:
        """Return the document of a text without a label; arguments and result as for `document`."""
        self._row += 1
        row, text = self._row, cells[0]
        if self._drops and self._lacks(text):
            self.dropped += 1
            return None
        if not self._check_text(row, line, text):
            return None
        name = f"unlabelled row {self._before + row}"
        return Document(name, text, NO_LABEL, None, self.split)

    def finish(self) -> None:
        """Add to the problems what is known only after the last row."""
        if not self._unknown:
            return
        if self.split != "train":
            fix = (
                "The training documents have no such labels. Correct or remove these rows, or add "
                "training documents."
            )
            self.problems.advise(self._kinds.unknown_label, fix)
            return
        found = sorted({*self._unknown, *(self._labels.classes[index] for index in self._seen)})
        if len(found) > MOST_SHOWN:
            fix = (
                f"The column contains more than {MOST_SHOWN} labels. Set data.label_column to the "
                "column of the labels, or data.classes to all labels."
            )
        else:
            fix = (
                "Correct the labels, or set data.classes to the labels of the column, in class "
                f"order: `data.classes: {as_yaml(found)}`."
            )
        self.problems.advise(self._kinds.unknown_label, fix)

    def _lacks(self, cell: str) -> bool:
        return cell.isspace() or (len(cell) < _SHORT and cell.strip() in self._missing)

    def _check_text(self, row: int, line: str, text: str) -> bool:
        kinds = self._kinds
        if self._lacks(text):
            word = text.strip()
            kind = kinds.missing_word if word else kinds.empty_text
            self.problems.add(kind, row, line, quoted(word) if word else None)
            return False
        if place := _invalid_place(text):
            self.problems.add(kinds.not_utf8, row, line, place)
            return False
        if len(text) > MAX_DOCUMENT_BYTES:
            self.problems.add(kinds.long_text, row, line)
            return False
        return True

    def _add_label_problem(self, row: int, line: str, label: str) -> None:
        if label in self._missing:
            kind = self._kinds.label_word if label else self._kinds.empty_label
            self.problems.add(kind, row, line, quoted(label) if label else None)
            return
        self.problems.add(self._kinds.unknown_label, row, line, quoted(label))
        if len(self._unknown) <= MOST_SHOWN:
            self._unknown[label] = None

    def _check_id(self, row: int, line: str, name: str) -> bool:
        if not name:
            self.problems.add(self._kinds.empty_id, row, line)
        elif name in self._ids:
            self.problems.add(self._kinds.repeated_id, row, line, quoted(name))
        else:
            self._ids.add(name)
            return True
        return False


def _invalid_place(cell: str) -> str | None:
    """Return the first character of a cell that UTF-8 cannot encode, and where it is."""
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(cell[error.start])
        # An invalid byte is read as a lone surrogate between U+DC80 and U+DCFF.
        invalid = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"U+{code:04X}"
        return f"{invalid} at character {error.start + 1}"
    return None


def missing_words(missing: str | None) -> frozenset[str]:
    """Return the cells that stand for a missing value under the setting `data.missing`."""
    return MISSING_WORDS if missing in ("error", "drop") else frozenset({""})


class _Kinds:
    """The kinds of problems of the rows of a table."""

    def __init__(self, columns: Columns, classes: Sequence[str]) -> None:
        self.empty_text, self.missing_word = _missing_kinds("text", columns.text)
        self.empty_label, self.label_word = _missing_kinds("label", columns.label)
        self.not_utf8, self.label_not_utf8 = (
            Kind(
                f"{part}s are not valid UTF-8",
                f"{{value}} of the {part} is not valid UTF-8.",
                "Save the file as UTF-8, or set data.encoding to its encoding, such as "
                "windows-1252.",
            )
            for part in ("text", "label")
        )
        self.long_text = Kind(
            "texts are too long",
            f"the text in column {quoted(columns.text)} is longer than {MAX_DOCUMENT_BYTES:,} "
            "bytes, the limit for one document.",
            "Split or shorten it.",
        )
        shown = ", ".join(map(quoted, classes[:MOST_SHOWN]))
        if len(classes) > MOST_SHOWN:
            shown += f" and {len(classes) - MOST_SHOWN:,} others"
        self.unknown_label = Kind(
            "labels are no classes",
            f"the label in column {quoted(columns.label)} is {{value}}. Allowed are {shown}.",
            "Correct the labels.",
        )
        self.empty_id = Kind(
            "ids are empty",
            f"the id in column {quoted(columns.id)} is empty.",
            "Add an id, or remove data.id_column.",
        )
        self.repeated_id = Kind(
            "ids occur in earlier rows, too",
            f"the id {{value}} in column {quoted(columns.id)} occurs in an earlier row, too.",
            "Ids must be unique. Correct it, or remove data.id_column.",
        )


def _missing_kinds(part: str, column: str) -> tuple[Kind, Kind]:
    """Return the kinds of an empty cell, and of one with a word for a missing value."""
    where = f"the {part} in column {quoted(column)} is"
    empty = Kind(
        f"{part}s are empty", f"{where} empty.", f"Remove the row or add a {part}, {_DROP}"
    )
    word = Kind(
        f"{part}s are words for missing values",
        f"{where} {{value}}, which stands for a missing value.",
        _WORD_FIX,
    )
    return empty, word
