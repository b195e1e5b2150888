"""Class weights as one value of a hyperparameter."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from celltune.models.class_weights import as_text, given_weights, is_one_value
from celltune.models.config import TrainingConfig


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("none", "none"),
        ("balanced", "balanced"),
        ([1, 9.5], "[1, 9.5]"),
        ("[1,9.5]", "[1, 9.5]"),
        ({"spam": 9, 1: 2}, '{"spam": 9, "1": 2}'),
        ({"größer": 2}, '{"größer": 2}'),
    ],
)
def test_weights_are_one_text(written: Any, text: str) -> None:
    assert as_text(written) == text
    assert as_text(text) == text
    assert TrainingConfig(class_weights=written).class_weights == text


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("even", "is 'even'. It must be none, balanced, a list of a number for each class"),
        ("3", "is 3. It must be none, balanced"),
        ([], r"is \[\]. It must be"),
        (None, "is None. It must be"),
        ([1, 0], r"contains 0. A weight is a number from 1e-06 to 1e\+06."),
        ([1, "2"], "contains '2'. A weight is a number"),
        ([1, True], "contains True. A weight is a number"),
        ({"a": float("inf")}, "contains inf. A weight is a number"),
        ({True: 2}, "contains the key True, which is not the name of a class. Put class names in"),
        ('{"a": 1, "a": 2}', "It must be none, balanced"),
    ],
)
def test_other_values_are_rejected(written: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        as_text(written)
    with pytest.raises(ValidationError, match=problem):
        TrainingConfig(class_weights=written)


def test_weights_are_given_in_class_order_or_by_name() -> None:
    assert given_weights("none", ["a", "b"]) is None
    assert given_weights("balanced", ["a", "b"]) is None
    assert given_weights("[1, 9]", ["a", "b"]) == (1.0, 9.0)
    assert given_weights('{"b": 9}', ["a", "b"]) == (1.0, 9.0)


def test_weights_of_other_classes_are_rejected() -> None:
    with pytest.raises(
        ValueError,
        match=r"has 2 weights, but the data has 3 classes. Give one for each class, in this order: "
        r"'a', 'b', 'c'.",
    ):
        given_weights("[1, 9]", ["a", "b", "c"])
    names = [str(number) for number in range(12)]
    with pytest.raises(
        ValueError, match=r"contains 'spam', which is not a class of the data.*'9' and 2 more"
    ):
        given_weights('{"spam": 9}', names)


def test_a_list_of_numbers_and_a_mapping_are_one_value() -> None:
    assert is_one_value([1, 9])
    assert is_one_value({"a": 1})
    assert not is_one_value(["none", "balanced"])
    assert not is_one_value([[1, 9], [1, 3]])
    assert not is_one_value("balanced")
