"""Built-in tokenizers, and access to all tokenizers by name."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import chain

from celltune.data_prep.errors import DataError
from celltune.data_prep.extensions import TOKENIZERS
from celltune.data_prep.text.base import ChunkTokenizer, Tokenizer

LINE_BREAK = "<br />"
"""HTML line break; the only pattern of `BasicEnglish` that contains a space."""

WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
"""Precedes the first character after white space in the words of `WordsForSubwords`."""

LONGEST_WORD = 32
"""Longer words of `WordsForSubwords` are cut, such as sentences of a language without spaces."""

# The substitutions of torchtext 0.6.0 in torchtext's order. The order matters: `<br" />` becomes a
# line break because quotes are removed first. Spaces are left to `str.split`.
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


class BasicEnglish(ChunkTokenizer):
    """Lower-case words and punctuation marks: `basic_english` of torchtext 0.6.0.

    Double quotes, semicolons, colons and HTML line breaks are removed, so a text of nothing else
    has no token. Source: torchtext 0.6.0, `torchtext/data/utils.py`.
    """

    version = ""
    always_lowercases = True
    keeps_words = True
    native_rules = "basic_english"

    def isolate(self, text: str) -> str:
        """Rewrite a text so that no rule applies across a space; the tokens stay the same."""
        isolated = text.replace(LINE_BREAK, " ") if LINE_BREAK in text else text
        # A remaining ">" can be the end of a line break (`<BR />`, `<br" />`). Such a text is
        # replaced by its tokens, joined by a character at which it is not cut.
        return "\t".join(self(text)) if ">" in isolated else isolated

    def mark(self, text: str) -> str:
        """Return the lower-case text with spaces around tokens."""
        text = text.lower()
        for pattern, replacement in _BASIC_ENGLISH:
            if pattern in text:
                text = text.replace(pattern, replacement)
        return text


class Whitespace(ChunkTokenizer):
    """The strings between whitespace, unchanged."""

    version = ""
    keeps_words = True
    native_rules = "whitespace"

    def mark(self, text: str) -> str:
        """Return the text itself."""
        return text


class Spacy(Tokenizer):
    """spaCy's rule-based English tokenizer without a model; runs of spaces are tokens.

    Source: gives the tokens of torchtext 0.6.0's `Field(tokenize="spacy")`, which downloads a model
    to get the same rules.

    Raises:
        DataError: spaCy is not installed.
    """

    version = ""
    keeps_words = True

    def __init__(self) -> None:
        try:
            from spacy.lang.en import English
        except ImportError as error:
            raise DataError(
                "data.tokenizer is 'spacy', but spaCy is not installed. Install the extra with: "
                "pip install 'celltune[spacy]'. Or set data.tokenizer to 'basic_english' or "
                "'whitespace'."
            ) from error
        self._tokenizer = English().tokenizer

    def __call__(self, text: str) -> list[str]:
        """Return the tokens of a text in order."""
        return [token.text for token in self._tokenizer(text)]


class WordsForSubwords(ChunkTokenizer):
    """Runs of letters and digits, and runs of other characters, which consist of subwords.

    `WORD_START` precedes the first character after white space, so that the tokens, joined, show
    where the spaces were. In a text, this character is read as a space. HTML line breaks are white
    space. A word has at most `LONGEST_WORD` characters besides `WORD_START`.
    """

    version = ""
    keeps_words = True
    subwords = True

    def isolate(self, text: str) -> str:
        """Rewrite a text so that no rule applies across a space; the tokens stay the same."""
        # With a space, "<br<br>/>" would become a line break. Chunks are not cut at a line feed.
        return _HTML_LINE_BREAK.sub("\n", text)

    def mark(self, text: str) -> str:
        """Return the text with `WORD_START` before words and spaces around them."""
        text = self.isolate(text).replace(WORD_START, " ")
        return _word_pattern().sub(r"\g<0> ", _FIRST_CHARACTER.sub(WORD_START, text))


_HTML_LINE_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_FIRST_CHARACTER = re.compile(r"(?<!\S)(?=[^\s\0])")


@cache
def _word_pattern() -> re.Pattern[str]:
    r"""Return the pattern of one word.

    Combining marks belong to the character before them: vowels in Indic scripts, for example, which
    `\w` does not match. So do the joiners of Persian and Indic scripts and of emojis.
    """
    assigned = chain(range(0x300, 0x20000), range(0xE0100, 0xE01F0))
    marks = "".join(chr(code) for code in assigned if unicodedata.category(chr(code))[0] == "M")
    letters = rf"\w[\w{marks}\u200c\u200d]{{0,{LONGEST_WORD - 1}}}"
    others = rf"[^\w\s\0{WORD_START}]{{1,{LONGEST_WORD}}}"
    return re.compile(rf"{WORD_START}?(?:{letters}|{others})|\0+")


class _Lowercased(Tokenizer):
    """A tokenizer that is applied to the lower-case text."""

    version = ""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[str]:
        return self._tokenizer(text.lower())

    def has_token(self, text: str) -> bool:
        return self._tokenizer.has_token(text.lower())


def open_tokenizer(name: str, *, lowercase: bool = False) -> Tokenizer:
    """Create the tokenizer with the given name.

    Args:
        name: a name of `TOKENIZERS`.
        lowercase: apply it to the lower-case text.

    Raises:
        ExtensionError: the name is unknown, or its package cannot be imported.
        DataError: a library that the tokenizer needs is not installed, or it is not a `Tokenizer`.
    """
    tokenizer = _implementation(name)()
    return _Lowercased(tokenizer) if lowercase and not tokenizer.always_lowercases else tokenizer


def has_subwords(name: str) -> bool:
    """Return whether the words of a tokenizer are split into subwords.

    Raises:
        ExtensionError: the name is unknown, or its package cannot be imported.
        DataError: it is not a `Tokenizer`.
    """
    return _implementation(name).subwords


def tokenizer_version(name: str) -> str:
    """Return the version of a tokenizer's rules; empty for built-in ones.

    Raises:
        ExtensionError: the name is unknown, or its package cannot be imported.
        DataError: a tokenizer of another package has no version, or it is not a `Tokenizer`.
    """
    implementation = _implementation(name)
    version = getattr(implementation, "version", None)
    if not isinstance(version, str) or not (version or implementation.__module__ == __name__):
        raise DataError(
            f"The tokenizer '{name}' has the version {version!r}. It has to be a non-empty string, "
            f"because it identifies prepared data. Fix or uninstall the package that defines it."
        )
    return version


def _implementation(name: str) -> type[Tokenizer]:
    implementation = TOKENIZERS.load(name)
    if not (isinstance(implementation, type) and issubclass(implementation, Tokenizer)):
        raise DataError(
            f"The tokenizer '{name}' is {implementation!r}, which is not a subclass of Tokenizer "
            f"from celltune.data_prep.text.base. Fix or uninstall the package that defines it."
        )
    return implementation
