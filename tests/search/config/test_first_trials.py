from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from celltune.models.config import ModelConfig
from celltune.search.config.loading import dump_config, parse_config
from celltune.search.config.space import is_active, model_and_training
from celltune.search.errors import ConfigError
from celltune.search.runs.session import checked_config
from tests.search.simulated_search import RAW, make_config

WIDE = {"source": "synthetic", "reviews": 40, "wide": True}
"""Data with a wide part."""


def errors_of(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError, match="The config has") as caught:
        make_config(**changes)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_first_trials_are_kept_as_they_are_written() -> None:
    raw = [{"wide": "only"}, {"hidden_size": 500, "learning_rate": 1}, {"embedding_size": 16}]
    config = make_config(first_trials=raw, data=WIDE)
    assert list(config.first_trials) == raw
    assert type(config.first_trials[1]["learning_rate"]) is float
    plain = yaml.safe_load(dump_config(config))
    assert plain["first_trials"] == raw
    assert parse_config(plain) == config
    assert make_config().first_trials == ()


def test_all_problems_of_first_trials_are_reported_at_once() -> None:
    lines = errors_of(
        data=WIDE,
        first_trials=[
            {"wide": "only"},
            {"wide": "only"},
            {"hiden_size": 3},
            {"hidden_size": 0, "cell": "gruu"},
            {},
            3,
            {"wide": "only", "dropout": 0.2},
            {"dropout": [0.1]},
        ],
    )
    starts = (
        "first_trials.1 is an earlier one again: {wide: only} is one model. Remove it.",
        "first_trials.2.hiden_size is not a hyperparameter. Did you mean 'hidden_size'?",
        "first_trials.3.hidden_size is 0. It must be at least 1.",
        "first_trials.3.cell: 'gruu' is not a cell. Did you mean 'gru'?",
        "first_trials.4 is empty. Give at least one value, or remove it.",
        "first_trials.5 is 3. It must map hyperparameters to values.",
        "first_trials.6.dropout has no effect, because wide is 'only'. Remove it.",
        "first_trials.7.dropout must be a single value.",
    )
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"first_trials": 3},
            "first_trials is 3. It must be a list of mappings of hyperparameters to values.",
        ),
        (
            {"space": {"wide": ["add", "only"], "cell": "gru"}, "data": WIDE},
            "space.wide contains 'only', which is a single model, so there is nothing to search. "
            "Remove it from the choice and set first_trials to [{wide: only}].",
        ),
        (
            {"space": {"wide": "only"}, "first_trials": [{"wide": "add"}], "data": WIDE},
            "first_trials.0.cell is missing. The space has no cell, so a first trial needs one.",
        ),
        (
            {"first_trials": [{"wide": "add"}]},
            "space.wide or first_trials contain 'add', but data.wide is not set, so there is no "
            "wide part. Set data.wide to true.",
        ),
        (
            {"data": WIDE},
            "data.wide is set, but no trial uses the wide part. Set space.wide to add, set "
            "first_trials to [{wide: only}], or remove data.wide.",
        ),
        (
            {"space": {"wide": "only"}, "data": WIDE},
            "budget.trials is 12, but space.wide is 'only', so all trials are the same model. Set "
            "budget.trials to 1, or space.wide to add.",
        ),
        (
            {
                "space": {"wide": "only"},
                "first_trials": [{"wide": "only"}, {"wide": "none", "cell": "gru"}],
                "data": WIDE,
            },
            "budget.trials is 12, but space.wide is 'only', so all trials after first_trials are "
            "the same model. Set budget.trials to 2, or space.wide to add.",
        ),
        (
            {"data": {**WIDE, "wide": "maybe"}},
            "data.wide is 'maybe'. It must be true, false, or a mapping of its settings.",
        ),
    ],
)
def test_contradictions_are_rejected(changes: dict[str, Any], expected: str) -> None:
    assert errors_of(**changes) == [expected]


def test_the_wide_part_alone_has_no_other_hyperparameters() -> None:
    space = {**RAW["space"], "wide": "only"}
    config = make_config(space=space, data=WIDE, budget={"trials": 1, "max_epochs": 4})
    assert config.space.suggest(None) == {"wide": "only"}  # type: ignore[arg-type]
    assert not is_active("layer_dropout", {"wide": "only"})
    assert model_and_training({"wide": "only"})[0] == ModelConfig(wide="only")
    assert list(config.space.largest()) == []
    assert config.values("wide") == ("only",)


def test_a_space_contains_its_points_only() -> None:
    space = make_config().space
    point = {
        "cell": "gru",
        "hidden_size": 8,
        "num_layers": 2,
        "layer_dropout": 0.1,
        "learning_rate": 0.01,
        "embedding_size": 8,
    }
    assert space.contains(point)
    assert not space.contains({**point, "hidden_size": 65})
    assert not space.contains({**point, "cell": "mgu"})
    assert not space.contains({**point, "embedding_size": 9})
    assert not space.contains({**point, "weight_decay": 0.1})
    assert not space.contains({**point, "num_layers": 1}), "layer_dropout is not active then"
    assert not space.contains({name: point[name] for name in point if name != "cell"})
    assert [space.allows("num_layers", value) for value in (1, 3, True)] == [True, False, False]
    assert [space.allows("embedding_size", value) for value in (8, 9)] == [True, False]
    assert not space.allows("weight_decay", 0.0)


@pytest.mark.parametrize(
    ("space", "first", "message"),
    [
        ({"decay_epochs": [4, 2], "warmup_epochs": 2.5}, [], "space allows decay_epochs 2 with"),
        (
            {"warmup_epochs": {"low": 0.0, "high": 2.0}},
            [{"decay_epochs": 2}],
            "first_trials.0 allows decay_epochs 2 with warmup_epochs 2, so that",
        ),
    ],
)
def test_a_schedule_that_falls_before_it_has_risen_is_rejected(
    space: dict[str, Any], first: list[Any], message: str
) -> None:
    config = make_config(space={**RAW["space"], **space}, first_trials=first)
    with pytest.raises(ConfigError, match=re.escape(message)):
        checked_config(config)


def test_class_weights_are_given_as_lists_and_mappings() -> None:
    def weights(written: Any) -> Any:
        return make_config(space={"cell": "gru", "class_weights": written}).space

    assert weights([1, 9]).fixed["class_weights"] == "[1, 9]"
    assert weights({"positive": 9}).fixed["class_weights"] == '{"positive": 9}'
    several = weights(["none", "balanced", [1, 9], {"positive": 3}])
    assert several.values("class_weights") == ("none", "balanced", "[1, 9]", '{"positive": 3}')
    assert weights(several.to_yaml()["class_weights"]) == several
    config = make_config(first_trials=[{"cell": "gru", "class_weights": [1, 9]}])
    assert config.first_trials[0]["class_weights"] == "[1, 9]"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([1, -9], "class_weights contains -9. A weight is a number from"),
        ({"positive": "x"}, "class_weights contains 'x'. A weight is a number from"),
        (["none", [1, 0]], "class_weights.1 contains 0. A weight is a number from"),
        (["none", "even"], "class_weights.1 is 'even'. It must be none, balanced, a list of"),
    ],
)
def test_invalid_class_weights_are_located(written: Any, expected: str) -> None:
    text = "\n".join(errors_of(space={"cell": "gru", "class_weights": written}))
    assert f"space.{expected}" in text
