from __future__ import annotations

import pytest

from celltune.search.wording import (
    common_params,
    counted,
    describe_params,
    listed,
    varying_params,
)

WIDE_ONLY = {"wide": "only"}
SMALL = {"wide": "add", "cell": "gru", "hidden_size": 8, "dropout": 0.1, "readout": "max"}
LARGE = {**SMALL, "hidden_size": 16, "dropout": 0.2}


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0 trials"),
        (1, "1 trial"),
        (2, "2 trials"),
        (12345, "12,345 trials"),
        (1.0, "1 trial"),
        (0.5, "0.5 trials"),
    ],
)
def test_counted_uses_the_singular_only_for_one(number: float, expected: str) -> None:
    assert counted(number, "trial") == expected


def test_counted_accepts_an_irregular_plural() -> None:
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


def test_listed_joins_texts_as_in_a_sentence() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"], "or") == "a, b or c"


def test_the_wide_part_alone_is_no_difference_between_trials() -> None:
    for trials in ([SMALL, LARGE], [WIDE_ONLY, SMALL, LARGE]):
        assert varying_params(trials) == ["hidden_size", "dropout"]
        assert common_params(trials) == {"wide": "add", "readout": "max"}


def test_a_hyperparameter_that_a_trial_lacks_is_a_difference() -> None:
    assert varying_params([SMALL, {**SMALL, "layer_dropout": 0.3}]) == ["layer_dropout"]


def test_a_single_trial_has_nothing_in_common_with_others() -> None:
    assert varying_params([WIDE_ONLY, SMALL]) == list(SMALL)
    assert common_params([WIDE_ONLY, SMALL]) == {}
    assert common_params([WIDE_ONLY]) == common_params([]) == {}


def test_hyperparameters_are_described_without_a_cell_too() -> None:
    assert describe_params({"learning_rate": 0.01, "dropout": 0.5}) == "lr 0.01, dropout 0.5"
    assert describe_params({"cell": "gru", "dropout": 0.5}) == "gru, dropout 0.5"
