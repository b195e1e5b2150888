"""How the cells of a file are written."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from celltune.data_prep.errors import DataError
from celltune.data_prep.format_config import KINDS
from celltune.data_prep.io.compression import SUFFIXES

if TYPE_CHECKING:
    from celltune.data_prep.config import DataConfig
    from celltune.data_prep.format_config import FormatConfig

NAMED_SOURCES = ("csv", "tsv", "jsonl", "parquet")
"""Sources that are tables of the kind that they are named after."""
SEPARATED = ("csv", "tsv")
"""Kinds of files in which a character separates the cells of a row."""

_KIND_OF_SUFFIX = {
    "tab": "tsv",
    "ndjson": "jsonl",
    "pq": "parquet",
    "xlsm": "xlsx",
    "arrow": "dataset",
}


@dataclass(frozen=True)
class TableFormat:
    """How the cells of a file are written. None stands for what a reader assumes by default."""

    kind: str | None = None
    """One of `KINDS`; None if it is unknown."""
    delimiter: str | None = None
    """csv and tsv: the character between the cells of a row; a comma or a tab by default."""
    quoting: bool | None = None
    """csv and tsv: whether double quotes enclose cells; otherwise they are characters like any
    other. True by default."""
    header: bool | None = None
    """csv and tsv: whether the first row names the columns; otherwise their names are "1", "2"
    and so on. True by default."""
    encoding: str | None = None
    """Of a text file: a name that Python knows; UTF-8 by default."""
    sheet: str | None = None
    """xlsx: the name of the sheet; by default the only one with texts."""

    @classmethod
    def of(cls, config: DataConfig | FormatConfig) -> TableFormat:
        """Return what the keys of a config state; a source that is named after a kind states it."""
        source = getattr(config, "source", None)
        kind = source if source in NAMED_SOURCES else config.format
        settings = (config.delimiter, config.quoting, config.header, config.encoding, config.sheet)
        return cls(kind, *settings)

    def __str__(self) -> str:
        stated = (each.name for each in fields(self) if getattr(self, each.name) is not None)
        return ", ".join(f"{name} {getattr(self, name)!r}" for name in stated)

    @property
    def separator(self) -> str:
        """The character between the cells of a row."""
        return self.delimiter or ("\t" if self.kind == "tsv" else ",")

    def stated(self) -> TableFormat:
        """Return this format with the default of every setting that its kind has."""
        if self.kind not in (*SEPARATED, "jsonl", "json", "txt"):
            return self
        encoding = self.encoding or "utf-8"
        if self.kind not in SEPARATED:
            return replace(self, encoding=encoding)
        quoting, header = self.quoting is not False, self.header is not False
        return TableFormat(self.kind, self.separator, quoting, header, encoding)

    def named(self, path: Path) -> TableFormat:
        """Return this format with a kind, which the name of a file states if this does not.

        Raises:
            DataError: neither states it.
        """
        if self.kind is not None:
            return self
        kind = kind_of_name(path)
        if kind is None:
            raise DataError(
                f"The name of {path} does not state its format. Set data.format to one of "
                f"{', '.join(KINDS)}."
            )
        return replace(self, kind=kind)


def format_of(path: Path) -> str:
    """Return a file's suffix without the dot and without that of a compression; may be empty."""
    suffixes = [suffix[1:].lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def kind_of_name(path: Path) -> str | None:
    """Return the kind of table that a file's name states; None if it states none."""
    suffix = format_of(path)
    kind = _KIND_OF_SUFFIX.get(suffix, suffix)
    return kind if kind in KINDS else None
