"""What was inferred, for people."""

from __future__ import annotations

from typing import NamedTuple

from celltune.data_prep.format_config import FormatConfig
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.tables.separated import delimiter_name
from celltune.printable import printable


class Note(NamedTuple):
    """A key of the data section that was inferred."""

    key: str
    """The key, such as `text_column`."""
    value: object
    """Its value."""
    reason: str
    """Why it has this value, in a few words; may be empty."""


def shown_notes(notes: tuple[Note, ...], kind: str | None, classes: str) -> list[str]:
    """Return notes as aligned lines. Usual properties of a format are not shown.

    Args:
        notes: the notes.
        kind: the format of the training file.
        classes: what to show for the classes.
    """
    usual = TableFormat(kind).stated()
    shown = [
        (note.key, classes if note.key == "classes" else _shown(note.key, note.value), note.reason)
        for note in notes
        if getattr(usual, note.key, None) is None or getattr(usual, note.key) != note.value
    ]
    width = max((len(key) for key, _, _ in shown), default=0)
    return [
        f"  {key:<{width}}  {value}{f'  ({reason})' if reason else ''}"
        for key, value, reason in shown
    ]


def _shown(key: str, value: object) -> str:
    if isinstance(value, FormatConfig):
        usual = TableFormat(value.format).stated()
        settings = value.model_dump(exclude={"format"}, exclude_none=True)
        unusual = [
            f"{name} {_shown(name, each)}"
            for name, each in settings.items()
            if getattr(usual, name) != each
        ]
        return ", ".join([value.format or "", *unusual])
    if isinstance(value, bool):
        return "true" if value else "false"
    return delimiter_name(str(value)) if key == "delimiter" else printable(value, 80)
