"""What was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Say which allowed word is nearest to `word`, and which are allowed at all."""
    words = list(allowed)
    close = get_close_matches(word, words, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Allowed: {', '.join(words) if words else 'none'}."
