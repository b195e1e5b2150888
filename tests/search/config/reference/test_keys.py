"""The description of each key."""

from __future__ import annotations

import pytest

from celltune.search.config.reference.keys import Key, config_keys, find_key
from celltune.search.errors import ConfigError


@pytest.fixture(scope="module")
def keys() -> dict[str, Key]:
    return config_keys()


@pytest.mark.parametrize(
    ("path", "kind", "default"),
    [
        ("name", "text", None),
        ("seed", "a whole number of at least 0 and below 4,294,967,296", "1"),
        ("metric", "one of the names", "valid_accuracy"),
        ("budget.time", "a number above 0, a text such as 90s, or null", "null"),
        ("budget", "a section", "its defaults"),
        ("data.classes", "a list of texts or null", "null"),
        ("data.wide.penalties", "a list of numbers", "[3, 10, 30, 100, 300]"),
        ("data.vectors.train", "one of the names or null", "null"),
        ("data.keep", "one of the names", "head"),
        ("space.hidden_size", "a whole number of at least 1 and at most 65,536", "64"),
        ("space.cell", "one of the names or null", "null"),
        ("early_stopping", "a section", "its defaults"),
        ("early_stopping.rule", "one of the names", "asha"),
        ("tracking.tensorboard", "true or false or text", "false"),
    ],
)
def test_a_key_has_a_type_and_a_default(
    keys: dict[str, Key], path: str, kind: str, default: str | None
) -> None:
    assert (keys[path].kind, keys[path].default) == (kind, default)


def test_keys_know_when_they_are_read_and_who_may_set_them(keys: dict[str, Key]) -> None:
    assert keys["early_stopping.grace_period"].condition == "with early_stopping.rule asha"
    assert keys["early_stopping.by"].condition == ""
    assert keys["data.reviews"].condition == "with data.source synthetic"
    assert keys["data.max_tokens"].changeable
    assert not keys["space.cell"].changeable
    assert [key.path for key in keys.values() if key.required and key.section != "published"] == [
        "name",
        "data",
        *(["data.source"] if keys["data.source"].required else []),
        "space",
    ]
    assert all(key.help and "\n" not in key.help for key in keys.values())


def test_values_that_can_be_proposed(keys: dict[str, Key]) -> None:
    assert keys["data.keep"].values == ("head", "tail", "both")
    assert keys["baselines"].values == ("true", "false")
    assert keys["data.max_tokens"].values == ("256",)
    assert keys["name"].values == ()
    assert keys["data"].values == ()
    assert keys["name"].summary.startswith("Name of the experiment and of its folder: letters,")


def test_a_section_with_the_keys_of_another_one_lists_them_once(keys: dict[str, Key]) -> None:
    assert keys["published.stand_in"].same_as == "data"
    assert not any(path.startswith("published.stand_in.") for path in keys)
    assert find_key("published.stand_in.path", keys) is keys["data.path"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("data.max_token", "Did you mean 'data.max_tokens'?"),
        ("max_tokens", "Did you mean 'data.max_tokens'?"),
        ("early_stopping.grace", "Allowed: rule, by, grace_period, reduction_factor."),
        ("spce.cell", "Did you mean 'space.cell'?"),
        ("sed", "Did you mean 'seed'?"),
        ("qqq", "Allowed: name, seed, metric, "),
        ("x" * 10_000, "Allowed: name, seed, metric, "),
    ],
)
def test_an_unknown_key_gets_the_most_similar_one(
    keys: dict[str, Key], path: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match="is not a key of a config") as caught:
        find_key(path, keys)
    assert hint in str(caught.value)
