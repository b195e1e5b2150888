from __future__ import annotations

import numpy as np

from celltune.data_prep.dataset.tensorized import PreparedData, TensorizedSplit


def split(labels: list[int]) -> TensorizedSplit:
    count = len(labels)
    return TensorizedSplit(
        np.zeros(count, np.int32), np.arange(count + 1, dtype=np.int64), np.array(labels)
    )


def test_majority_is_the_most_frequent_class_of_the_training_split() -> None:
    data = PreparedData(
        "f", split([0, 1, 2, 1]), split([0, 0, 0, 1]), ("a", "b", "c"), ["<unk>", "<pad>"]
    )
    assert data.majority() == ("b", 0.25)
