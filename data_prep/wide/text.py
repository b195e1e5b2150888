"""Text as the wide part reads it: the whole document, normalized, as words and as chunks."""

from __future__ import annotations

import re
import unicodedata

SEPARATOR = "\n"
"""Separates texts and chunks that are joined. No normalized text contains it."""

_WORDS = re.compile(rf"\w+|[^\w\s]|{SEPARATOR}")


def normalize(text: str) -> str:
    """Return the text in Unicode's composed form (NFC) and in lower case.

    HTML line breaks and white space become single spaces.
    """
    unbroken = " ".join(text.replace("<br />", " ").split())
    return unicodedata.normalize("NFC", unbroken).lower()


def words_of(text: str) -> list[str]:
    """Return the words and punctuation marks of a normalized text, and its separators."""
    return _WORDS.findall(text)
