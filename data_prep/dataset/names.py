"""Rules for vocabularies and classes that are read from files."""

from __future__ import annotations

from typing import Any

from celltune.data_prep.dataset.vocabulary import SPECIALS
from celltune.data_prep.io.strict_json import first_repeated
from celltune.printable import quoted


def check_words(words: Any) -> tuple[str, ...]:
    r"""Return the words of a vocabulary.

    Control characters are allowed, because texts contain them: `\x96` is a dash in some reviews.

    Args:
        words: anything that JSON can contain.

    Raises:
        ValueError: it is not a list of distinct words that starts with those for unk and pad. The
            message is a predicate about the list.
    """
    _check_texts(words, "word", "words")
    if tuple(words[: len(SPECIALS)]) != SPECIALS:
        raise ValueError(f"does not start with {' and '.join(map(quoted, SPECIALS))}")
    if len(words) == len(SPECIALS):
        raise ValueError("contains no known word")
    return tuple(words)


def check_classes(classes: Any) -> tuple[str, ...]:
    """Return the names of classes.

    Args:
        classes: anything that JSON can contain.

    Raises:
        ValueError: it is not a list of at least two distinct names. The message is a predicate
            about the list.
    """
    _check_texts(classes, "class", "classes")
    if len(classes) < 2:
        raise ValueError(f"has {len(classes)} names, but a classifier needs at least 2 classes")
    return tuple(classes)


def _check_texts(values: Any, kind: str, kinds: str) -> None:
    if not isinstance(values, (list, tuple)) or not all(isinstance(text, str) for text in values):
        raise ValueError(f"is not a list of {kinds}")
    if "" in values:
        raise ValueError(f"contains an empty {kind}")
    if len(set(values)) < len(values):
        raise ValueError(f"contains the {kind} {quoted(first_repeated(values))} twice")
