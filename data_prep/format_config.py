"""Settings that describe how a table file is written."""

from __future__ import annotations

import codecs
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from celltune.data_prep.types import shown

Kind = Literal["csv", "tsv", "jsonl", "json", "parquet", "xlsx", "dataset", "txt"]
KINDS: tuple[str, ...] = get_args(Kind)

_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
_NOT_DELIMITERS = frozenset('"\n\r\0\ufeff')
_NOT_OF_FILES = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf-7"}
)
"""Codecs of Python that no editor saves files in."""
_NAMES = {"cp1252": "windows-1252", "utf-8-sig": "utf-8"}


def check_delimiter(value: Any) -> Any:
    """Return the character that separates cells, which can also be given by its name.

    Raises:
        ValueError: it is not a single character, or one that cannot separate cells.
    """
    if not isinstance(value, str):
        return value
    character = _DELIMITERS.get(value.lower(), value)
    if len(character) != 1 or character in _NOT_DELIMITERS:
        raise ValueError(
            f"is {shown(value)}. It must be one character, such as ',' or ';', or one of "
            f"{', '.join(name for name in _DELIMITERS if name.isalpha())}."
        )
    return character


def check_encoding(name: str) -> str:
    """Return the usual name of an encoding.

    Raises:
        ValueError: Python does not know it, or files are not saved in it.
    """
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        codec = None
    # The attribute tells encodings of text from codecs such as base64.
    if codec is None or not codec._is_text_encoding or codec.name in _NOT_OF_FILES:
        raise ValueError(
            f"is {shown(name)}, which is not an encoding of text files. Examples are utf-8, "
            f"utf-16, windows-1252, windows-1251, gb18030 and shift_jis."
        )
    return _NAMES.get(codec.name, codec.name)


Delimiter = Annotated[str, BeforeValidator(check_delimiter)]
Encoding = Annotated[str, AfterValidator(check_encoding)]
Switch = Annotated[bool, Field(strict=True)]


class FormatConfig(BaseModel):
    """The format of a file that differs from that of the training split."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    format: Kind | None = None
    """As data.format."""

    delimiter: Delimiter | None = None
    """As data.delimiter."""

    quoting: Switch | None = None
    """As data.quoting."""

    header: Switch | None = None
    """As data.header."""

    encoding: Encoding | None = None
    """As data.encoding."""

    sheet: str | None = Field(default=None, min_length=1)
    """As data.sheet."""
