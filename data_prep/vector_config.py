"""Configuration of pretrained word vectors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from celltune.data_prep.types import LocalPath, shown

TORCHTEXT_NAMES = (
    "fasttext.en.300d",
    "fasttext.simple.300d",
    "glove.42B.300d",
    "glove.840B.300d",
    "glove.twitter.27B.25d",
    "glove.twitter.27B.50d",
    "glove.twitter.27B.100d",
    "glove.twitter.27B.200d",
    "glove.6B.50d",
    "glove.6B.100d",
    "glove.6B.200d",
    "glove.6B.300d",
)
"""Names of word vectors in torchtext 0.6.0."""


class VectorsConfig(BaseModel):
    """Pretrained word vectors: downloaded by name, read from a file, or learned from the data."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    name: str | None = None
    """A name of torchtext, such as glove.6B.100d; the vectors are downloaded once."""

    path: LocalPath | None = None
    """A file of vectors: GloVe or word2vec text, plain or gzipped; word2vec binary (.bin or
    .bin.gz); or a .zip that contains a text file. Relative to the working directory."""

    member: str | None = None
    """For a .zip: name of the file inside it; optional if there is only one."""

    train: Literal["word2vec"] | None = None
    """Learn vectors from the training split: skip-gram with negative sampling."""

    size: Annotated[int, Field(strict=True, ge=1)] = 100
    """train: number of dimensions of a vector."""

    epochs: Annotated[int, Field(strict=True, ge=1)] | None = None
    """train: number of passes over the text; by default between 5 and 50, so that 10 million words
    are trained."""

    unlabelled: bool = False
    """train: also use the unlabelled documents of the source. Tables: data.unlabelled suffices."""

    unknown: Literal["zero", "drawn", "dropped"] = "zero"
    """Words without a vector: zeros (zero), random numbers with the standard deviation of the
    known vectors (drawn), or removed from the vocabulary and the documents (dropped); a document
    without any known word keeps one <unk>."""

    tuned: bool = True
    """Whether training updates the vectors or keeps them fixed."""

    @property
    def dimensions(self) -> int | None:
        """Number of dimensions of a vector; None if it is only known from a file."""
        if self.train is not None:
            return self.size
        found = re.search(r"(\d+)d$", self.name or "")
        return int(found[1]) if found else None

    # Each rule is a field validator that reads the preceding fields, so that all problems are
    # reported at once; a model validator only runs if every field is valid. A key whose value is
    # invalid is missing in `info.data`.

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str | None) -> str | None:
        if value is not None and value not in TORCHTEXT_NAMES:
            raise ValueError(
                f"data.vectors.name is {shown(value)}. Allowed are "
                f"{', '.join(TORCHTEXT_NAMES)}. For a file, set data.vectors.path."
            )
        return value

    @field_validator("member")
    @classmethod
    def _check_member(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("path", "invalid") is None:
            raise ValueError("data.vectors.member is only read with data.vectors.path. Remove it.")
        return value

    @field_validator("train")
    @classmethod
    def _check_origin(cls, value: str | None, info: ValidationInfo) -> str | None:
        origins = {key: info.data.get(key, "invalid") for key in ("name", "path")}
        present = [key for key, origin in {**origins, "train": value}.items() if origin is not None]
        if len(present) != 1:
            raise ValueError(
                f"data.vectors needs exactly one of name, path and train, but has "
                f"{_listed(present) if present else 'none of them'}."
            )
        return value

    @field_validator("size", "epochs", "unlabelled")
    @classmethod
    def _check_training_key(cls, value: int | None, info: ValidationInfo) -> int | None:
        key = str(info.field_name)
        is_set = value != cls.model_fields[key].default
        if is_set and info.data.get("train", "invalid") is None:
            raise ValueError(f"data.vectors.{key} is only read with data.vectors.train. Remove it.")
        return value


def _listed(keys: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(keys[:-1]), keys[-1]]))
