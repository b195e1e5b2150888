"""Recognizes the delimiter and the header of a file of separated values from its first rows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from celltune.data_prep.tables.separated import allow_long_cells, delimiter_name
from celltune.printable import quoted

CANDIDATES = ("\t", ",", ";", "|")
"""Delimiters that are recognized."""
MOST_ROWS = MOST_COLUMNS = 1_000
"""Rows and columns that a guess is based on."""

_LEAST_SHARE = 0.9
"""Share of the rows that must have the same number of cells if others have not."""
_FEW = 5
"""A column is one of labels if each of its values occurs this number of times on average."""
_LONG = 60
"""Longest name of a column, in characters."""
_SENTENCE = 4
"""A cell of so many words can be a text as well as the name of a column."""
_NAMES = frozenset(
    """text texts label labels review reviews sentence sentences content body comment comments tweet
    message document doc description question answer title subject headline summary sentiment class
    category target rating score stars topic intent emotion polarity language lang id index idx
    source author user username date year product film movie group split verdict""".split()  # noqa: SIM905 (readable)
)
"""Words that names of columns consist of."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_IDENTIFIER = re.compile(r"[A-Za-z]\w*")

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class _Reading:
    """The first rows of a file with one delimiter."""

    delimiter: str
    rows: Rows

    @property
    def width(self) -> int:
        """The number of cells of most rows."""
        counts = Counter(map(len, self.rows))
        return counts.most_common(1)[0][0] if counts else 0

    @property
    def share(self) -> float:
        """The share of the rows with this number of cells; 0 if it is one cell."""
        width = self.width
        if width < 2:
            return 0.0
        return sum(len(row) == width for row in self.rows) / len(self.rows)

    @property
    def has_labels(self) -> bool:
        """Whether values of a column repeat, as labels do."""
        width = self.width
        rows = [row for row in self.rows[1:] if len(row) == width]
        columns = zip(*rows, strict=True)
        return any(len(set(column)) * 2 <= len(column) for column in columns)


def read_rows(
    lines: Sequence[str], delimiter: str, *, quoting: bool, complete: bool
) -> list[list[str]]:
    """Return the rows of the first lines of a file that are not blank.

    A cell that is too long ends them; whoever reads the whole file reports it.

    Args:
        lines: complete lines with their ends.
        delimiter: separates cells.
        quoting: whether quotes enclose cells.
        complete: whether the lines are the whole file; otherwise the last row may not be complete,
            and is omitted.
    """
    allow_long_cells()
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    )
    rows = list[list[str]]()
    with suppress(csv.Error):
        rows.extend(filter(None, reader))
    return rows if complete or len(rows) < 2 else rows[:-1]


def guess_delimiter(
    lines: Sequence[str], quoting: bool | None, *, complete: bool
) -> tuple[list[str], str]:
    """Return the possible delimiters of a file, and the reason if there is one.

    Args:
        lines: as for `read_rows`.
        quoting: whether quotes enclose cells; None if it is unknown.
        complete: as for `read_rows`.

    Returns:
        No delimiter if no reading gives most rows the same number of cells.
    """
    styles = (True, False) if quoting is None else (quoting,)
    lines, complete = lines[:MOST_ROWS], complete and len(lines) <= MOST_ROWS
    readings = [
        max(
            (
                _Reading(delimiter, read_rows(lines, delimiter, quoting=style, complete=complete))
                for style in styles
            ),
            key=lambda reading: reading.share,
        )
        for delimiter in CANDIDATES
    ]
    consistent = [reading for reading in readings if reading.share == 1.0]
    if not consistent:
        best = max(readings, key=lambda reading: reading.share)
        consistent = [best] if best.share >= _LEAST_SHARE else []
    # Text contains commas, but hardly ever the same number of tabs in every row.
    tabs = [reading for reading in consistent if reading.delimiter == "\t"]
    labelled = [reading for reading in consistent if reading.has_labels]
    chosen = tabs or labelled or consistent
    if len(chosen) != 1:
        return [reading.delimiter for reading in chosen], ""
    name = delimiter_name(chosen[0].delimiter)
    share = "every row has" if chosen[0].share == 1.0 else f"{chosen[0].share:.0%} of the rows have"
    return [chosen[0].delimiter], f"with a {name}, {share} {chosen[0].width} cells"


def has_label_column(rows: Rows) -> bool:
    """Whether the values of a column of rows, the first of which may be a header, repeat."""
    return _Reading("", rows).has_labels


def guess_header(rows: Rows) -> tuple[bool | None, str]:
    """Return whether the first row names the columns, and the reason for it.

    Args:
        rows: the first rows of a file; those of another length than the first are ignored.

    Returns:
        None instead of a truth value if it is not certain.
    """
    names = [name.strip() for name in rows[0]]
    columns = list(zip(*(row for row in rows[1:] if len(row) == len(names)), strict=True))
    counted = names == [str(number) for number in range(len(names))]
    if counted and not all(map(_NUMBER.fullmatch, columns[0] if columns else ())):
        return True, "its first row counts the columns"
    # A document of a rare class can come first, so that its label does not occur again.
    has_sentence = any(len(name.split()) >= _SENTENCE for name in names)
    evidence = [
        _evidence(name, column, has_sentence=has_sentence)
        for name, column in zip(names, columns or [()] * len(names), strict=True)
    ]
    reasons = {
        side: [reason for found, reason in evidence if found is side] for side in (True, False)
    }
    if bool(reasons[True]) == bool(reasons[False]):
        return None, ""
    side = bool(reasons[True])
    return side, reasons[side][0]


def _evidence(name: str, values: Sequence[str], *, has_sentence: bool) -> tuple[bool | None, str]:
    """Return what the first cell of a column says about the first row.

    Args:
        name: the first cell.
        values: the other cells.
        has_sentence: whether a cell of the first row can be a text.
    """
    different = {value.strip() for value in values}
    if not name:
        return None, ""
    if name not in different and _is_name(name) and not _continues(name, different):
        return True, f"{quoted(name)} is the name of a column"
    if _NUMBER.fullmatch(name):
        is_number = bool(values) and all(map(_NUMBER.fullmatch, different))
        return (
            (False, f"its first row begins a column of numbers with {name}")
            if is_number
            else (None, "")
        )
    if len(name) > _LONG:
        return False, f"its first row has a cell of {len(name)} characters"
    if values and all(map(_NUMBER.fullmatch, different)):
        return True, f"{quoted(name)} is above numbers"
    if len(values) >= _FEW * len(different) > 0:
        if name in different:
            return False, f"{quoted(name)} of the first row occurs again in its column"
        if not has_sentence:
            return True, f"{quoted(name)} does not occur again in its column, other values do"
    return None, ""


def _continues(name: str, values: Collection[str]) -> bool:
    """Return whether a name with a number is the first of numbered values, as user1 of user2."""
    form = _DIGITS.sub("#", name)
    return form != name and any(_DIGITS.sub("#", value) == form for value in values)


def _is_name(text: str) -> bool:
    """Return whether a cell is a usual name of a column, such as label, review_text or Tweet ID."""
    words = [word.lower() for word in _WORD.findall(text)]
    known = [word in _NAMES for word in words]
    return any(known) if _IDENTIFIER.fullmatch(text) else all(known) and 0 < len(known) <= 3
