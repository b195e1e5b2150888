"""Configuration of pretrained word vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str | None = None
    """A name of torchtext, such as glove.6B.100d; the vectors are downloaded once."""

    path: Path | None = None
    """A file of vectors: GloVe or word2vec text, plain or gzipped; word2vec binary (.bin or
    .bin.gz); or a .zip that contains a text file. Relative to the working directory."""

    member: str | None = None
    """For a .zip: name of the file inside it; optional if there is only one."""

    train: Literal["word2vec"] | None = None
    """Train vectors on the training split with gensim."""

    size: Annotated[int, Field(strict=True, ge=1)] = 100
    """train: number of dimensions of a vector."""

    epochs: Annotated[int, Field(strict=True, ge=1)] = 5
    """train: number of passes over the text."""

    unlabelled: bool = False
    """train: also use the unlabelled documents of the source."""

    unknown: Literal["zero", "drawn", "dropped"] = "zero"
    """Words without a vector: zeros (zero), random numbers with the standard deviation of the
    known vectors (drawn), or removed from the vocabulary and the documents (dropped); a document
    without any known word keeps one <unk>."""

    tuned: bool = True
    """Whether training updates the vectors or keeps them fixed."""

    @model_validator(mode="after")
    def _check_combinations(self) -> VectorsConfig:
        origins = [key for key in ("name", "path", "train") if getattr(self, key) is not None]
        if len(origins) != 1:
            raise ValueError(
                f"Exactly one of name, path and train must be set, but "
                f"{' and '.join(origins) or 'none'} is set."
            )
        if self.name is not None and self.name not in TORCHTEXT_NAMES:
            raise ValueError(
                f"data.vectors.name is {self.name!r}. Allowed are {', '.join(TORCHTEXT_NAMES)}. "
                f"For a file, set data.vectors.path."
            )
        for key in ("size", "epochs", "unlabelled"):
            if self.train is None and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"data.vectors.{key} is only read with data.vectors.train. Remove it."
                )
        if self.member is not None and self.path is None:
            raise ValueError("data.vectors.member is only read with data.vectors.path. Remove it.")
        return self
