"""Classes from the labels of a table: which spellings are one class, and their order."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from celltune.data_prep.errors import DataError
from celltune.data_prep.sources.labels import as_yaml, plain_number
from celltune.printable import printable, quoted

KNOWN_ORDERS = (
    ("neg", "pos"),
    ("neg", "neu", "pos"),
    ("negative", "positive"),
    ("negative", "neutral", "positive"),
    ("no", "yes"),
    ("false", "true"),
    ("ham", "spam"),
    ("bad", "good"),
    ("low", "medium", "high"),
)
"""Orders of classes; upper and lower case may differ from them. The second class of a pair is the
one that a user looks for."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)
_DIGITS = re.compile(r"([0-9]+)")
_TRUTHS = {"false": 0.0, "true": 1.0}
_SHOWN = 20
"""Classes that are listed with their counts; of more, only a summary is shown."""
_ALWAYS_SHOWN, _LONGEST_LIST = 6, 160
"""Classes whose list has any length, and characters of a list of more classes."""


def ordered_classes(names: Collection[str]) -> tuple[tuple[str, ...], str]:
    """Return classes in their order, and what the order is, as a short reason.

    Numbers have their numeric order, the classes of `KNOWN_ORDERS` the order there; others are
    sorted by their characters, upper and lower case alike, and numbers in them by value.
    """
    if all(_NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name))), "in numeric order"
    by_word = {name.casefold(): name for name in names}
    for order in KNOWN_ORDERS:
        if len(by_word) == len(names) and set(order) == by_word.keys():
            return tuple(by_word[word] for word in order), "in their usual order"
    return tuple(sorted(names, key=lambda name: (_sort_key(name), name))), "sorted"


def _sort_key(name: str) -> list[tuple[int, str]]:
    """Return a key by which numbers in names are ordered by value."""
    # Texts and digits alternate. Of two numbers without leading zeros, the longer is larger.
    parts = _DIGITS.split(name.casefold())
    numbers = [part.lstrip("0") for part in parts[1::2]]
    keys = [(0, part) for part in parts]
    keys[1::2] = [(len(number), number) for number in numbers]
    return keys


def class_names(spellings: Sequence[Mapping[str, int]]) -> list[str]:
    """Return the name of each class, given the number of documents of each of its spellings.

    Spellings of one class are a whole number with and without zeros after the point.
    """
    return [plain_number(next(iter(counts))) for counts in spellings]


def check_distinct(where: str, counts: Mapping[str, int]) -> None:
    """Check that no two labels seem to be spellings of one class.

    Args:
        where: the file, for messages.
        counts: number of documents of each label.

    Raises:
        DataError: two labels are the same number, differ only in case, spaces or the form of
            characters, or are a truth value and its number.
    """
    numbers = {float(name) for name in counts if _NUMBER.fullmatch(name)}
    groups: dict[object, list[str]] = defaultdict(list)
    for name in counts:
        groups[_meaning(name, numbers)].append(name)
    twins = [group for group in groups.values() if len(group) > 1]
    if not twins:
        return
    shown = [
        " and ".join(f"{quoted(name)} ({counts[name]:,} documents)" for name in group)
        for group in twins[:_SHOWN]
    ]
    if len(twins) > _SHOWN:
        shown.append(f"and {len(twins) - _SHOWN:,} more")
    names, _ = ordered_classes(list(counts))
    fix = "Write each class in one way in the file."
    if len(names) <= _SHOWN:
        fix += f" If they are different classes: `data.classes: {as_yaml(names)}`."
    raise DataError(
        f"{where}: some labels look like one class, written in several ways.", *shown, fix
    )


def _meaning(label: str, numbers: Collection[float]) -> object:
    if _NUMBER.fullmatch(label):
        return float(label)
    word = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    truth = _TRUTHS.get(word)
    return truth if truth in numbers else word


def counts_text(counts: Mapping[str, int]) -> str:
    """Return classes with their numbers of documents; of many classes, a summary."""
    if len(counts) <= _SHOWN:
        listed = ", ".join(f"{printable(name, 80)}: {count:,}" for name, count in counts.items())
        if len(counts) <= _ALWAYS_SHOWN or len(listed) <= _LONGEST_LIST:
            return listed
    if len(set(counts.values())) == 1:
        return f"{len(counts):,} classes with {next(iter(counts.values())):,} documents each"
    by_count = sorted(counts.items(), key=lambda item: -item[1])
    largest = ", ".join(f"{printable(name, 40)}: {count:,}" for name, count in by_count[:3])
    smallest = ", ".join(f"{printable(name, 40)}: {count:,}" for name, count in by_count[-3:])
    return f"{len(counts):,} classes; the largest are {largest}, the smallest {smallest}"
