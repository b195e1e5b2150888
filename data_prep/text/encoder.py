"""Encoding of new texts by the rules and the vocabulary of a search's data.

Shapes: n texts, N tokens in all texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from celltune.data_prep.config import MOST_TOKENS, DataConfig
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.dataset.vocabulary import UNK, Vocabulary
from celltune.data_prep.errors import DataError
from celltune.data_prep.extensions import TOKENIZERS
from celltune.data_prep.text.indexing import index_texts
from celltune.data_prep.text.normalization import come_from_normalized, normalized
from celltune.data_prep.text.subwords import Subwords
from celltune.data_prep.text.tokenizers import (
    has_subwords,
    open_tokenizer,
    tokenizer_version,
)
from celltune.data_prep.text.truncation import drop_unknown, truncate
from celltune.printable import quoted
from celltune.registry import name_in


class TextRules(BaseModel):
    """The settings of `DataConfig` by which a single text becomes ids."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokenizer: name_in(TOKENIZERS)  # type: ignore[valid-type]
    """Name of the tokenizer."""
    lowercase: bool
    """If true, the text is lower-cased first."""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    """Maximum number of tokens; longer texts are truncated."""
    keep: Literal["head", "tail", "both"]
    """The end of a longer text that is kept."""
    drop_unknown: bool = False
    """If true, unknown words are removed before truncation. A text of unknown words keeps one."""
    tokenizer_version: str = ""
    """Version of the tokenizer at training time; empty for built-in tokenizers."""

    @classmethod
    def of(cls, config: DataConfig) -> TextRules:
        """Return the rules of a data set."""
        return cls(
            tokenizer=config.tokenizer,
            lowercase=bool(config.lowercase),
            max_tokens=config.max_tokens,
            keep=config.keep,
            drop_unknown=config.vectors is not None and config.vectors.unknown == "dropped",
            tokenizer_version=tokenizer_version(config.tokenizer),
        )

    @model_serializer(mode="wrap")
    def _without_empty_version(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Bundles with a built-in tokenizer stay readable for releases that do not know the field.
        values: dict[str, Any] = serialize(self)
        if not self.tokenizer_version:
            del values["tokenizer_version"]
        return values


class SpelledText(NamedTuple):
    """The tokens of one text that a model reads.

    Attributes:
        tokens: the tokens after truncation (and without unknown ones if the rules drop them).
        ids: `(len(tokens),)` token ids.
        num_removed: number of tokens that truncation removed.
        removed_at: index in `tokens` before which they were removed.
    """

    tokens: list[str]
    ids: NDArray[np.int32]
    num_removed: int
    removed_at: int


class TextEncoder:
    """Encodes texts as the training data of a model was encoded.

    Args:
        rules: tokenization and truncation.
        words: the vocabulary in the order of the ids.

    Raises:
        DataError: the installed tokenizer has another version than at training time.
    """

    def __init__(self, rules: TextRules, words: Sequence[str]) -> None:
        installed = tokenizer_version(rules.tokenizer)
        if installed != rules.tokenizer_version:
            raise DataError(
                f"The model was trained with version {quoted(rules.tokenizer_version)} of the "
                f"tokenizer {quoted(rules.tokenizer)}, but version {quoted(installed)} is "
                f"installed. Install the version from training."
            )
        self.rules, self._vocabulary = rules, Vocabulary(words)
        self._subwords = Subwords(words) if has_subwords(rules.tokenizer) else None
        # Releases before normalization have learned such words from texts as they were.
        self._normalize = come_from_normalized(words)

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary in the order of the ids."""
        return self._vocabulary.words

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of texts.

        Args:
            texts: texts without lone surrogates (see `is_utf8`).

        Returns:
            `(N,)` ids and `(n + 1,)` offsets; a text without tokens has no ids.

        Raises:
            DataError: a library that the tokenizer needs is not installed.
        """
        rules = self.rules
        texts = [self._prepared(text) for text in texts]
        indexed = index_texts(texts, rules.tokenizer, lowercase=rules.lowercase)
        if self._subwords is not None:
            indexed = self._subwords.split(indexed)
        ids, offsets = self._vocabulary.encode(indexed.tokens)[indexed.ids], indexed.offsets
        if rules.drop_unknown:
            ids, offsets = drop_unknown(ids, offsets)
        return truncate(ids, offsets, rules.max_tokens, rules.keep)

    def spell(self, text: str) -> SpelledText:
        """Return the tokens and ids of one text; the ids are those of `encode`.

        Raises:
            DataError: a library that the tokenizer needs is not installed.
        """
        rules = self.rules
        tokenizer = open_tokenizer(rules.tokenizer, lowercase=rules.lowercase)
        tokens = tokenizer(self._prepared(text))
        if self._subwords is not None:
            tokens = self._subwords.of_words(tokens)
        positions: NDArray[np.int32] = np.arange(len(tokens), dtype=np.int32)
        if rules.drop_unknown:
            known = np.flatnonzero(self._vocabulary.encode(tokens) != UNK).astype(np.int32)
            positions = known if len(known) else positions[:1]
        offsets = np.array([0, len(positions)], np.int64)
        kept, _ = truncate(positions, offsets, rules.max_tokens, rules.keep)
        kept_tokens = [tokens[position] for position in kept]
        # The first token that moved follows the removed range. If none did, it is at the end.
        moved = np.flatnonzero(kept != positions[: len(kept)])
        removed_at = int(moved[0]) if len(moved) else len(kept)
        ids = self._vocabulary.encode(kept_tokens)
        return SpelledText(kept_tokens, ids, len(positions) - len(kept), removed_at)

    def _prepared(self, text: str) -> str:
        return normalized(text) if self._normalize else text


def is_utf8(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8; a lone surrogate cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def has_known_token(
    ids: NDArray[np.int32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which texts have a token, and which have a known one.

    Args:
        ids: `(N,)`.
        offsets: `(n + 1,)`.

    Returns:
        Two `(n,)` masks.
    """
    known_before = np.concatenate([[0], np.cumsum(ids != UNK)])
    return np.diff(offsets) > 0, np.diff(known_before[offsets]) > 0


def as_split(
    ids: NDArray[np.int32], offsets: NDArray[np.int64], selected: NDArray[np.bool_]
) -> TensorizedSplit:
    """Return the texts that the `(n,)` mask selects as a split with labels 0."""
    lengths = np.diff(offsets)
    new_offsets = np.concatenate([[0], np.cumsum(lengths[selected])])
    labels = np.zeros(len(new_offsets) - 1, np.int64)
    return TensorizedSplit(ids[np.repeat(selected, lengths)], new_offsets, labels)
