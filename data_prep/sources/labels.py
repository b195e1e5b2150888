"""Labels of tables: which spellings are the same class."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from celltune.data_prep.errors import DataError
from celltune.printable import printable

MOST_LABELS = 10_000
"""Largest number of different labels that are counted."""

_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_PLAIN = re.compile(r"[A-Za-z_][\w+/-]*", re.ASCII)
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null", "nan"})


class Labels:
    """Finds the class of a label.

    Spaces around a label do not count. 1.0 is the class 1: programs write whole numbers in this way
    if one of a column is missing.

    Args:
        classes: names of the classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._exact = {name: index for index, name in enumerate(classes)}
        self._numbers: dict[str, int | None] = {}
        for name, index in self._exact.items():
            number = plain_number(name)
            self._numbers[number] = None if number in self._numbers else index

    def find(self, label: str) -> int | None:
        """Return the index of a label's class, or None if it is no class."""
        index = self._exact.get(label)
        if index is None:
            index = self._exact.get(label := label.strip())
        return self._numbers.get(plain_number(label)) if index is None else index


class CountedLabels(Labels):
    """Finds and counts the labels of a table whose classes are not known yet.

    Args:
        ignored: labels that stand for missing values.
    """

    def __init__(self, ignored: Collection[str]) -> None:
        super().__init__(())
        self.spellings: list[dict[str, int]] = []
        """Number of documents by spelling, for each class in the order of their first documents."""
        self._ignored = ignored

    def find(self, label: str) -> int | None:
        """Return the index of a label's class, or None if it is ignored.

        Raises:
            DataError: there are too many different labels.
        """
        label = label.strip()
        if label in self._ignored:
            return None
        index = self._exact.get(label)
        if index is None:
            number = plain_number(label)
            known = self._numbers.get(number)
            index = len(self.spellings) if known is None else known
            if known is None:
                self.spellings.append({})
            self._exact[label] = self._numbers[number] = index
            if len(self._exact) > MOST_LABELS:
                raise DataError(
                    f"The label column contains more than {MOST_LABELS:,} different values. Set "
                    "data.label_column to the column of the labels."
                )
        counts = self.spellings[index]
        counts[label] = counts.get(label, 0) + 1
        return index


def plain_number(label: str) -> str:
    """Return a whole number without the point and the zeros after it; other labels are unchanged.

    Labels such as 1.1 and 1.10 can be versions, so that they are not taken for the same number.
    """
    whole = _WHOLE.fullmatch(label) if "." in label else None
    return whole[1] if whole else label


def as_yaml(names: Sequence[str]) -> str:
    """Return class names as a YAML list on one line, to paste into a config."""
    return f"[{', '.join(map(_scalar, names))}]"


def _scalar(name: str) -> str:
    if _PLAIN.fullmatch(name) and name.lower() not in _YAML_WORDS:
        return name
    return "'" + printable(name).replace("'", "''") + "'"
