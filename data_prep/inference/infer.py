"""Completes a data config from the content of its files (decision 57)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from celltune.data_prep.config import DataConfig
from celltune.data_prep.extensions import SOURCES
from celltune.data_prep.inference.classes import counts_text
from celltune.data_prep.inference.formats import with_formats
from celltune.data_prep.inference.labels import read_labels
from celltune.data_prep.inference.notes import Note, shown_notes
from celltune.data_prep.inference.splits import report_splits
from celltune.data_prep.sources.base import Split
from celltune.data_prep.sources.table import DEFAULT_CLASSES, TableSource
from celltune.data_prep.tables.format import TableFormat
from celltune.data_prep.types import Progress

_NAMES: Mapping[Split, str] = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class Inferred:
    """A completed data config."""

    config: DataConfig
    """The config, with all keys that describe its files. Classes 0 and 1 remain None, which has
    always stood for them, so that the fingerprint of such data remains the same."""
    notes: tuple[Note, ...] = ()
    """The keys that were inferred."""
    warnings: tuple[str, ...] = ()
    """What a user should know about the data, as sentences."""
    counts: Mapping[Split, Mapping[str, int]] = field(default_factory=dict)
    """Number of documents of each class, in class order, for the file of each split."""

    def lines(self) -> list[str]:
        """Return what was inferred, as lines to show; the warnings are others."""
        kind = TableFormat.of(self.config).kind
        classes = counts_text(self.counts.get("train", {}))
        shown = shown_notes(self.notes, kind, classes)
        title = f"Inferred from {self.config.location} (set a key of data to override it):"
        return [title, *shown] if shown else []


def infer(config: DataConfig, *, progress: Progress | None = None) -> Inferred:
    """Complete a data config, and check the rows of all of its files.

    Explicit values are never changed. Sources other than tables describe themselves.

    Args:
        config: what to load.
        progress: called as `progress("labels", done, None)` with the number of documents.

    Raises:
        DataError: a file is missing or invalid, what is missing in the config cannot be inferred,
            or the documents cannot be split.
    """
    if not issubclass(SOURCES.load(config.source), TableSource):
        return Inferred(config)
    config, described = with_formats(config)
    notes = [*described]
    config = config.model_copy(update={"missing": config.missing or "error"})
    found = read_labels(config, progress)
    if config.classes is None:
        notes.append(Note("classes", found.classes, found.reason))
        recorded = None if found.classes == DEFAULT_CLASSES else found.classes
        config = config.model_copy(update={"classes": recorded})
    own = {_NAMES[split]: each for split, each in found.counts.items() if split != "train"}
    report = report_splits(config, found.classes, found.train, own)
    if report.min_per_class is not None:
        notes.append(Note("min_per_class", report.min_per_class, report.reason))
        config = config.model_copy(update={"min_per_class": report.min_per_class})
    dropped = [
        f"{count:,} row{'' if count == 1 else 's'} of the {_NAMES[split]} file without a label or "
        f"a text with tokens {'is' if count == 1 else 'are'} left out."
        for split, count in found.dropped.items()
        if count
    ]
    counts = {
        split: dict(zip(found.classes, each.tolist(), strict=True))
        for split, each in found.counts.items()
    }
    return Inferred(config, tuple(notes), (*dropped, *report.warnings), counts)
