"""The tokens of several splits, the vocabulary of the training split, and its subwords."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.dataset.vocabulary import SPECIALS, Vocabulary
from celltune.data_prep.preparation.selection import no_tokens_error
from celltune.data_prep.sources.base import Document
from celltune.data_prep.text.byte_pairs import learn_subwords
from celltune.data_prep.text.indexing import index_texts
from celltune.data_prep.text.subwords import Subwords
from celltune.data_prep.text.tokenizers import has_subwords
from celltune.data_prep.types import Progress


class IndexedSplits(NamedTuple):
    """Splits that were tokenized together; their ids are indices into `tokens`.

    If the tokenizer has subwords, the tokens are words before `split_words` and subwords after it.
    """

    tokens: Sequence[str]
    splits: list[TensorizedSplit]


def index_splits(
    splits: Sequence[Sequence[Document]], config: DataConfig, progress: Progress | None
) -> IndexedSplits:
    """Tokenize splits together, so that they have the same ids.

    Args:
        splits: the documents of each split.
        config: names the tokenizer.
        progress: is called with the stage "tokenize".

    Raises:
        DataError: a document has no tokens.
    """
    documents = [document for split in splits for document in split]
    indexed = index_texts(
        [document.text for document in documents],
        config.tokenizer,
        lowercase=bool(config.lowercase),
        on_progress=lambda done: progress("tokenize", done, len(documents)) if progress else None,
    )
    empty = np.flatnonzero(np.diff(indexed.offsets) == 0)
    if len(empty):
        raise no_tokens_error([documents[index] for index in empty], config)
    tensorized, begin = [], 0
    for split in splits:
        offsets = indexed.offsets[begin : begin + len(split) + 1]
        labels = np.array([document.label for document in split], dtype=np.int64)
        ids = indexed.ids[offsets[0] : offsets[-1]]
        tensorized.append(TensorizedSplit(ids, offsets - offsets[0], labels))
        begin += len(split)
    return IndexedSplits(indexed.tokens, tensorized)


def learn_vocabulary(words: IndexedSplits, config: DataConfig) -> Vocabulary:
    """Return the vocabulary of the training split: its words, or the subwords of its words.

    Args:
        words: the training split comes first.
        config: limits the vocabulary.

    Raises:
        DataError: the vocabulary would be empty.
    """
    size, min_count = config.vocabulary_size, config.min_count
    counts = np.bincount(words.splits[0].ids, minlength=len(words.tokens))
    if not has_subwords(config.tokenizer):
        return Vocabulary.of_counts(words.tokens, counts, size=size, min_count=min_count)
    pairs = zip(words.tokens, counts.tolist(), strict=True)
    occurring = {word: count for word, count in pairs if count}
    return Vocabulary([*SPECIALS, *learn_subwords(occurring, size=size, min_count=min_count)])


def split_words(words: IndexedSplits, vocabulary: Vocabulary, config: DataConfig) -> IndexedSplits:
    """Split words into the subwords of a vocabulary if the tokenizer has subwords."""
    if not has_subwords(config.tokenizer):
        return words
    pieces, table = Subwords(vocabulary.words).table(words.tokens)
    return IndexedSplits(
        pieces,
        [
            TensorizedSplit(*table.expand_texts(split.ids, split.offsets), split.labels)
            for split in words.splits
        ],
    )
