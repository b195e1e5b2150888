"""All problems of a file in one error, counted by kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from celltune.data_prep.errors import DataError

SHOWN_PLACES = 3
"""Number of places of a kind of problem that an error names."""


class Kind(NamedTuple):
    """A kind of problem that rows can have."""

    many: str
    """Completes a number from 2 on: `texts are missing`."""
    sentence: str
    """The sentence about a single problem, after its place; `{value}` is what the row contains."""
    fix: str
    """How to correct such rows."""
    lists_values: bool = True
    """Whether places of several problems are shown with what the rows contain."""


class _Place(NamedTuple):
    position: str
    """Row and line of the file."""
    value: str | None


@dataclass
class _Found:
    count: int = 0
    places: list[_Place] = field(default_factory=list)
    fix: str = ""


class Problems:
    """The problems of one file. Its memory does not grow with their number.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[Kind, _Found] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: Kind, row: int, line: str, value: str | None = None) -> None:
        """Note a problem.

        Args:
            kind: what is wrong.
            row: number of the row, from 1.
            line: position in the file for messages (see `celltune.data_prep.tables.cells.Line`).
            value: what the row contains, printable, if it helps to find and correct it.
        """
        found = self._found.setdefault(kind, _Found())
        found.count += 1
        if found.count <= SHOWN_PLACES:
            found.places.append(_Place(f"row {row}{line}", value))

    def advise(self, kind: Kind, fix: str) -> None:
        """Set how to correct the rows of a kind, if that depends on all of them."""
        if kind in self._found:
            self._found[kind].fix = fix

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Raise the problems at the end of a block that reads the file.

        Raises:
            DataError: there are problems, or the block raises one, which is then the last of them.
        """
        try:
            yield
        except DataError as error:
            if self._found:
                raise self._error(str(error)) from error
            raise
        if self._found:
            raise self._error()

    def _error(self, *others: str) -> DataError:
        total = sum(found.count for found in self._found.values()) + len(others)
        entries = [_described(kind, found) for kind, found in self._found.items()]
        if total == 1:
            return DataError(f"{self._path}, {entries[0]}")
        return DataError(f"{self._path} has {total:,} problems:", *entries, *others)


def _described(kind: Kind, found: _Found) -> str:
    fix = found.fix or kind.fix
    if found.count == 1:
        position, value = found.places[0]
        return f"{position}: {kind.sentence.replace('{value}', value or '')} {fix}"
    places = ", ".join(
        f"{position} {value}" if value and kind.lists_values else position
        for position, value in found.places
    )
    if found.count > len(found.places):
        places += f" and {found.count - len(found.places):,} more"
    return f"{found.count:,} {kind.many}: {places}. {fix}"
