"""Unicode normalization: texts that look the same get the same tokens.

Source: Unicode Standard Annex 15, normalization form C.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def normalized(text: str) -> str:
    """Return the text with composed characters (NFC): "e" and an acute accent become "é"."""
    # Python checks first whether a text is composed already, which is fast, and returns it then.
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def are_normalized(texts: Iterable[str]) -> bool:
    """Return whether `normalized` leaves all texts unchanged."""
    return all(text.isascii() or unicodedata.is_normalized("NFC", text) for text in texts)


def come_from_normalized(words: Iterable[str]) -> bool:
    """Return whether words can be those of normalized texts, in their own or in lower case.

    Lower-casing can undo a composition: "J" with a caron has two characters, but "j" with a caron
    is one. A word of a normalized text in lower case may therefore not be normalized, while its
    upper case is.
    """
    return all(are_normalized([word]) or are_normalized([word.upper()]) for word in words)
