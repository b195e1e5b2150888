"""What prepared data have to be, for arrays that no file can hold in another way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from celltune.data_prep.cache.validation import check_prepared, check_test
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from tests.search.bundles.test_wide import WIDE

SPLIT = TensorizedSplit(
    np.array([2, 3, 0], np.int32), np.array([0, 1, 3], np.int64), np.array([0, 1], np.int64)
)
OUTPUTS = np.zeros((2, 1), np.float32)
WITH_WIDE = replace(SPLIT, wide=OUTPUTS)
DATA = PreparedData("f" * 32, SPLIT, SPLIT, ("neg", "pos"), ("<unk>", "<pad>", "a", "b"))
FACTS = {
    "features": 1,
    "words": 1,
    "penalty": 1.0,
    "valid_accuracy": 1.0,
    "valid_loss": 0.1,
    "seconds": 1.0,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wide": WIDE[2]}, "its description and its arrays differ in the wide part"),
        (
            {"wide": WIDE[3], "info": {"wide": FACTS}},
            "its wide part has 3 outputs instead of None",
        ),
        ({"train": WITH_WIDE}, "the outputs of the wide part for valid are missing or unexpected"),
        ({"valid": WITH_WIDE}, "the outputs of the wide part for valid are missing or unexpected"),
        (
            {"train": replace(SPLIT, labels=SPLIT.labels[:1])},
            "train has 1 labels and 3 offsets",
        ),
        (
            {"train": replace(SPLIT, labels=SPLIT.labels.astype(np.int32))},
            "train-labels is int32 of shape",
        ),
        (
            {"train": replace(SPLIT, offsets=np.array([0, 3, 3]))},
            "the offsets of train do not ascend from 0 to its 3 tokens",
        ),
        (
            {"train": replace(SPLIT, ids=np.array([2, -1, 0], np.int32))},
            "the ids of train are not all from 0 to 3",
        ),
        ({"vectors": np.zeros((3, 2), np.float32)}, r"vectors is float32 of shape \(3, 2\)"),
        ({"vectors": np.full((4, 2), np.nan, np.float32)}, "a word vector is no number"),
        ({"info": {"vectors": {"types": "x"}}}, r"description is invalid \(vectors.types: Input"),
    ],
)
def test_invalid_data_are_rejected(changes: dict[str, Any], message: str) -> None:
    check_prepared(DATA)
    with pytest.raises(ValueError, match=message):
        check_prepared(replace(DATA, **changes))


def test_data_with_a_wide_part_are_valid() -> None:
    info: dict[str, Any] = {"wide": FACTS}
    data = replace(DATA, train=WITH_WIDE, valid=WITH_WIDE, wide=WIDE[2], info=info)
    check_prepared(data)
    check_test(PreparedTest("f" * 32, WITH_WIDE, {}, OUTPUTS), 4, 2)


def test_a_test_split_has_the_outputs_of_both_wide_parts() -> None:
    for test in (PreparedTest("f", WITH_WIDE, {}), PreparedTest("f", SPLIT, {}, OUTPUTS)):
        with pytest.raises(ValueError, match="the outputs of one of two wide parts are missing"):
            check_test(test, 4, 2)
