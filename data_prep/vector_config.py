"""Where word vectors come from and what is done with them."""

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
"""The names under which torchtext 0.6.0 knows vectors of words."""


class VectorsConfig(BaseModel):
    """Pretrained word vectors: downloaded by name, read from a file, or learned from the data."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str | None = None
    """A name of torchtext's, such as glove.6B.100d; downloaded once."""

    path: Path | None = None
    """A file of vectors: GloVe or word2vec text, plain or gzipped; word2vec binary (.bin or
    .bin.gz); or a .zip that holds a text file. Relative to the working directory."""

    member: str | None = None
    """path to a .zip: the file within it; may be left out if it holds only one."""

    train: Literal["word2vec"] | None = None
    """Learn vectors from the training part, and the unlabelled reviews, with gensim."""

    size: Annotated[int, Field(strict=True, ge=1)] = 100
    """train: how many numbers a vector has."""

    epochs: Annotated[int, Field(strict=True, ge=1)] = 5
    """train: how often the text is gone through."""

    unlabelled: bool = False
    """train: learn from the source's unlabelled reviews as well."""

    unknown: Literal["zero", "drawn", "dropped"] = "zero"
    """Words without a vector: zeros, numbers drawn with the spread of the vectors there are, or
    dropped from the vocabulary and from every review; one that has no other keeps one unk."""

    tuned: bool = True
    """Whether training goes on changing the vectors, or leaves them fixed."""

    @model_validator(mode="after")
    def _one_origin(self) -> VectorsConfig:
        given = [key for key in ("name", "path", "train") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"vectors needs one of name, path and train, and has "
                f"{' and '.join(given) or 'none'}"
            )
        if self.name is not None and self.name not in TORCHTEXT_NAMES:
            raise ValueError(
                f"vectors.name is {self.name!r}; allowed are {', '.join(TORCHTEXT_NAMES)}. For a "
                f"file set vectors.path"
            )
        for key in ("size", "epochs", "unlabelled"):
            if self.train is None and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"vectors.{key} is only read with vectors.train; remove it")
        if self.member is not None and self.path is None:
            raise ValueError("vectors.member is only read with vectors.path; remove it")
        return self
