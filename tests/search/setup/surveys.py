"""Surveys of made-up data sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from celltune.data_prep.preparation.survey import Survey


def survey(
    counts: Sequence[int] = (800, 800),
    *,
    length: int = 150,
    unknown_share: float = 0.04,
    valid: float = 0.2,
    test: bool = True,
) -> Survey:
    """Return the survey of documents whose lengths are spread around a mean.

    Args:
        counts: `(C,)` labelled documents of each class.
        length: mean number of tokens.
        unknown_share: see `Survey`.
        valid: share of the validation split.
        test: whether a tenth of the documents is the test split.
    """
    labelled = np.array(counts)
    of_valid = np.maximum(1, np.round(labelled * valid)).astype(np.int64)
    of_test = np.maximum(1, labelled // 10)
    train = labelled - of_valid - (of_test if test else 0)
    documents = int((train + of_valid).sum())
    lengths = np.sort([max(1, length * (index % 20 + 1) // 10) for index in range(documents)])
    splits = {"train": train, "valid": of_valid, **({"test": of_test} if test else {})}
    return Survey(
        classes=tuple(f"class {index}" for index in range(len(counts))),
        counts=splits,
        lengths=lengths,
        max_tokens=256,
        distinct=9_000,
        vocabulary_size=9_002,
        unknown_share=unknown_share,
        duplicates={},
    )
