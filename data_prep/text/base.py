"""The interface of tokenizers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import ClassVar

_WORD = re.compile(r"\w{3}")
"""Three characters, because an HTML line break, which is not a token, contains two."""


class Tokenizer(ABC):
    """Splits a text into tokens. Implementations are created without arguments.

    Contract:

    - The tokens are a function of the text alone. They do not depend on earlier texts, the time,
      the locale, random numbers or files that may change.
    - A token is a non-empty string that can be encoded as UTF-8. A text without tokens gives an
      empty list. Any text without lone surrogates is accepted.
    - Prepared data, bundles and workers find a tokenizer by name, so its package has to be
      installed on every machine that reads text. Instances are not pickled.
    - Errors: the constructor raises `DataError` if a required library is missing. A call raises
      nothing.
    """

    version: ClassVar[str]
    """Version of the rules. It is part of the fingerprint of prepared data, so it has to change
    whenever any text would give other tokens. Include the package's name ("my_package 1"). It is
    empty for built-in tokenizers only, whose rules are frozen."""

    always_lowercases: ClassVar[bool] = False
    """True if tokens are lower-case without data.lowercase."""

    keeps_words: ClassVar[bool] = False
    """True if three consecutive letters or digits always give a token. Data sets are then validated
    faster, because most documents need not be tokenized."""

    subwords: ClassVar[bool] = False
    """True if the tokens are words that data_prep splits into subwords, which it learns from the
    training split. No subword extends across two words."""

    @abstractmethod
    def __call__(self, text: str) -> list[str]:
        """Return the tokens of a text in order."""

    def has_token(self, text: str) -> bool:
        """Return whether a text has a token."""
        return bool(self.keeps_words and _WORD.search(text)) or bool(self(text))


class ChunkTokenizer(Tokenizer):
    """A tokenizer that can process the chunks between spaces independently.

    Large data sets are then tokenized once per distinct chunk ("Movie.", "(it's") instead of once
    per occurrence. `isolate` and `mark` are called from several threads at the same time.

    Contract in addition to `Tokenizer`, for texts and chunks a, b, ...:

    - `mark(a + " " + b)` equals `mark(a) + " " + mark(b)` if `a + " " + b` was isolated.
    - NUL characters, which separate chunks internally, pass through `mark` unchanged.
    """

    native_rules: ClassVar[str | None] = None
    """Name of the same rules in native_tokens.cpp, if they are implemented there."""

    def __call__(self, text: str) -> list[str]:
        """Return the tokens of a text in order."""
        return self.mark(text).split()

    def isolate(self, text: str) -> str:
        """Rewrite a text so that no rule applies across a space; the tokens stay the same."""
        return text

    @abstractmethod
    def mark(self, text: str) -> str:
        """Rewrite a text so that `str.split` returns its tokens."""
