"""Reads the labels of the files of a table, and finds its classes."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.inference.classes import check_distinct, class_names, ordered_classes
from celltune.data_prep.inference.splits import TrainingLabels
from celltune.data_prep.io.files import default_cache_dir
from celltune.data_prep.preparation.selection import check_classes, no_tokens_error
from celltune.data_prep.sources.base import Document, Source, Split
from celltune.data_prep.sources.factory import open_source
from celltune.data_prep.sources.groups import GroupedSource
from celltune.data_prep.sources.labels import CountedLabels
from celltune.data_prep.sources.rows import missing_words
from celltune.data_prep.sources.table import TableSource, columns_of
from celltune.data_prep.text.normalization import normalized
from celltune.data_prep.text.tokenizers import open_tokenizer
from celltune.data_prep.types import Progress
from celltune.printable import quoted

REPORTED_ROWS = 5_000
"""Documents between two progress reports."""
_MANY_CLASSES = 20
"""With more classes, at least every second document must have the label of an earlier one."""


class FoundLabels(NamedTuple):
    """The labels of the files of a table."""

    classes: tuple[str, ...]
    """Names of the classes, in class order."""
    reason: str
    """What their order is, and which labels were taken for the same class."""
    train: TrainingLabels
    """The documents of the training file."""
    counts: Mapping[Split, NDArray[np.int64]]
    """`(c,)` number of documents of each class in the file of each labelled split."""
    dropped: Mapping[Split, int]
    """Number of rows that were left out because they lack a text with tokens or a label."""


def read_labels(config: DataConfig, progress: Progress | None) -> FoundLabels:
    """Read and check the rows of the labelled files, and find classes that the config omits.

    Args:
        config: a table with its columns.
        progress: see `celltune.data_prep.inference.infer.infer`.

    Raises:
        DataError: a file is missing or invalid, a class has no documents, or labels look like
            different spellings of one class.
    """
    opened = open_source(config, cache_dir=default_cache_dir())
    table = opened.inner if isinstance(opened, GroupedSource) else opened
    if not isinstance(table, TableSource):
        raise TypeError(f"The source '{config.source}' is no table.")

    def as_opened(inner: TableSource) -> Source:
        return replace(opened, inner=inner) if isinstance(opened, GroupedSource) else inner

    reader = _Reader(config, progress)
    counted = CountedLabels(missing_words(config.missing))
    given = config.classes
    train = reader.read(as_opened(table if given else replace(table, labels=counted)), "train")
    classes, reason = given or (), ""
    if given is None:
        classes, reason, train = _named(config, counted, train)
    counts: dict[Split, NDArray[np.int64]] = {
        "train": np.bincount(train.labels, minlength=len(classes))
    }
    check_classes(classes, counts["train"], config)
    named = as_opened(replace(table, classes=classes))
    errors: list[DataError] = []
    for split in named.splits:
        if split in ("valid", "test"):
            try:
                labels = reader.read(named, split).labels
            except DataError as error:
                errors.append(error)
            else:
                counts[split] = np.bincount(labels, minlength=len(classes))
    if len(errors) > 1:
        lines = (line for error in errors for line in error.lines)
        raise DataError("The files of two splits have problems:", *lines)
    if errors:
        raise errors[0]
    dropped = {split: table.dropped[split] + reader.dropped[split] for split in counts}
    return FoundLabels(classes, reason, train, counts, dropped)


class _Reader:
    """Reads splits one after the other and reports the number of all documents.

    `dropped` has the number of documents of each split that were left out.
    """

    def __init__(self, config: DataConfig, progress: Progress | None) -> None:
        self.dropped: Counter[Split] = Counter()
        self._config = config
        self._tokenizer = open_tokenizer(config.tokenizer, lowercase=bool(config.lowercase))
        self._has_groups = config.groups is not None or config.group_column is not None
        self._progress, self._done = progress, 0

    def read(self, source: Source, split: Split) -> TrainingLabels:
        labels, groups = array("q"), []
        without_tokens: list[Document] = []
        for document in source.documents((split,)):
            if not self._tokenizer.has_token(normalized(document.text)):
                without_tokens.append(document)
                continue
            labels.append(document.label)
            if self._has_groups:
                groups.append(document.group)
            self._done += 1
            if self._progress and self._done % REPORTED_ROWS == 0:
                self._progress("labels", self._done, None)
        if without_tokens and (self._config.missing != "drop" or not labels):
            raise no_tokens_error(without_tokens, self._config)
        self.dropped[split] = len(without_tokens)
        return TrainingLabels(
            np.array(labels, dtype=np.int64), groups if self._has_groups else None
        )


def _named(
    config: DataConfig, counted: CountedLabels, train: TrainingLabels
) -> tuple[tuple[str, ...], str, TrainingLabels]:
    """Return the classes of the counted labels, what is to say about them, and the documents."""
    sizes = np.bincount(train.labels, minlength=len(counted.spellings))
    names = class_names(counted.spellings)
    where = f"{config.location}, column {quoted(columns_of(config).label)}"
    if len(names) < 2:
        raise DataError(
            f"{where}: every document ({len(train.labels):,} in all) has the label "
            f"{quoted(names[0])}. A classifier needs documents of at least two classes. Set "
            "data.label_column to the column of the labels, or add documents."
        )
    if len(names) > max(_MANY_CLASSES, len(train.labels) // 2):
        raise DataError(
            f"{where}: {len(train.labels):,} documents have {len(names):,} different labels, too "
            "many for classes. Set data.label_column to the column of the labels, or data.classes "
            "to all labels."
        )
    check_distinct(where, dict(zip(names, sizes.tolist(), strict=True)))
    classes, reason = ordered_classes(names)
    merged = [
        name for name, each in zip(names, counted.spellings, strict=True) if {name} != {*each}
    ]
    if merged:
        shown = ", ".join(f"{name}.0 is {name}" for name in merged[:3])
        reason += f"; {shown}{' and so on' if len(merged) > 3 else ''}"
    position = {name: index for index, name in enumerate(classes)}
    renumbered = np.array([position[name] for name in names], dtype=np.int64)
    return classes, reason, train._replace(labels=renumbered[train.labels])
