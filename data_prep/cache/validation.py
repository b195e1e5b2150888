"""Validation of prepared data that were read from a cache, which others may have written.

C++ and PyTorch index tables with the ids and offsets, without checks of their own. All checks are
vectorized.

Shapes: n documents, N tokens, V words, E numbers of a word vector, C classes, L outputs of the wide
part: 1 for two classes, else C.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from celltune.data_prep.dataset.names import check_classes, check_words
from celltune.data_prep.dataset.tensorized import PreparedData, PreparedTest, TensorizedSplit
from celltune.data_prep.io.tensor_file import are_weights
from celltune.printable import printable

_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Count = Annotated[int, Field(strict=True, ge=0)]


class _Facts(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


Description = TypeVar("Description", bound=_Facts)


class _SplitFacts(_Facts):
    reviews: _Count
    classes: dict[str, _Count]
    tokens: _Count
    unknown_share: _Number
    cut_reviews: _Count


class _WideFacts(_Facts):
    features: _Count
    words: _Count
    characters: _Count = 0
    penalty: _Number
    valid_accuracy: _Number
    valid_loss: _Number
    seconds: _Number


class _Info(_Facts):
    """`PreparedData.info`; small tests leave out the splits."""

    source: str = ""
    train: _SplitFacts | None = None
    valid: _SplitFacts | None = None
    wide: _WideFacts | None = None
    vectors: dict[str, _Number] | None = None
    duplicates: dict[str, _Count] | None = None


class _TestInfo(_Facts):
    """`PreparedTest.info`."""

    also_in_train: _Count = 0
    also_in_valid: _Count = 0
    wide: dict[str, _Number] | None = None


def check_prepared(data: PreparedData) -> None:
    """Check prepared data.

    Raises:
        ValueError: they cannot be used. The message is a clause.
    """
    check_words(data.words)
    check_classes(data.classes)
    info = _parsed(_Info, data.info)
    sizes = data.vocabulary_size, data.num_classes
    outputs = None if data.train.wide is None else _outputs(data.num_classes)
    if (info.wide is None) != (data.wide is None):
        raise ValueError("its description and its arrays differ in the wide part")
    if data.wide is not None and data.wide.outputs != outputs:
        raise ValueError(f"its wide part has {data.wide.outputs} outputs instead of {outputs}")
    for name, split, facts in (
        ("train", data.train, info.train),
        ("valid", data.valid, info.valid),
    ):
        _check_split(name, split, sizes, outputs)
        if facts is not None:
            _check_facts(name, split, facts, data.classes)
    if type(data.vectors_tuned) is not bool:
        raise ValueError("vectors_tuned is neither true nor false")
    if data.vectors is not None:
        _check_array("vectors", data.vectors, np.float32, (len(data.words), None))
        if not are_weights(data.vectors):
            raise ValueError("a word vector is no number")


def check_test(data: PreparedTest, vocabulary_size: int, num_classes: int) -> None:
    """Check a prepared test split.

    Args:
        data: the split.
        vocabulary_size: V.
        num_classes: C.

    Raises:
        ValueError: it cannot be used. The message is a clause.
    """
    _parsed(_TestInfo, data.info)
    has_wide = data.split.wide is not None
    outputs = _outputs(num_classes) if has_wide else None
    _check_split("test", data.split, (vocabulary_size, num_classes), outputs)
    if (data.wide_train_valid is not None) != has_wide:
        raise ValueError("the outputs of one of two wide parts are missing")
    if data.wide_train_valid is not None:
        _check_outputs("test", data.wide_train_valid, (len(data.split), outputs))


def _outputs(num_classes: int) -> int:
    return 1 if num_classes == 2 else num_classes


def _parsed(model: type[Description], info: Any) -> Description:
    try:
        return model.model_validate(info)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = printable(f"{key}: {first['msg']}", 200)
        raise ValueError(f"its description is invalid ({reason})") from error


def _check_split(
    name: str, split: TensorizedSplit, sizes: tuple[int, int], outputs: int | None
) -> None:
    ids, offsets, labels = split.ids, split.offsets, split.labels
    _check_array(f"{name}-ids", ids, np.int32, (None,))
    _check_array(f"{name}-offsets", offsets, np.int64, (None,))
    _check_array(f"{name}-labels", labels, np.int64, (None,))
    if not len(labels) or len(offsets) != len(labels) + 1:
        raise ValueError(f"{name} has {len(labels)} labels and {len(offsets)} offsets")
    if offsets[0] != 0 or offsets[-1] != len(ids) or not (offsets[1:] > offsets[:-1]).all():
        raise ValueError(f"the offsets of {name} do not ascend from 0 to its {len(ids)} tokens")
    for what, values, limit in (("ids", ids, sizes[0]), ("labels", labels, sizes[1])):
        # Negative numbers are large ones as unsigned numbers.
        if int(values.view(f"u{values.itemsize}").max()) >= limit:
            raise ValueError(f"the {what} of {name} are not all from 0 to {limit - 1}")
    if (split.wide is None) != (outputs is None):
        raise ValueError(f"the outputs of the wide part for {name} are missing or unexpected")
    if split.wide is not None:
        _check_outputs(name, split.wide, (len(labels), outputs))


def _check_outputs(name: str, values: NDArray[Any], shape: tuple[int, int | None]) -> None:
    _check_array(f"the outputs of the wide part for {name}", values, np.float32, shape)
    if not are_weights(values):
        raise ValueError(f"an output of the wide part for {name} is no number")


def _check_array(
    name: str, array: NDArray[Any], dtype: type[np.generic], shape: tuple[int | None, ...]
) -> None:
    """Check type and shape; None is any length."""
    fits = len(shape) == array.ndim and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")


def _check_facts(
    name: str, split: TensorizedSplit, facts: _SplitFacts, classes: tuple[str, ...]
) -> None:
    """Check the part of the description that model cards show and the arrays determine."""
    counts = np.bincount(split.labels, minlength=len(classes)).tolist()
    actual = (len(split), split.tokens, dict(zip(classes, counts, strict=True)))
    if actual != (facts.reviews, facts.tokens, facts.classes):
        raise ValueError(f"the description of {name} differs from its arrays")
