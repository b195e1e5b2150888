"""Extension points of `celltune.data_prep` and their built-in implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celltune.registry import Registry

if TYPE_CHECKING:
    from celltune.data_prep.sources.base import Source
    from celltune.data_prep.text.base import Tokenizer

_SOURCES = "celltune.data_prep.sources"
_TOKENIZERS = "celltune.data_prep.text.tokenizers"

SOURCES: Registry[type[Source]] = Registry(
    "data source",
    "celltune.sources",
    {
        "synthetic": f"{_SOURCES}.synthetic:SyntheticSource",
        "imdb": f"{_SOURCES}.imdb:ImdbSource",
        "table": f"{_SOURCES}.table:TableSource",
        "csv": f"{_SOURCES}.table:TableSource",
        "tsv": f"{_SOURCES}.table:TableSource",
        "jsonl": f"{_SOURCES}.table:TableSource",
        "parquet": f"{_SOURCES}.table:TableSource",
        "amazon": f"{_SOURCES}.amazon:AmazonSource",
    },
)
"""Data sources, which yield labelled documents (classes derived from `Source`)."""

TOKENIZERS: Registry[type[Tokenizer]] = Registry(
    "tokenizer",
    "celltune.tokenizers",
    {
        "basic_english": f"{_TOKENIZERS}:BasicEnglish",
        "whitespace": f"{_TOKENIZERS}:Whitespace",
        "spacy": f"{_TOKENIZERS}:Spacy",
        "bpe": f"{_TOKENIZERS}:WordsForSubwords",
    },
)
"""Tokenizers, which split a text into tokens (classes derived from `Tokenizer`)."""
