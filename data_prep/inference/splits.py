"""Which classes the splits of a table will lack, and how much a small one can tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from celltune.data_prep.config import DataConfig
from celltune.data_prep.errors import DataError
from celltune.data_prep.preparation.splits import stratified_split
from celltune.printable import quoted

FEW_DOCUMENTS = 100
"""Below this size of the validation split, its accuracies are uncertain by 10 points or more."""
_FEW_OF_CLASS = 10
"""Documents of a class in a split below which its recall and F1 tell little."""
_SHOWN = 3
"""Classes that a message names."""
_Z95 = 1.96


class TrainingLabels(NamedTuple):
    """Labels and groups of the documents of the training file."""

    labels: NDArray[np.int64]
    """`(n,)` index of each document's class."""
    groups: Sequence[str | None] | None
    """`(n,)` group of each document; None if there are no groups."""


class SplitReport(NamedTuple):
    """What is known about the splits before they are made."""

    min_per_class: int | None
    """The value that the setting needs, so that no split lacks a class; None if it stays."""
    reason: str
    """Why it needs the value."""
    warnings: tuple[str, ...]
    """What a user should know, as sentences."""


def report_splits(
    config: DataConfig,
    classes: Sequence[str],
    train: TrainingLabels,
    own: Mapping[str, NDArray[np.int64]],
) -> SplitReport:
    """Find the classes that validation or test will lack, and what can be done about it.

    Args:
        config: sizes of the splits.
        classes: names of the classes.
        train: the documents of the training file.
        own: `(c,)` number of documents of each class in the files of the other splits.

    Raises:
        DataError: the documents cannot be split.
    """
    parts, least, reason = _parts(config, classes, train)
    total = np.bincount(train.labels, minlength=len(classes))
    warnings = [
        f"The {name} split contains no document of {_named(classes, lacking, total)}. No metric of "
        f"this split shows how well {'it is' if len(lacking) == 1 else 'they are'} recognized."
        for name, counts in {**parts, **own}.items()
        if len(lacking := np.flatnonzero(counts == 0).tolist())
    ]
    warnings += _few_of_class(classes, {**parts, **own}, total)
    valid = int({**parts, **own}["validation"].sum())
    if valid < FEW_DOCUMENTS:
        warnings.append(_uncertainty(valid, config))
    return SplitReport(least, reason, tuple(warnings))


def _parts(
    config: DataConfig, classes: Sequence[str], train: TrainingLabels
) -> tuple[dict[str, NDArray[np.int64]], int | None, str]:
    """Return the class counts of the splits that are taken from the training file."""
    try:
        parts = _split(config, classes, train, config.min_per_class or 0)
    except DataError:
        if config.min_per_class is not None:
            raise
        parts = None
    lacking = _lacking(parts)
    if config.min_per_class is not None or (parts is not None and not lacking):
        return parts or {}, None, ""
    try:
        better = _split(config, classes, train, 1)
    except DataError:
        if parts is None:
            raise
        return parts, None, ""
    if parts is not None and _costs(_lacking(better)) >= _costs(lacking):
        return parts, None, ""
    if parts is None:
        return better, 1, "the training split would otherwise contain no document of a rare class"
    total = np.bincount(train.labels, minlength=len(classes))
    saved = lacking - _lacking(better)
    names = {name for name, _ in saved}
    split = f"the {names.pop()} split" if len(names) == 1 else "a split"
    what = _named(classes, sorted({label for _, label in saved}), total)
    return better, 1, f"{split} would otherwise contain no document of {what}"


def _costs(lacking: set[tuple[str, int]]) -> tuple[int, int]:
    """Return how many classes validation lacks, which matters most, and all splits together."""
    return sum(name == "validation" for name, _ in lacking), len(lacking)


def _lacking(parts: Mapping[str, NDArray[np.int64]] | None) -> set[tuple[str, int]]:
    """Return the splits and the classes that they lack."""
    return {
        (name, int(label))
        for name, counts in (parts or {}).items()
        for label in np.flatnonzero(counts == 0)
    }


def _split(
    config: DataConfig, classes: Sequence[str], train: TrainingLabels, least: int
) -> dict[str, NDArray[np.int64]]:
    """Return the number of documents of each class in validation and held-out test split."""
    parts = stratified_split(
        train.labels,
        config.train_size,
        0 if config.valid_path is not None else config.valid_size,
        config.seed,
        test_size=config.test_size or 0,
        groups=train.groups,
        min_per_class=least,
        names=classes,
    )
    counts = {
        "validation": np.bincount(train.labels[parts.valid], minlength=len(classes)),
        "test": np.bincount(train.labels[parts.test], minlength=len(classes)),
    }
    return {name: each for name, each in counts.items() if each.any()}


def _named(classes: Sequence[str], labels: Sequence[int], total: NDArray[np.int64]) -> str:
    """Return the names of some classes with the number of their documents in the training file."""
    rarest = sorted(labels, key=lambda label: (total[label], classes[label]))
    shown = ", ".join(
        f"{quoted(classes[label])} ({total[label]:,} in all)" for label in rarest[:_SHOWN]
    )
    more = len(rarest) - _SHOWN
    return shown if more <= 0 else f"{shown} and {more:,} other classes"


def _few_of_class(
    classes: Sequence[str], splits: Mapping[str, NDArray[np.int64]], total: NDArray[np.int64]
) -> list[str]:
    """Return a sentence about classes of which splits have a few documents, but not none."""
    lacking = {label for _, label in _lacking(splits)}
    # What the size of a small split means is said about all classes together.
    found = [
        f"{_named(classes, rare, total)} in {name}"
        for name, counts in splits.items()
        if counts.sum() >= FEW_DOCUMENTS
        and (rare := [*set(np.flatnonzero(counts < _FEW_OF_CLASS).tolist()) - lacking])
    ]
    if not found:
        return []
    return [
        f"Classes have fewer than {_FEW_OF_CLASS} documents in a split: {'; '.join(found)}. Each "
        f"document changes the recall of its class by more than {100 // _FEW_OF_CLASS} percentage "
        "points. Provide more of them, or a larger split."
    ]


def _uncertainty(valid: int, config: DataConfig) -> str:
    points = 100 * _Z95 * 0.5 / math.sqrt(valid)
    fix = (
        "data.valid_path to a larger file"
        if config.valid_path
        else "data.valid_size to a larger one"
    )
    return (
        f"The validation split has {valid} document{'' if valid == 1 else 's'}: its accuracies are "
        f"uncertain by up to ±{points:.0f} percentage points (95 % confidence), and smaller "
        f"differences between trials are chance. Set {fix}, or provide more documents."
    )
