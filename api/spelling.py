"""Suggestions for misspelled names in error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest_match(word: str, allowed: Iterable[str]) -> str:
    """Return a hint for an unknown name: the most similar allowed name, and all allowed names."""
    words = list(allowed)
    close = get_close_matches(word, words, n=1)
    suggestion = f"Did you mean '{close[0]}'? " if close else ""
    return f"{suggestion}Allowed: {', '.join(words) if words else 'none'}."
