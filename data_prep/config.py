"""What to load, how to split it, and how to turn text into ids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Count = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]

DEFAULT_REVIEWS = 3_000
DEFAULT_LABEL_NOISE = 0.02

# Which source reads which key: a key that nothing would read is a mistake worth telling.
_READ_BY = {
    "path": ("csv", "imdb"),
    "text_column": ("csv",),
    "label_column": ("csv",),
    "classes": ("csv",),
    "reviews": ("synthetic",),
    "label_noise": ("synthetic",),
}


class DataConfig(BaseModel):
    """One data set, from raw text to ids. Two equal configs over equal files give equal data."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: Literal["synthetic", "imdb", "csv"]
    """Where reviews come from: generated ones, the Large Movie Review Dataset, or a csv file."""

    path: Path | None = None
    """csv: the file, plain or gzipped. imdb: the archive aclImdb_v1.tar.gz or the unpacked folder
    aclImdb; without it the archive is downloaded once. Relative to the working directory."""

    text_column: str = Field(default="text", min_length=1)
    """csv: the name of the column that holds the review."""

    label_column: str = Field(default="label", min_length=1)
    """csv: the name of the column that holds the label."""

    classes: tuple[str, ...] | None = None
    """csv: the labels as they stand in the file, in class order, such as [neg, pos]. Without it
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

    tokenizer: Literal["basic_english"] = "basic_english"
    """How text becomes tokens: basic_english lower-cases and parts words from punctuation."""

    vocabulary_size: Count = 25_000
    """The most words to keep, by count in the training part; unk and pad come on top."""

    min_count: Count = 1
    """A word that is rarer than this in the training part is unknown."""

    max_tokens: Count = 256
    """Longer reviews are cut to this many tokens."""

    keep: Literal["head", "tail", "both"] = "head"
    """Which end of a longer review stays: its head, its tail, or half of each."""

    @field_validator("valid_size", mode="before")
    @classmethod
    def _share_or_count(cls, value: object) -> object:
        # One sentence instead of one complaint for each half of the union.
        count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        share = isinstance(value, float) and 0 < value < 1
        if not (count or share):
            raise ValueError(
                f"valid_size is {value!r}; allowed are a share between 0 and 1, such as 0.2, "
                f"or a count of at least 1, such as 1500"
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
        if self.source == "csv" and self.path is None:
            raise ValueError("source csv needs a file: set path, such as path: reviews.csv.gz")
        for key, sources in _READ_BY.items():
            # Compared with the default, not with what was set: a config that was written out in
            # full must load again.
            if self.source not in sources and getattr(self, key) != _default(key):
                raise ValueError(
                    f"{key} is {_shown(getattr(self, key))}, but source {self.source} doesn't "
                    f"read it (only {' and '.join(sources)}); remove it"
                )
        if self.source == "synthetic":
            self._enough_synthetic_reviews()
        return self

    def _enough_synthetic_reviews(self) -> None:
        have = self.reviews or DEFAULT_REVIEWS
        wanted = self.train_size or 0
        wanted += self.valid_size if isinstance(self.valid_size, int) else 0
        if wanted > have:
            raise ValueError(
                f"train_size and valid_size ask for {wanted:,} reviews, but only {have:,} are "
                f"generated; set reviews to {wanted} or more, or ask for fewer"
            )


def _default(key: str) -> Any:
    return DataConfig.model_fields[key].default


def _shown(value: object) -> str:
    return str(value) if isinstance(value, Path) else repr(value)
