"""Configurations of a space: their number, and what distinguishes them."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.search.config.configurations import GRID, Configurations, configuration_of
from celltune.search.config.space import Space
from celltune.search.config.space_parsing import parse_space
from celltune.search.tuning.study_mirror import StudyMirror

LAYERS = {"low": 1, "high": 3}
FINITE: list[dict[str, Any]] = [
    {"cell": "gru"},
    {"cell": ["gru", "lstm"]},
    {"cell": ["gru", "lstm"], "bidirectional": [True, False], "hidden_size": [8, 16, 32]},
    {"cell": "gru", "hidden_size": {"low": 4, "high": 9, "log": True}},
    {"cell": "gru", "dropout": {"low": 0.0, "high": 0.3, "step": 0.1}},
    {"cell": "gru", "dropout": {"low": 0.1, "high": 0.7, "step": 0.2}},
    {"cell": "gru", "num_layers": LAYERS, "layer_dropout": [0.0, 0.5]},
    {
        "cell": "gru",
        "num_layers": [1, 2],
        "layer_dropout": [0.0, 0.5],
        "output_relu": [True, False],
    },
    {"cell": "gru", "num_layers": 1, "layer_dropout": [0.0, 0.5]},
    {"cell": "gru", "num_layers": 2, "layer_dropout": [0.0, 0.5]},
    {"cell": "gru", "batch_size": {"low": 8, "high": 32, "step": 8}},
]
SIZES = [1, 2, 12, 6, 4, 4, 5, 6, 1, 2, 4]


@pytest.mark.parametrize(("raw", "size"), list(zip(FINITE, SIZES, strict=True)))
def test_every_configuration_has_one_number(raw: dict[str, Any], size: int) -> None:
    space = parse_space(raw)
    configurations = Configurations(space)
    assert configurations.finite == configurations.total == size
    found = {configuration_of(space, configurations.at(number)) for number in range(size)}
    assert len(found) == size
    assert None not in found
    with pytest.raises(IndexError, match="no configuration with this number"):
        configurations.at(size)


@pytest.mark.parametrize("raw", FINITE)
def test_proposals_of_optuna_are_among_them(raw: dict[str, Any]) -> None:
    space = parse_space(raw)
    configurations = Configurations(space)
    numbered = {
        configuration_of(space, configurations.at(number)) for number in range(configurations.total)
    }
    mirror = StudyMirror(space, "valid_loss", (), optuna.samplers.RandomSampler)
    proposed = {configuration_of(space, mirror.ask(number)) for number in range(60)}
    assert proposed <= numbered
    assert len(proposed) > len(numbered) / 2


RANGES: dict[str, Any] = {
    "cell": ["gru", "lstm"],
    "num_layers": [1, 2],
    "layer_dropout": {"low": 0.0, "high": 0.5},
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
}


def test_continuous_ranges_have_no_number_of_configurations() -> None:
    space = parse_space(RANGES)
    assert Configurations(space).finite is None
    assert Configurations(space).total == 2 * (GRID + GRID * GRID)
    for fixed, size in (
        ({"learning_rate": 0.1, "num_layers": 1}, 2),
        ({"learning_rate": 0.1}, None),
    ):
        assert Configurations(space, fixed).finite == size


@settings(max_examples=60)
@given(st.integers(0, 2 * (GRID + GRID * GRID) - 1))
def test_configurations_of_continuous_ranges_lie_within_them(number: int) -> None:
    space = parse_space(RANGES)
    params = Configurations(space).at(number)
    assert space.contains(params)
    assert configuration_of(space, params) is not None


def test_given_values_leave_the_other_configurations() -> None:
    space = parse_space(FINITE[6])
    assert Configurations(space, {"num_layers": 1}).total == 1
    assert Configurations(space, {"num_layers": 1, "layer_dropout": 0.5}).total == 1
    assert Configurations(space, {"layer_dropout": 0.5}).total == 3
    assert Configurations(space, {"num_layers": 9}).at(1) == {
        "cell": "gru",
        "num_layers": 9,
        "layer_dropout": 0.5,
    }


def test_a_trial_outside_of_the_space_is_no_configuration() -> None:
    space = parse_space(FINITE[3])
    assert configuration_of(space, {"cell": "gru", "hidden_size": 4}) == (("hidden_size", 0),)
    for outside in ({"cell": "gru", "hidden_size": 40}, {"cell": "gru"}, {"hidden_size": 4}):
        assert configuration_of(space, outside) is None


def test_a_range_that_is_no_multiple_of_its_step_ends_below_its_bound() -> None:
    space = parse_space({"cell": "gru", "batch_size": {"low": 8, "high": 30, "step": 8}})
    assert [Configurations(space).at(number)["batch_size"] for number in range(3)] == [8, 16, 24]
    assert Configurations(space).finite == 3


def test_true_and_one_are_different_choices() -> None:
    space = Space({"cell": "gru"}, parse_space({"cell": "gru", "dropout": [0.0, 0.5]}).searched)
    assert configuration_of(space, {"cell": "gru", "dropout": False}) is None


def test_numbers_of_layers_beyond_counting_make_no_finite_space() -> None:
    space = parse_space({"cell": "gru", "num_layers": {"low": 1, "high": 10**9}})
    assert Configurations(space).finite is None
    assert Configurations(space).total == 1_000
