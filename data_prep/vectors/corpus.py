"""The texts that word vectors are learned from.

Shapes: M distinct tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from celltune.data_prep.config import DataConfig
from celltune.data_prep.dataset.tensorized import TensorizedSplit
from celltune.data_prep.text.indexing import IndexedTexts, index_texts
from celltune.data_prep.text.subwords import Subwords


@dataclass(frozen=True)
class TrainingCorpus:
    """Texts that vectors can be learned from.

    Attributes:
        config: settings of the tokenizer.
        tokens: the M distinct tokens that the ids of `train` refer to.
        train: the training split before truncation.
        unlabelled: additional texts.
        subwords: splits the words of additional texts if the tokens are subwords, else None.
    """

    config: DataConfig
    tokens: Sequence[str]
    train: TensorizedSplit
    unlabelled: Sequence[str]
    subwords: Subwords | None = None

    def indexed(self) -> IndexedTexts:
        """Return the tokens of the training split, then those of the additional texts."""
        config, train = self.config, self.train
        more = index_texts(self.unlabelled, config.tokenizer, lowercase=bool(config.lowercase))
        if self.subwords is not None:
            more = self.subwords.split(more)
        numbers = {token: number for number, token in enumerate(self.tokens)}
        for token in more.tokens:
            numbers.setdefault(token, len(numbers))
        ids = np.fromiter(map(numbers.__getitem__, more.tokens), np.int32, len(more.tokens))
        return IndexedTexts(
            np.concatenate([train.ids, ids[more.ids]]),
            np.concatenate([train.offsets, train.offsets[-1] + more.offsets[1:]]),
            list(numbers),
        )
