"""Configuration of a data set: source, splits, tokens, vocabulary and word vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from celltune.data_prep.class_names import ClassNames
from celltune.data_prep.extensions import SOURCES, TOKENIZERS
from celltune.data_prep.format_config import Delimiter, Encoding, FormatConfig, Kind, Switch
from celltune.data_prep.types import LocalPath, LocalPaths, absolute, shown
from celltune.data_prep.vector_config import VectorsConfig
from celltune.data_prep.wide_config import WideConfig
from celltune.registry import name_in

Count = Annotated[int, Field(strict=True, ge=1)]
MOST_TOKENS = 2**31 - 1
"""Largest limit of the tokens of a document."""
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]

SOURCE_KEYS = (
    "path",
    "test_path",
    "valid_path",
    "test_size",
    "unlabelled",
    "format",
    "delimiter",
    "quoting",
    "header",
    "encoding",
    "sheet",
    "test_format",
    "valid_format",
    "unlabelled_format",
    "text_column",
    "label_column",
    "id_column",
    "group_column",
    "classes",
    "missing",
    "reviews",
    "label_noise",
)
"""Keys that only some sources read. A source declares the ones that it reads; a config that sets
another one is rejected, because the value would have no effect."""

PATHS = ("path", "test_path", "valid_path", "unlabelled")
"""Keys that name data files."""

_ALTERNATIVES = {
    "test_size": ("test_path", "a test split"),
    "groups": ("group_column", "groups"),
    "valid_size": ("valid_path", "the validation split"),
}
"""Keys of which at most one can be set: the later field, the earlier one, and what they define."""

EARLIER_DEFAULTS = {"text_column": "text", "label_column": "label"}
"""Values that configs of earlier releases state, whatever their source reads; a table without these
keys still has these columns."""


def _or_flag(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"type": "boolean"}, *schema["anyOf"]]


class DataConfig(BaseModel):
    """A data set, from the raw texts to token ids.

    Equal configs with equal input files give equal prepared data.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    source: name_in(SOURCES) = "table"  # type: ignore[valid-type]
    """Where documents come from: table (a file of any format, with a text and a label in each
    row), csv, tsv, jsonl or parquet (a table of this format), imdb (the Large Movie Review
    Dataset), amazon (the Amazon reviews of the DLStudio course), synthetic (generated reviews), or
    the name of an installed extension."""

    path: LocalPaths | None = None
    """Tables: the file, plain or compressed (.gz, .bz2, .xz, .zst); a list or a pattern such as
    reviews/*.csv reads several files of one format as one. amazon: the gzipped pickle. imdb: the
    archive aclImdb_v1.tar.gz or the unpacked folder aclImdb; without it, the archive is downloaded
    once. Relative to the working directory."""

    test_path: LocalPaths | None = None
    """Tables and amazon: the file with the test split, which no search reads. Tables: also several
    files, as for path."""

    valid_path: LocalPaths | None = None
    """Tables: the file with the validation split, also several files, as for path. Without it,
    valid_size of the documents validate."""

    test_size: Count | Share | None = None
    """Tables, amazon and synthetic, without test_path: a share or a number of all documents that
    is held out as the test split, which no search reads."""

    unlabelled: LocalPaths | None = None
    """Tables: a file of texts without labels, from which word vectors are learned, too: one text
    per line, or the text column of a table; also several files, as for path."""

    format: Kind | None = None
    """Tables: csv or tsv (cells with a character between them), jsonl (a JSON object per line),
    json (an array of objects), parquet, xlsx (Excel), dataset (a folder that Hugging Face datasets
    saved, or one of its .arrow files), or txt (one text per line, for texts without labels). This
    key and the next five are inferred from the content if they are not set."""

    delimiter: Delimiter | None = None
    """csv and tsv: the character between the cells of a row, or its name: comma, semicolon, tab,
    pipe or space."""

    quoting: Switch | None = None
    """csv and tsv: whether double quotes enclose cells, which can then contain the delimiter and
    line breaks; if false, quotes are characters like any other."""

    header: Switch | None = None
    """csv, tsv and xlsx: whether the first row names the columns; if false, their names are their
    numbers: 1, 2 and so on."""

    encoding: Encoding | None = None
    """Text files: the encoding, such as utf-8, utf-16 or windows-1252."""

    sheet: str | None = Field(default=None, min_length=1)
    """xlsx: the name of the sheet."""

    test_format: FormatConfig | None = None
    """Tables: a mapping of format, delimiter, quoting, header, encoding and sheet for test_path, if
    they are not those of path; inferred."""

    valid_format: FormatConfig | None = None
    """Tables: the same for valid_path."""

    unlabelled_format: FormatConfig | None = None
    """Tables: the same for unlabelled. Without it, the name of the file states the format."""

    text_column: str | None = Field(default=None, min_length=1)
    """Tables: name of the column that contains the text. Without it, a launch recognizes the column
    by its name or its content."""

    label_column: str | None = Field(default=None, min_length=1)
    """Tables: name of the column that contains the label. Without it, a launch recognizes the
    column by its name or its content."""

    id_column: str | None = Field(default=None, min_length=1)
    """Tables: name of the column that contains a unique id; without it, the row number is the
    id."""

    group_column: str | None = Field(default=None, min_length=1)
    """Tables: name of the column that contains the document's group (a film, an author). All
    documents of a group are in the same split; a separate test file is used as it is."""

    groups: LocalPath | None = None
    """Any source: a CSV file, plain or gzipped, with the column id and one other column, which
    contains the group of each document; as for group_column."""

    max_bytes: Count | None = None
    """Largest size of a data or vector file in bytes after decompression; the file may contain one
    document per 256 bytes of it. Without it, the limit is 50 times the size of the file, but at
    least 128 MiB and at most 16 GiB."""

    duplicates: Literal["report", "drop"] = "report"
    """Documents whose text is in two splits: report their number, or also drop them (from training
    if they are in validation or test, from validation if they are in test)."""

    classes: ClassNames | None = None
    """Tables: the labels as written in the file, in class order, such as [neg, pos]. Without it, a
    launch takes the labels of the training file: numbers in numeric order, known pairs such as neg
    and pos in their order, others sorted. Decimals that are zero do not count: 1.0 is 1."""

    missing: Literal["error", "drop", "keep"] | None = None
    """Tables: what happens to rows without a text or label (an empty cell, null, or NaN), and to
    texts without tokens: error reports them, drop leaves them out. With keep, the words nan and
    null are texts like any other, and only empty cells are reported. Without it, a launch uses
    error."""

    reviews: Annotated[int, Field(strict=True, ge=10, le=1_000_000)] | None = None
    """synthetic: number of generated reviews (default 3,000)."""

    label_noise: Annotated[float, Field(strict=True, ge=0, lt=0.5)] | None = None
    """synthetic: share of labels that are inverted on purpose (default 0.02)."""

    train_size: Count | None = None
    """Number of training documents; without it, all that validation and test leave."""

    valid_size: Count | Share = 0.2
    """Size of the validation split: a share of all documents between 0 and 1, or a number."""

    min_per_class: Annotated[int, Field(strict=True, ge=0, le=1000)] | None = None
    """Least number of documents that each class has in the validation split and in a held-out test
    split, as far as the class has enough; one remains to train on. Without it, classes have their
    proportions, and a launch uses 1 if a split would otherwise lack a class."""

    seed: Annotated[int, Field(strict=True, ge=0)] = 1
    """Determines the splits, and the documents if they are generated."""

    tokenizer: name_in(TOKENIZERS) = "basic_english"  # type: ignore[valid-type]
    """How text is split into tokens: basic_english lower-cases and separates punctuation from
    words, whitespace splits at white space, spacy uses spaCy's rules for English (an optional
    dependency), bpe learns from the training split which subwords words consist of."""

    lowercase: bool | None = None
    """Whether the text is lower-cased first. basic_english always does; the others only if this is
    true."""

    vocabulary_size: Count = 25_000
    """Maximum number of words, the most frequent ones of the training split; with the tokenizer
    bpe, maximum number of subwords. The ids of <unk> and <pad> are added, so that the smallest
    vocabulary has 3 ids."""

    min_count: Count = 1
    """Words that occur less often in the training split are unknown. With the tokenizer bpe, rarer
    characters are, while rarer subwords are split further."""

    max_tokens: Annotated[int, Field(strict=True, ge=1, le=MOST_TOKENS)] = 256
    """Longer documents are truncated to this number of tokens."""

    keep: Literal["head", "tail", "both"] = "head"
    """Which end of a longer document is kept: its head, its tail, or half of each."""

    vectors: VectorsConfig | None = None
    """Pretrained word vectors that initialize the embedding; without them it starts randomly."""

    wide: WideConfig | None = Field(default=None, json_schema_extra=_or_flag)
    """A linear model on n-grams of words and characters, whose outputs a recurrent model can add to
    its own (space.wide). true for the default settings; without it there is none."""

    @field_validator("valid_size", "test_size", mode="before")
    @classmethod
    def _check_share_or_count(cls, value: object, info: ValidationInfo) -> object:
        # Without this, pydantic reports one error for each member of the union.
        if value is None and info.field_name == "test_size":
            return value
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        is_share = isinstance(value, float) and 0 < value < 1
        if not (is_count or is_share):
            raise ValueError(
                f"Must be a share between 0 and 1, such as 0.2, or a number of documents, such as "
                f"1500, but is {shown(value)}."
            )
        return value

    @field_validator("wide", mode="before")
    @classmethod
    def _expand_wide(cls, value: object) -> object:
        if value is not None and not isinstance(value, (bool, Mapping, WideConfig)):
            raise ValueError(
                f"is {shown(value)}. It must be true, false, or a mapping of its settings."
            )
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    # Each rule about several keys is a field validator that reads the preceding fields, so that all
    # problems are reported at once; a model validator only runs if every field is valid. A key
    # whose value is invalid is missing in `info.data`, and the rules that need it are skipped.

    @field_validator(*SOURCE_KEYS)
    @classmethod
    def _check_source_key(cls, value: Any, info: ValidationInfo) -> Any:
        if "source" not in info.data:
            return value
        key, name = str(info.field_name), info.data["source"]
        source = SOURCES.load(name)
        if isinstance(value, tuple) and key in PATHS and not source.reads_several_files:
            raise ValueError(f"data.{key} is a list, but the source '{name}' reads one path.")
        if key in source.required_keys:
            if value is None:
                raise ValueError(f"The source '{name}' needs data.{key}. Set it.")
            return value
        # A value that equals its default is allowed, so that a config that was written with all
        # defaults can be loaded again.
        unset = (cls.model_fields[key].default, EARLIER_DEFAULTS.get(key))
        if key not in source.optional_keys and value not in unset:
            readable = (*source.required_keys, *source.optional_keys)
            raise ValueError(
                f"data.{key} is {shown(value)}, but the source '{name}' does not read it (it "
                f"reads: {', '.join(readable) or 'none of these keys'}). Remove it."
            )
        return value

    @field_validator("test_size", "groups", "valid_size")
    @classmethod
    def _check_alternative(cls, value: Any, info: ValidationInfo) -> Any:
        key = str(info.field_name)
        other, purpose = _ALTERNATIVES[key]
        if value != cls.model_fields[key].default and info.data.get(other) is not None:
            raise ValueError(
                f"data.{other} and data.{key} both define {purpose}. Remove one of them."
            )
        return value

    @field_validator("lowercase")
    @classmethod
    def _check_lowercase(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        name = info.data.get("tokenizer")
        if value is False and name is not None and TOKENIZERS.load(name).always_lowercases:
            raise ValueError(
                f"The tokenizer '{name}' always lower-cases text. Remove data.lowercase, or set "
                f"data.tokenizer to another one."
            )
        return value

    @field_validator("vectors")
    @classmethod
    def _check_vectors_of_words(
        cls, value: VectorsConfig | None, info: ValidationInfo
    ) -> VectorsConfig | None:
        name = info.data.get("tokenizer")
        if value is None or value.name is None or name is None:
            return value
        if TOKENIZERS.load(name).subwords:
            raise ValueError(
                f"data.vectors.name is '{value.name}', which are vectors of words, but the tokens "
                f"of the tokenizer '{name}' are subwords. Set data.vectors.train to word2vec, or "
                f"data.tokenizer to another one."
            )
        return value

    @field_validator("vectors")
    @classmethod
    def _check_unlabelled(
        cls, value: VectorsConfig | None, info: ValidationInfo
    ) -> VectorsConfig | None:
        name, file = info.data.get("source"), info.data.get("unlabelled")
        if file is not None and (value is None or value.train is None):
            raise ValueError(
                f"data.unlabelled is {shown(file)}, but it is only read to learn word "
                f"vectors. Set data.vectors.train to word2vec, or remove data.unlabelled."
            )
        if value is None or name is None or not value.unlabelled:
            return value
        source = SOURCES.load(name)
        if not source.has_unlabelled:
            raise ValueError(
                f"data.vectors.unlabelled is set, but the source '{name}' has no unlabelled "
                f"documents. Remove it, or use a source that has, such as imdb."
            )
        if "unlabelled" in source.optional_keys and file is None:
            raise ValueError(
                "data.vectors.unlabelled is set, but data.unlabelled is not. Set data.unlabelled "
                "to a file of texts, or remove data.vectors.unlabelled."
            )
        return value

    @model_validator(mode="after")
    def _check_values_of_source(self) -> DataConfig:
        SOURCES.load(self.source).check_config(self)
        return self

    @property
    def reads_unlabelled(self) -> bool:
        """Whether word vectors are learned from unlabelled documents, too."""
        vectors = self.vectors
        if vectors is None or vectors.train is None:
            return False
        return vectors.unlabelled or self.unlabelled is not None

    @property
    def location(self) -> str:
        """What messages about the training data call it: its path, or else its source."""
        return self.location_of("train")

    def location_of(self, split: str) -> str:
        """Return what messages about a split call it: its path, or that of the training data."""
        own = {"valid": self.valid_path, "test": self.test_path, "unlabelled": self.unlabelled}
        path = own.get(split) or self.path
        if isinstance(path, tuple):
            first, *others = map(str, path)
            return f"{first} and {len(others):,} more" if others else first
        return str(path or self.source)

    def anchored(self) -> DataConfig:
        """Return this config with absolute paths, which are valid in any working directory."""
        paths = {
            key: absolute(value)
            for key in (*PATHS, "groups")
            if (value := getattr(self, key)) is not None
        }
        vectors = self.vectors
        if vectors is not None and vectors.path is not None:
            vectors = vectors.model_copy(update={"path": absolute(vectors.path)})
        return self.model_copy(update={**paths, "vectors": vectors})
