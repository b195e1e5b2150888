"""Suggestions for misspelled names in error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from celltune.printable import printable

_COMPARED = 100
"""Number of characters that are compared; a longer word is not a misspelled name."""
_LISTED = 50
"""Number of allowed names that a hint lists."""


def closest_match(word: str, allowed: Iterable[str]) -> str:
    """Return a hint for an unknown name: the most similar allowed name, and all allowed names."""
    words = list(allowed)
    close = get_close_matches(word[:_COMPARED], words, n=1)
    suggestion = f"Did you mean '{printable(close[0])}'? " if close else ""
    listed = ", ".join(map(printable, words[:_LISTED])) or "none"
    rest = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return f"{suggestion}Allowed: {listed}{rest}."
