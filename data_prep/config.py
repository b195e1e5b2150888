"""What to load, how to split it, and how to turn text into ids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from celltune.data_prep.extensions import TOKENIZERS
from celltune.data_prep.vector_config import VectorsConfig
from celltune.registry import name_in

Count = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]

DEFAULT_REVIEWS = 3_000
DEFAULT_LABEL_NOISE = 0.02

# Which source reads which key: a key that nothing would read is a mistake worth telling.
_TABLES = ("csv", "tsv", "jsonl", "parquet")
_READ_BY = {
    "path": (*_TABLES, "imdb", "amazon"),
    "test_path": (*_TABLES, "amazon"),
    "test_size": (*_TABLES, "amazon", "synthetic"),
    "text_column": _TABLES,
    "label_column": _TABLES,
    "id_column": _TABLES,
    "group_column": _TABLES,
    "classes": _TABLES,
    "reviews": ("synthetic",),
    "label_noise": ("synthetic",),
}

_EXAMPLES = {
    "csv": "reviews.csv.gz",
    "tsv": "reviews.tsv",
    "jsonl": "reviews.jsonl.gz",
    "parquet": "reviews.parquet",
    "amazon": "sentiment_dataset_train_400.gz",
}


_BOOLEANS = {True: "yes, on and true", False: "no, off and false"}


class DataConfig(BaseModel):
    """One data set, from raw text to ids. Two equal configs over equal files give equal data."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: Literal["synthetic", "imdb", "csv", "tsv", "jsonl", "parquet", "amazon"]
    """Where reviews come from: generated ones, the Large Movie Review Dataset, a table in one of
    four formats, or the Amazon reviews of the DLStudio course."""

    path: Path | None = None
    """Tables: the file; csv, tsv and jsonl plain or gzipped. amazon: the gzipped pickle. imdb: the
    archive aclImdb_v1.tar.gz or the unpacked folder aclImdb; without it the archive is downloaded
    once. Relative to the working directory."""

    test_path: Path | None = None
    """Tables and amazon: a file of the same format with the test part, which no search reads."""

    test_size: Count | Share | None = None
    """Tables, amazon and synthetic without test_path: a share or a count of all reviews that is
    held out as the test part, which no search reads."""

    text_column: str = Field(default="text", min_length=1)
    """Tables: the name of the column that holds the review."""

    label_column: str = Field(default="label", min_length=1)
    """Tables: the name of the column that holds the label."""

    id_column: str | None = Field(default=None, min_length=1)
    """Tables: the name of the column that names the review; without it, its row does."""

    group_column: str | None = Field(default=None, min_length=1)
    """Tables: the name of the column whose reviews belong together (a film, an author). With it no
    group stands in two of the parts that are split here; a test part that comes as a file of its
    own is taken as it is."""

    groups: Path | None = None
    """Any source: a csv file, plain or gzipped, with the column id and one other, which tells the
    group of each review; as for group_column."""

    duplicates: Literal["report", "drop"] = "report"
    """Reviews whose text stands in two parts: count them, or drop them as well (from training if
    they are in validation or test, from validation if they are in test)."""

    classes: tuple[str, ...] | None = None
    """Tables: the labels as they stand in the file, in class order, such as [neg, pos]. Without it
    labels are 0 and 1."""

    reviews: Annotated[int, Field(strict=True, ge=10, le=1_000_000)] | None = None
    """synthetic: how many reviews to generate (3,000 if not given)."""

    label_noise: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    """synthetic: the share of labels turned round on purpose (0.02 if not given)."""

    train_size: Count | None = None
    """How many reviews to train on; without it, all that validation leaves."""

    valid_size: Count | Share = 0.2
    """What to validate on: a share of all reviews between 0 and 1, or a count."""

    seed: Annotated[int, Field(strict=True, ge=0)] = 1
    """Decides the split, and the reviews where they are generated."""

    tokenizer: name_in(TOKENIZERS) = "basic_english"  # type: ignore[valid-type]
    """How text becomes tokens: basic_english lower-cases and parts words from punctuation,
    whitespace cuts at blanks, spacy takes spaCy's rules for English (an extra)."""

    lowercase: bool | None = None
    """Lower-case the text first. basic_english always does; the others don't, if not asked to."""

    vocabulary_size: Count = 25_000
    """The most words to keep, by count in the training part; unk and pad come on top, so that the
    smallest vocabulary has 3 ids."""

    min_count: Count = 1
    """A word that is rarer than this in the training part is unknown."""

    max_tokens: Count = 256
    """Longer reviews are cut to this many tokens."""

    keep: Literal["head", "tail", "both"] = "head"
    """Which end of a longer review stays: its head, its tail, or half of each."""

    vectors: VectorsConfig | None = None
    """Word vectors that the embedding starts from; without them it starts from random ones."""

    @field_validator("valid_size", "test_size", mode="before")
    @classmethod
    def _share_or_count(cls, value: object, info: ValidationInfo) -> object:
        # One sentence instead of one complaint for each half of the union.
        if value is None and info.field_name == "test_size":
            return value
        count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        share = isinstance(value, float) and 0 < value < 1
        if not (count or share):
            raise ValueError(
                f"{info.field_name} is {value!r}; allowed are a share between 0 and 1, such as "
                f"0.2, or a count of at least 1, such as 1500"
            )
        return value

    @field_validator("classes", mode="before")
    @classmethod
    def _written_as_text(cls, value: object) -> object:
        if value is None:
            return value
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"classes is {value!r}; it must be a list, such as [neg, pos]")  # noqa: TRY004
        odd = [name for name in value if not isinstance(name, str)]
        if odd and isinstance(odd[0], bool):
            raise ValueError(
                f"classes holds {odd[0]}, as which YAML reads {_BOOLEANS[odd[0]]} without quotes; "
                f"put the labels in quotes, such as ['no', 'yes']"
            )
        if odd:
            raise ValueError(
                f"classes holds {odd[0]!r}, which isn't text; put the labels in quotes, such as "
                f"['0', '1']"
            )
        return value

    @field_validator("classes")
    @classmethod
    def _distinct_classes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return value
        if len(value) < 2:
            raise ValueError(f"classes is {list(value)}; name at least two, such as [neg, pos]")
        blank = [name for name in value if not name.strip() or name != name.strip()]
        if blank:
            raise ValueError(f"classes holds {blank[0]!r}; a class name has no blanks around it")
        if len(set(value)) < len(value):
            twice = next(name for name in value if value.count(name) > 1)
            raise ValueError(f"classes names {twice!r} twice; name each class once")
        return value

    @model_validator(mode="after")
    def _keys_of_the_source(self) -> DataConfig:
        if self.source in (*_TABLES, "amazon") and self.path is None:
            raise ValueError(
                f"source {self.source} needs a file: set path, such as "
                f"path: {_EXAMPLES[self.source]}"
            )
        if self.test_path is not None and self.test_size is not None:
            raise ValueError("test_path and test_size both name a test part; remove one of them")
        if self.groups is not None and self.group_column is not None:
            raise ValueError("groups and group_column both tell the groups; remove one of them")
        if self.lowercase is False and TOKENIZERS.load(self.tokenizer).always_lowercases:
            raise ValueError(
                f"The tokenizer '{self.tokenizer}' always lower-cases text. Remove data.lowercase, "
                f"or set data.tokenizer to another one."
            )
        if self.vectors is not None and self.vectors.unlabelled and self.source != "imdb":
            raise ValueError("vectors.unlabelled needs source imdb, which alone has such reviews")
        for key, sources in _READ_BY.items():
            # Compared with the default, not with what was set: a config that was written out in
            # full must load again.
            if self.source not in sources and getattr(self, key) != _default(key):
                raise ValueError(
                    f"{key} is {_shown(getattr(self, key))}, but source {self.source} doesn't "
                    f"read it (only {_listed(sources)}); remove it"
                )
        if self.source == "synthetic":
            self._enough_synthetic_reviews()
        return self

    def anchored(self) -> DataConfig:
        """The same config with absolute paths, which hold in any working directory."""
        found = {
            key: value.expanduser().absolute()
            for key in ("path", "test_path", "groups")
            if (value := getattr(self, key)) is not None
        }
        vectors = self.vectors
        if vectors is not None and vectors.path is not None:
            path = vectors.path.expanduser().absolute()
            vectors = vectors.model_copy(update={"path": path})
        return self.model_copy(update={**found, "vectors": vectors})

    def _enough_synthetic_reviews(self) -> None:
        have = self.reviews or DEFAULT_REVIEWS
        wanted = self.train_size or 0
        for size in (self.valid_size, self.test_size):
            wanted += size if isinstance(size, int) else 0
        if wanted > have:
            raise ValueError(
                f"train_size and valid_size ask for {wanted:,} reviews, but only {have:,} are "
                f"generated; set reviews to {wanted} or more, or ask for fewer"
            )


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1]) if len(names) > 1 else names)


def _default(key: str) -> Any:
    return DataConfig.model_fields[key].default


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Path) else repr(value)
