"""New texts on the way that the reviews of a search went: tokens, ids, cut.

Shapes: n texts, N tokens of all texts together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.dataset.vocabulary import UNK, Vocabulary
from celltune.data_prep.text.indexing import index_texts
from celltune.data_prep.text.tokenizers import tokenizer
from celltune.data_prep.text.truncation import truncate, without_unknown


class TextRules(BaseModel):
    """How a data set's texts became ids: the keys of `DataConfig` that shape a single text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokenizer: Literal["basic_english", "whitespace", "spacy"]
    """How text becomes tokens."""
    lowercase: bool
    """Whether text is lower-cased first."""
    max_tokens: Annotated[int, Field(ge=1)]
    """Longer texts are cut to this many tokens."""
    keep: Literal["head", "tail", "both"]
    """Which end of a longer text stays."""
    drop_unknown: bool = False
    """Whether words outside of the vocabulary are left out before a text is cut; one that has no
    other keeps one."""

    @classmethod
    def of(cls, config: DataConfig) -> TextRules:
        """Those of a data set."""
        return cls(
            tokenizer=config.tokenizer,
            lowercase=bool(config.lowercase),
            max_tokens=config.max_tokens,
            keep=config.keep,
            drop_unknown=config.vectors is not None and config.vectors.unknown == "dropped",
        )


class SpelledText(NamedTuple):
    """One text as a model reads it, word by word.

    Attributes:
        tokens: those that are read; unknown ones aren't where the rules leave them out.
        ids: ``(len(tokens),)``, their ids.
        gap: how many tokens before ``tokens[at]`` were cut out; 0 if none.
        at: where the gap stands.
    """

    tokens: list[str]
    ids: NDArray[np.int32]
    gap: int
    at: int


class TextReader:
    """Reads texts as the search did whose rules and vocabulary these are.

    Args:
        rules: how text becomes tokens, and how many of them are read.
        words: the vocabulary in the order of its ids.
    """

    def __init__(self, rules: TextRules, words: Sequence[str]) -> None:
        """See the class."""
        self.rules, self._vocabulary = rules, Vocabulary(words)

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary in the order of its ids."""
        return self._vocabulary.words

    def read(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Texts to ids.

        Args:
            texts: none may hold a lone surrogate; see `is_utf8`.

        Returns:
            ``(N,)`` ids and ``(n + 1,)`` offsets; a text without a token has no ids.

        Raises:
            DataError: a library that the tokenizer needs isn't installed.
        """
        rules = self.rules
        indexed = index_texts(texts, rules.tokenizer, lowercase=rules.lowercase)
        ids, offsets = self._vocabulary.encode(indexed.tokens)[indexed.ids], indexed.offsets
        if rules.drop_unknown:
            ids, offsets = without_unknown(ids, offsets)
        return truncate(ids, offsets, rules.max_tokens, rules.keep)

    def spelled(self, text: str) -> SpelledText:
        """One text's tokens and ids, as `read` takes them.

        Raises:
            DataError: as `read`.
        """
        rules = self.rules
        tokens = tokenizer(rules.tokenizer, lowercase=rules.lowercase)(text)
        places: NDArray[np.int32] = np.arange(len(tokens), dtype=np.int32)
        if rules.drop_unknown:
            known = np.flatnonzero(self._vocabulary.encode(tokens) != UNK).astype(np.int32)
            places = known if len(known) else places[:1]
        ends = np.array([0, len(places)], np.int64)
        kept, _ = truncate(places, ends, rules.max_tokens, rules.keep)
        left = [tokens[place] for place in kept]
        # The gap stands before the first word that isn't where it was, or at the end.
        moved = np.flatnonzero(kept != places[: len(kept)])
        at = int(moved[0]) if len(moved) else len(kept)
        return SpelledText(left, self._vocabulary.encode(left), len(places) - len(kept), at)


def is_utf8(text: str) -> bool:
    """Whether a text can be written as utf-8: a lone surrogate can't."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def has_known_token(
    ids: NDArray[np.int32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which texts hold a token, and which of them a known word.

    Args:
        ids: ``(N,)``.
        offsets: ``(n + 1,)``.

    Returns:
        ``(n,)`` each.
    """
    before = np.concatenate([[0], np.cumsum(ids != UNK)])
    return np.diff(offsets) > 0, np.diff(before[offsets]) > 0


def as_split(
    ids: NDArray[np.int32], offsets: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> TensorizedSplit:
    """Some of the texts as a split, their labels 0; ``wanted`` is ``(n,)``."""
    lengths = np.diff(offsets)
    ends = np.concatenate([[0], np.cumsum(lengths[wanted])])
    labels = np.zeros(len(ends) - 1, np.int64)
    return TensorizedSplit(ids[np.repeat(wanted, lengths)], ends, labels)
