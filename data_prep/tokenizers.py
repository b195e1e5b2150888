"""Text to tokens, by name."""

from __future__ import annotations

from collections.abc import Callable

Tokenizer = Callable[[str], list[str]]

# torchtext 0.6.0's substitutions in torchtext's order, which matters: `<br" />` becomes a line
# break only because quotes go first. Blanks are left to split().
_BASIC_ENGLISH = (
    ("'", " ' "),
    ('"', ""),
    (".", " . "),
    ("<br />", " "),
    (",", " , "),
    ("(", " ( "),
    (")", " ) "),
    ("!", " ! "),
    ("?", " ? "),
    (";", " "),
    (":", " "),
)


def basic_english(text: str) -> list[str]:
    """Lower-cased words and punctuation marks, as torchtext 0.6.0's ``basic_english`` gives them.

    Quotes, semicolons, colons and line breaks of HTML disappear; a text of nothing else gives
    no token. Source: torchtext 0.6.0, ``torchtext/data/utils.py``.
    """
    text = text.lower()
    for mark, spaced in _BASIC_ENGLISH:
        text = text.replace(mark, spaced)
    return text.split()


TOKENIZERS: dict[str, Tokenizer] = {"basic_english": basic_english}
"""Every tokenizer by the name that a config gives it."""
