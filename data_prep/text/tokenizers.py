"""Text to tokens, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from celltune.data_prep.errors import DataError

Tokenizer = Callable[[str], list[str]]

LINE_BREAK = "<br />"
"""HTML's line break, which `basic_english` drops; the only thing in it that spans a blank."""

# torchtext 0.6.0's substitutions in torchtext's order, which matters: `<br" />` becomes a line
# break only because quotes go first. Blanks are left to split().
_BASIC_ENGLISH = (
    ("'", " ' "),
    ('"', ""),
    (".", " . "),
    (LINE_BREAK, " "),
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
    return spaced_basic_english(text).split()


def spaced_basic_english(text: str) -> str:
    """What `basic_english` splits at blanks: lower case, marks apart."""
    text = text.lower()
    for mark, spaced in _BASIC_ENGLISH:
        if mark in text:
            text = text.replace(mark, spaced)
    return text


def whitespace(text: str) -> list[str]:
    """What stands between blanks, as it was written."""
    return text.split()


def spacy() -> Tokenizer:
    """SpaCy's tokenizer of English, without a model; blanks of more than one are tokens.

    Raises:
        DataError: spaCy isn't installed.

    Source: the tokens of torchtext 0.6.0's ``Field(tokenize="spacy")``, which needs a model to be
    downloaded for the same rules.
    """
    try:
        from spacy.lang.en import English
    except ImportError as error:
        raise DataError(
            "data.tokenizer spacy needs spaCy, which isn't installed; run "
            "pip install 'celltune[spacy]', or choose basic_english or whitespace"
        ) from error
    tokenizer = English().tokenizer
    return lambda text: [token.text for token in tokenizer(text)]


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "basic_english": lambda: basic_english,
    "whitespace": lambda: whitespace,
    "spacy": spacy,
}
"""What makes each tokenizer, by the name that a config gives it."""


def tokenizer(name: str, *, lowercase: bool = False) -> Tokenizer:
    """The tokenizer of a name.

    Args:
        name: a key of `TOKENIZERS`.
        lowercase: lower-case the text first; `basic_english` does so in any case.

    Raises:
        DataError: a library that it needs isn't installed.
    """
    made = TOKENIZERS[name]()
    return partial(_lowered, made) if lowercase and name != "basic_english" else made


def _lowered(made: Tokenizer, text: str) -> list[str]:
    return made(text.lower())
