"""Extension points of `celltune.data_prep` and their built-in implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celltune.registry import Registry

if TYPE_CHECKING:
    from celltune.data_prep.text.base import Tokenizer

_TOKENIZERS = "celltune.data_prep.text.tokenizers"

TOKENIZERS: Registry[type[Tokenizer]] = Registry(
    "tokenizer",
    "celltune.tokenizers",
    {
        "basic_english": f"{_TOKENIZERS}:BasicEnglish",
        "whitespace": f"{_TOKENIZERS}:Whitespace",
        "spacy": f"{_TOKENIZERS}:Spacy",
    },
)
"""Tokenizers, which split a text into tokens (classes derived from `Tokenizer`)."""
